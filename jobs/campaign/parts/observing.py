"""How a trajectory is observed: the parameters of the observe stage."""

from __future__ import annotations

from functools import cache
from typing import Any

from jobs.base.files import parse_yaml
from jobs.base.paths import REFERENCE
from jobs.campaign.sections import Observables

ANGLE_CUTOFFS = REFERENCE / "angle_cutoffs.yml"


def observe_parameters(observables: Observables | None = None) -> dict[str, Any]:
    """All parameters: of a run of a tier, or of what no run says otherwise."""
    return {
        "rdf_bin_angstrom": 0.02,
        "angle_bin_degree": 1.0,
        "angle_cutoffs_angstrom": angle_cutoffs_angstrom(),
        **(observables or Observables()).model_dump(),
    }


@cache
def angle_cutoffs_angstrom() -> dict[str, float]:
    """Neighbour cut-offs per pair for angles: AIMD's first minima, recorded once, used for all potentials."""
    content: dict[str, dict[str, float]] = parse_yaml(ANGLE_CUTOFFS.read_text())
    return content["cutoffs_angstrom"]
