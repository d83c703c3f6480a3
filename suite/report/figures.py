"""Every figure of the report, in the paper's order."""

from __future__ import annotations

from suite.judging.evidence import Evidence
from suite.report.accuracy_figures import learning_curve, parity, training
from suite.report.cost_figure import cost
from suite.report.paper_figures import (
    SIZES,
    angle_distributions,
    displacements,
    glass,
    paired,
    radial_distributions,
    velocities,
)
from suite.report.plotting import Drawing


def draw_all(evidence: Evidence) -> list[Drawing]:
    """All of them; one without data has no panels but says why."""
    return [
        *(radial_distributions(evidence, size) for size in SIZES),
        *(angle_distributions(evidence, size) for size in SIZES),
        *(paired(evidence, size) for size in SIZES),
        glass(evidence),
        velocities(evidence),
        displacements(evidence),
        parity(evidence),
        training(evidence),
        learning_curve(evidence),
        cost(evidence),
    ]
