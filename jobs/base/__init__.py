"""What everything rests on: errors, files, paths, units, atoms, frames, trajectories and this machine."""
