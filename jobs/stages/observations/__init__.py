"""What is observed of trajectories."""
