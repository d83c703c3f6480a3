"""LAMMPS: input, runs, time of a step, and the kernel that runs a network's MD."""
