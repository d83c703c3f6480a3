"""First-principles data, and datasets of them."""
