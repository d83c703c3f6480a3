"""Pair styles of our own for LAMMPS, compiled where they run (docs/fast-md.md)."""
