"""First-principles programs behind one interface: CP2K, Quantum ESPRESSO, VASP."""
