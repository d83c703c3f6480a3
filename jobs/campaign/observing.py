"""How a trajectory is observed: the parameters of the observe stage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE

ANGLE_CUTOFFS = REFERENCE / "angle_cutoffs.yml"


def observe_parameters(observables: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters, of which a tier may give some (`observables` of a run)."""
    return {
        "skip_fraction": 0.0,
        "blocks": 8,
        "dynamics_max_fs": 1000.0,
        "structure_factor": False,
        "stretch": 1.0,
        "rdf_bin_angstrom": 0.02,
        "angle_bin_degree": 1.0,
        "angle_cutoffs_angstrom": angle_cutoffs_angstrom(),
        **observables,
    }


@cache
def angle_cutoffs_angstrom() -> dict[str, float]:
    """Neighbour cut-offs per pair for angles: AIMD's first minima, recorded once, used for all potentials."""
    content: dict[str, dict[str, float]] = parse_yaml(ANGLE_CUTOFFS.read_text())
    return content["cutoffs_angstrom"]
