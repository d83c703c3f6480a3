"""Reference data: the paper's numbers, deposited first-principles data, potentials and trajectories."""
