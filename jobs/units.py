"""Constants in the units of this project (eV, A, fs, amu, K), CODATA 2018."""

BOLTZMANN_EV_K = 8.617333262e-5
EV_PER_AMU_A2_FS2 = 103.6426966
"""Energy of 1 amu A2/fs2 in eV."""
EV_A3_PER_BAR = 1e-25 / 1.602176634e-19
"""Energy of a pressure of 1 bar on 1 A3, in eV."""
HARTREE_EV = 27.211386245988
BOHR_ANGSTROM = 0.529177210903
ATOMIC_TIME_FS = 2.4188843265857e-2
FS_PER_PS = 1000.0
