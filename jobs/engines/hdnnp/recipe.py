"""How this suite trains a symmetry-function potential: what reference/paper.yml says was chosen."""

from __future__ import annotations

from typing import Any

# The paper says nothing of it: gaps symmetry-functions, symmetry-cutoff, symmetry-network and kalman-filter.
RECIPE: dict[str, Any] = {
    "functions": {
        "radial_eta_per_bohr2": [0.0009, 0.01, 0.02, 0.035, 0.06, 0.1, 0.2, 0.4],
        "angular_eta_per_bohr2": [0.0001, 0.008, 0.025],
        "zeta": [1, 2, 4],
        "lambda": [1, -1],
    },
    "cutoff_angstrom": 6.0,
    "nodes": [15, 15],
    "frames_per_update": 12,
    "forces_per_update": 128,
    "energy_weight": 30.0,
    "epsilon": 0.01,
    "eta": [0.01, 1.0],
    "q": [0.01, 1.0e-6],
}
