"""From a tier file to stages: which stages make each product that a claim may read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256
from jobs.base.machine import available_cores
from jobs.campaign.deviations import deviations, short_training
from jobs.campaign.parts.accuracy import add_kernels, add_learning_curve, add_parity
from jobs.campaign.parts.observing import angle_cutoffs_angstrom, observe_parameters
from jobs.campaign.parts.pairs import PAIRED_LABELS, plan_pairs
from jobs.campaign.parts.potentials import Potentials
from jobs.campaign.parts.references import References, plan_references
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import (
    HDNNP,
    NNPS,
    Again,
    Moving,
    Quenched,
    Run,
    Scheduled,
)
from jobs.campaign.tier import Tier, read_tier
from jobs.cost.estimates import md_core_seconds, production_steps
from jobs.cost.plan import cost_stage, tier_plan
from jobs.cost.record import CLASSICAL, judging_record
from jobs.cost.record import HDNNP as COST_HDNNP
from jobs.engines.first_principles.registry import load_engine, named_settings
from jobs.engines.lammps.program import DAMPING_FS
from jobs.reference.potentials import potential_sha256
from jobs.reference.trajectories import PAIRED, ThinTrajectory, thin_trajectories
from jobs.store.stage import Stage


def build_campaign(
    tier: str,
    *,
    start_from: str | None = None,
    potential: Path | None = None,
    engine: str | None = None,
    kernel_of: Callable[[Stage], str | None] = lambda md: None,
) -> Campaign:
    """Plan a tier without running anything.

    `start_from` overrides the tier's own start; `potential` puts a user's potential in the place of
    both of the paper's; `engine` computes first-principles data in the place of the tier's own, with that
    engine's default settings. `kernel_of` says what will run the NNP of an MD stage elsewhere (None: what
    does here); only estimates use it.

    Raises:
        SuiteError: unknown tier or engine, a tier that names what does not exist, or nothing deposited to
            start from.
    """
    about = own = read_tier(tier)
    if engine is not None:
        about = _with_engine(about, engine)
    start = start_from or about.start_from
    if engine is not None and start != "nothing":
        raise SuiteError(
            f"--engine {engine}: found a start from {start}, expected --start-from nothing: only there is "
            "anything computed from first principles"
        )
    if potential is not None and start == "trajectories":
        raise SuiteError(
            f"--potential {potential}: found --start-from trajectories, which the deposited potentials made, "
            "expected --start-from potentials"
        )
    name = [about.name]
    if start != about.start_from:
        name.append(start)
    if start == "nothing" and about is not own and engine is not None:
        name.append(engine)
    if potential is not None:
        name += [potential.stem, potential_sha256(potential)[:6]]
    campaign = Campaign(about.name, start, about, "-".join(name))
    return _Builder(campaign, potential, kernel_of).build()


def _with_engine(about: Tier, engine: str) -> Tier:
    """A tier's content with another first-principles engine; unchanged if it is the tier's own."""
    load_engine(engine)
    if about.aimd is None or engine == about.aimd.engine:
        return about
    aimd = about.aimd.model_copy(update={"engine": engine, "settings": named_settings(engine, "default")})
    return about.model_copy(update={"aimd": aimd})


class _Builder:
    """Turns one tier file into stages; each method adds one kind of them."""

    def __init__(
        self, campaign: Campaign, user_potential: Path | None, kernel_of: Callable[[Stage], str | None]
    ) -> None:
        self.campaign = campaign
        self.kernel_of = kernel_of
        self.about = campaign.about
        self.user_potential = user_potential
        self.potentials = Potentials(campaign, user_potential)
        self.runs = campaign.runs
        self.given: dict[str, ThinTrajectory] | None = None  # trajectories, where these are given
        self.given_pairs: dict[str, ThinTrajectory] = {}
        self.instead: list[str] = []  # deviations: what is deposited in place of what was planned
        if campaign.start_from == "trajectories":
            self.given = thin_trajectories(campaign.tier)

    def build(self) -> Campaign:
        for label, run in self.about.runs.items():
            self._run(label, run)
        self._faster_glasses()
        self.potentials.add()
        add_parity(self.campaign, self.potentials)
        self.potentials.add_samplers()
        add_kernels(self.campaign, self.potentials, md_runs=self.given is None)
        add_learning_curve(self.campaign, self.potentials)
        references = plan_references(self.about)
        self.campaign.labels |= references.labels
        self.campaign.unavailable |= references.unavailable
        self._paired(references)
        self._cost()
        self.campaign.deviations.extend(self._deviations(reference_levels=sorted(references.levels)))
        self.campaign.deviations.extend(self.instead)
        if self.user_potential is None:
            self.campaign.short_training = short_training(self.campaign)
        if self.given is not None:
            self.runs.clear()  # planned only to be compared with what is given
        return self.campaign

    # -- potentials -----------------------------------------------------------------------------

    def _deviations(self, *, reference_levels: list[tuple[str, ...]]) -> Iterator[str]:
        return deviations(
            self.campaign,
            self.potentials.protocol,
            frames={} if self.potentials.rebuilt else {nnp: self.potentials.frames(nnp) for nnp in NNPS},
            datasets={nnp: self.potentials.dataset(nnp).name for nnp in NNPS},
            reference_levels=reference_levels,
            given=self.given or {},
            given_pairs=self.given_pairs,
            user_potential=self.user_potential,
        )

    # -- trajectories ---------------------------------------------------------------------------

    def _run(self, label: str, run: Run) -> None:
        if self._is_replaced(run):
            self.campaign.unavailable[label] = self.potentials.judged_instead
            return
        if isinstance(run, Again):
            if run.again not in self.runs:
                raise self._wrong_start(label, run.again)
            stages, observe = self.runs[run.again], True
        else:
            self._check_starts(label, run)
            stages = [self._replica(label, run, replica) for replica in range(run.replicas)]
            observe = run.observe
        self.runs[label] = stages
        if not observe:
            return
        if self.given is not None:
            lacks = [self._not_given([stage], self.given) for stage in stages]
            there = [stage for stage, why in zip(stages, lacks, strict=True) if why is None]
            if not there and lacks[0] is not None:
                self.campaign.unavailable[label] = lacks[0]
                return
            if len(there) < len(stages):
                self.instead.append(f"{label}: {len(there)} of {len(stages)} runs are deposited")
            stages = there
        self.campaign.labels[label] = [self._observed(label, stage, run) for stage in stages]

    def _is_replaced(self, run: Run) -> bool:
        """Whether a run is HDNNP-96's, or follows such a run, and a user's potential is judged instead."""
        if isinstance(run, Moving) and run.potential == HDNNP and self.user_potential is not None:
            return True
        source = run.again if isinstance(run, Again) else run.start
        return self.campaign.unavailable.get(source) == self.potentials.judged_instead

    def _faster_glasses(self) -> None:
        """A faster quench (`glass-96@1e13`) stands in for a glass of which no trajectory is deposited."""
        runs, labels = self.about.runs, self.campaign.labels
        for label in [label for label in self.campaign.unavailable if label in runs]:
            run = runs[label]
            glass = run.again if isinstance(run, Again) else label
            faster = {
                other.quench.rate_K_per_s: name
                for name, other in runs.items()
                if isinstance(other, Quenched) and name.startswith(f"{glass}@") and name in labels
            }
            if faster:
                slowest = faster[min(faster)]
                del self.campaign.unavailable[label]
                labels[label] = labels[slowest]
                self.instead.append(f"{label}: {slowest} stands in, no slower quench is deposited")

    def _wrong_start(self, label: str, start: str) -> SuiteError:
        return SuiteError(
            f"tier {self.campaign.tier}: run {label} starts from {start}, expected melt or a run above"
        )

    def _check_starts(self, label: str, run: Moving) -> None:
        """Refuse a run without a start for each replica."""
        melts = run.start == "melt"
        if melts and run.atoms is None:
            raise SuiteError(
                f"tier {self.campaign.tier}: run {label}: found no atoms, expected their number for a start "
                "from the melt"
            )
        if not melts and run.start not in self.runs:
            raise self._wrong_start(label, run.start)
        starts = self.about.melt.configurations if melts else len(self.runs[run.start])
        if run.replicas > starts and not (melts and run.share_melts):
            shared = "; with share_melts: true they share a melt, with other velocities" if melts else ""
            raise SuiteError(
                f"tier {self.campaign.tier}: run {label} has {run.replicas} replicas, expected at most the "
                f"{starts} of {run.start}: two from one start would not be independent{shared}"
            )

    def _not_given(self, stages: Sequence[Stage], given: Mapping[str, ThinTrajectory]) -> str | None:
        """Why runs cannot be observed, where trajectories are given."""
        for stage in stages:
            if stage.label not in given:
                return f"no trajectory of {stage.label} is deposited for tier {self.campaign.tier}"
            if other := given[stage.label].other_protocol(stage):
                return f"the deposited trajectories are of another protocol: {other}"
        return None

    def _replica(self, label: str, run: Moving, replica: int) -> Stage:
        name, configuration = run.potential, 0
        if run.atoms is not None and run.start == "melt":
            start, atoms = self.potentials.melt(run.atoms), run.atoms
            configuration = replica % self.about.melt.configurations
        else:
            start = self.runs[run.start][replica % len(self.runs[run.start])]
            atoms = start.parameters["n_atoms"]
        atoms *= math.prod(run.replicate)
        inputs = {"start": start}
        parameters: dict[str, Any] = {
            "n_atoms": atoms,
            "configuration": configuration,
            "density_g_cm3": run.density_g_cm3 or self.about.density_g_cm3,
            "damping_fs": DAMPING_FS,
            "replicate": run.replicate,
            "ranks": run.ranks,
            "dump_every": run.dump_every,
            "thermo_every": run.thermo_every,
            "checkpoint_every": run.checkpoint_every,
        }
        if name in CLASSICAL:
            parameters["potential"] = name
        else:
            options = self.potentials.of(name)
            inputs["potential"] = options[replica % len(options)]
        if isinstance(run, Quenched):
            kind, quench = "quench", run.quench
            cutoff = angle_cutoffs_angstrom()["Si-O"]
            parameters |= {**quench.model_dump(), "coordination_cutoff_angstrom": cutoff}
        else:
            assert isinstance(run, Scheduled)
            kind = "md"
            parameters |= {
                "timestep_fs": run.timestep_fs,
                "ensemble": run.ensemble,
                "thermostat": run.thermostat,
                "schedule": [{"temperature_K": float(kelvin), "steps": n} for kelvin, n in run.schedule],
            }
        stage = Stage(
            kind,
            f"{label} #{replica + 1}",
            parameters,
            seed=replica + 1,
            inputs=inputs,
            cores=parameters["ranks"],
            wanted_kernel=self.about.kernel if name in NNPS else None,
        )
        return self._priced(stage)

    def _priced(self, md: Stage) -> Stage:
        """An MD stage with its estimate."""
        return replace(md, core_seconds=md_core_seconds(md, kernel=self.kernel_of(md)))

    # -- observations ---------------------------------------------------------------------------

    def _observed(self, label: str, stage: Stage, run: Run) -> Stage:
        frames = production_steps(stage) / stage.parameters["dump_every"]
        cost = 1 + 2.5e-6 * frames * stage.parameters["n_atoms"]
        observed = Stage(
            "observe",
            f"observe {label} ({stage.label})" if isinstance(run, Again) else f"observe {stage.label}",
            observe_parameters(run.observables),
            inputs={"trajectory": stage},
            core_seconds=cost,
        )
        return observed if self.given is None else _of_given(observed, self.given[stage.label])

    def _paired(self, references: References) -> None:
        """MD from frames of the AIMD references, and that AIMD from the same frames on."""
        if not self.about.paired:
            reason = f"the {self.campaign.tier} tier starts no MD from frames of AIMD"
            self.campaign.unavailable |= dict.fromkeys(PAIRED_LABELS, reason)
            return
        given = None if self.given is None else thin_trajectories(PAIRED, needed=False)
        self.given_pairs = given or {}
        pairs_by_label = plan_pairs(self.about, references, self.potentials.of, self._priced)
        for label, pairs in pairs_by_label.items():
            if given is None:
                self.campaign.labels[label] = [pairs.observed]
                if pairs.runs:
                    self.runs[label] = list(pairs.runs)
            elif lacks := self._not_given(pairs.runs, given):
                self.campaign.unavailable[label] = lacks
            else:
                self.campaign.labels[label] = [pairs.of_given(given)]
        for label in PAIRED_LABELS:
            if label not in self.campaign.labels:
                size = label.split("-")[1]
                self.campaign.unavailable.setdefault(
                    label,
                    f"no AIMD of {size} atoms with all frames and velocities is deposited to start from",
                )

    def _cost(self) -> None:
        """The tier's small cost measurement, alone on the machine; absolute times mean nothing otherwise."""
        about = self.about.cost
        if about is None:
            self.campaign.unavailable["cost"] = f"the {self.campaign.tier} tier measures no cost"
            return
        if self.given is not None:
            self._deposited_cost()
            return
        plan = tier_plan(about.model_dump(exclude_none=True), precision=self.about.training.precision)
        if self.user_potential is not None:  # there is no HDNNP-96
            plan.points = [point for point in plan.points if point.engine != COST_HDNNP]
        potential = self.potentials.of("deepmd-96")[0]
        label = f"cost of {potential.parameters['name']} and classical MD"
        self.campaign.labels["cost"] = [
            cost_stage(
                plan,
                potential,
                hdnnp=self.potentials.of(HDNNP)[0] if plan.times_hdnnp else None,
                label=label,
                cores=available_cores(),
                machine_type=None,
            )
        ]

    def _deposited_cost(self) -> None:
        """A deposited record in the place of a measurement: with given trajectories nothing is timed."""
        path = judging_record()
        if path is None:
            self.campaign.unavailable["cost"] = "no cost record is deposited"
            return
        self.campaign.labels["cost"] = [
            Stage("cost", f"cost of {path.stem}", {"file": str(path), "sha256": file_sha256(path)})
        ]
        self.instead.append(f"cost: timed on {path.stem}, deposited")


def _of_given(observed: Stage, thin: ThinTrajectory) -> Stage:
    """The observation of a deposited trajectory in place of a new run."""
    parameters = {**observed.parameters, "file": str(thin.path), "sha256": thin.sha256}
    return replace(observed, parameters=parameters, inputs={})
