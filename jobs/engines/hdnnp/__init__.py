"""High-dimensional neural network potentials (Behler and Parrinello), trained and written as n2p2 does.

Inside this package lengths are bohr and energies hartree, as in n2p2's files (n2p2 leaves units open, CP2K
takes these); what takes or gives angstrom and eV says so in its names.
"""
