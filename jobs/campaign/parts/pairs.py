"""The paired comparison: which MD starts from frames of the AIMD references, and how it is observed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.campaign.parts.observing import angle_cutoffs_angstrom, observe_parameters
from jobs.campaign.parts.references import SIZES, References
from jobs.campaign.sections import NNPS
from jobs.campaign.tier import DISPLAY_NAMES, Tier
from jobs.reference.potentials import deposited_model, imported_potential
from jobs.reference.sets import READ_REFERENCES, find_set, has_velocities
from jobs.reference.trajectories import ThinTrajectory
from jobs.stages.motion.paired import FAULTS
from jobs.store.stage import Stage

# The blocks of a pair are its two halves. Error bars come from pairs, not from stretches of one pair.
BLOCKS = 2
LEAST_STEPS = 24  # lags to five sixths of a run, and origins for both halves
# Planted faults: of a run (`jobs.stages.motion.paired.FAULTS`), of the training, of how runs are observed.
FAULTY_SIZE = 96
FAULTY_RUNS = tuple(name for name in FAULTS if name != "none")
OVERFITTED = "overfitted-96"
FAULTY_OBSERVATIONS: Mapping[str, Mapping[str, Any]] = {
    "stretch": {"stretch": 1.02},
    # The Si-O cut-off inside the first shell, which ends at 2.0 A.
    "cut-off": {"angle_cutoffs_angstrom": {**angle_cutoffs_angstrom(), "Si-O": 1.75}},
}
PAIRED_LABELS = (
    *(f"paired-{size}-{who}" for size in SIZES for who in ("aimd", "nnp", "other", "bks")),
    *(f"paired-{FAULTY_SIZE}-{what}" for what in (*FAULTY_RUNS, "overfitted", *FAULTY_OBSERVATIONS)),
)
"""`nnp` is the NNP of that size, `other` the other one of the two."""


@dataclass(frozen=True)
class Pairs:
    """One side of a comparison: `runs` are MD (none of AIMD), `observed` sees all of them."""

    runs: tuple[Stage, ...]
    observed: Stage

    def of_given(self, given: Mapping[str, ThinTrajectory]) -> Stage:
        """The observation of deposited trajectories in place of new runs."""
        if not self.runs:
            return self.observed
        thin = [given[run.label] for run in self.runs]
        files = {"file": [str(one.path) for one in thin], "sha256": [one.sha256 for one in thin]}
        return replace(self.observed, parameters={**self.observed.parameters, **files}, inputs={})


def plan_pairs(
    about: Tier,
    given: References,
    potential: Callable[[str], Sequence[Stage]],
    priced: Callable[[Stage], Stage],
) -> dict[str, Pairs]:
    """The sides by product, each with its runs in the order of the AIMD runs that they start from.

    A run starts after the AIMD's unequilibrated frames. During those the bonds of the potential that made the
    start change to PBE's, and an NNP that has PBE's bonds from the beginning would seem wrong. `potential`
    gives the trainings of one of the NNPs; runs take them in turn. `priced` gives a run its estimate.
    """
    found: dict[str, Pairs] = {}
    for size in SIZES:
        frames = [
            parameters
            for label in READ_REFERENCES
            if label.startswith(f"reference-{size}-")
            for stage in given.labels.get(label, [])
            if (parameters := _parameters(about, stage.parameters["reference"])) is not None
        ]
        if not frames:
            continue
        place = about.place
        aimd = f"paired-{size}-aimd"
        runs = [{"reference": frame["reference"], "skip_frames": frame["first_frame"]} for frame in frames]
        found[aimd] = Pairs((), _observe(aimd, {"references": runs, **place}, ()))
        own, other = NNPS if size == 96 else reversed(NNPS)

        def side(
            who: str, mover: str, starts: Sequence[Mapping[str, Any]] = frames, size: int = size
        ) -> None:
            label = f"paired-{size}-{who}"
            runs = tuple(
                priced(_run(start, label, number, mover, potential, kernel=about.kernel))
                for number, start in enumerate(starts, start=1)
            )
            found[label] = Pairs(runs, _observe(label, {}, runs))

        side("nnp", own)
        side("other", other)
        side("bks", "bks")
        if size != FAULTY_SIZE:
            continue
        for fault in FAULTY_RUNS:
            side(fault, own, [{**frame, "fault": fault} for frame in frames])
        side("overfitted", OVERFITTED)
        honest = found[f"paired-{size}-nnp"].runs
        for fault, changes in FAULTY_OBSERVATIONS.items():
            label = f"paired-{size}-{fault}"
            found[label] = Pairs(honest, _observe(label, changes, honest))
    return found


def _parameters(about: Tier, reference: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters of the MD side of a run; None where the AIMD is too short, thinned or without velocities."""
    deposited = find_set(reference["set"], about.place)
    run = deposited.run(reference["run"])
    first = run.unequilibrated_frames
    steps = run.frames - 1 - first
    if steps < LEAST_STEPS or deposited.facts["steps_between_frames"] != 1:
        return None
    if not has_velocities(deposited, run.id):
        return None
    csvr = re.fullmatch(r"CSVR ([\d.]+) fs", str(deposited.facts["thermostat"]))
    return {
        "reference": dict(reference),
        "first_frame": first,
        "steps": steps,
        "timestep_fs": float(deposited.facts["timestep_fs"]),
        "temperature_K": run.temperatures_K[0],
        "thermostatted": deposited.facts["thermostat"] != "none",
        "damping_fs": float(csvr[1]) if csvr else None,
        **about.place,
    }


def _run(
    parameters: Mapping[str, Any],
    label: str,
    number: int,
    mover: str,
    potential: Callable[[str], Sequence[Stage]],
    *,
    kernel: str | None,
) -> Stage:
    inputs: dict[str, Stage] = {}
    given = dict(parameters)
    if mover in NNPS:
        trainings = potential(mover)
        inputs["potential"] = trainings[(number - 1) % len(trainings)]
    elif mover == OVERFITTED:
        inputs["potential"] = imported_potential(deposited_model(mover)[0], DISPLAY_NAMES[NNPS[0]])
    else:
        given["potential"] = mover
    return Stage(
        "paired",
        f"{label} #{number}",
        given,
        seed=number,
        inputs=inputs,
        wanted_kernel=kernel,
    )


def _observe(label: str, changes: Mapping[str, Any], runs: Sequence[Stage]) -> Stage:
    return Stage(
        "observe_pairs",
        f"observe {label}",
        {**observe_parameters(), "blocks": BLOCKS, **changes},
        inputs={f"run-{number:03d}": run for number, run in enumerate(runs, start=1)},
        core_seconds=0.3 + 0.03 * max(len(runs), len(changes.get("references", []))),
    )
