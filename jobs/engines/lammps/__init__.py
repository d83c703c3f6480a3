"""LAMMPS: input, runs, time of a step, and the kernel that runs an NNP's MD."""
