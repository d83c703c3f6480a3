"""What all other packages use: errors, files, paths, units, atoms, frames, trajectories, this machine."""
