"""Commands that run a tier: run, status, cancel, make."""
