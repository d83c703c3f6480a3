"""From a tier file to stages: which stages make each product that a claim may read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.campaign.deviations import deviations, short_training
from jobs.campaign.judges import Judges, plan_judges
from jobs.campaign.observing import angle_cutoffs_angstrom, observe_parameters
from jobs.campaign.pairs import PAIRED_LABELS, plan_pairs
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import (
    CLASSICAL,
    HDNNP,
    HDNNP_DATA,
    NNPS,
    Again,
    Hdnnp,
    Moving,
    Quenched,
    Run,
    Scheduled,
    StepwiseAimd,
)
from jobs.campaign.tier import DISPLAY_NAMES, Tier, read_tier
from jobs.cost.estimates import (
    CORE_SECONDS_PER_ATOM_STEP,
    CORE_SECONDS_PER_HDNNP_UPDATE,
    CORE_SECONDS_PER_TRAINING_STEP,
    TENSORFLOW_START_S,
    aimd_core_seconds,
    network_md_core_seconds,
    production_steps,
)
from jobs.engines.hdnnp.recipe import RECIPE
from jobs.engines.lammps.program import DAMPING_FS
from jobs.reference.potentials import deposited_model, imported_potential, potential_sha256
from jobs.reference.sets import DepositedSet, find_set
from jobs.reference.trajectories import PAIRED, ThinTrajectory, thin_trajectories
from jobs.store.stage import Stage

SAMPLERS = "train-hdnnp-sampler"


def build_campaign(
    tier: str, *, start_from: str | None = None, potential: Path | None = None, engine: str | None = None
) -> Campaign:
    """Plan a tier without running anything.

    `start_from` overrides the tier's own start; `potential` puts a user's potential in the place of
    both of the paper's; `engine` computes first-principles data in the place of the tier's own, with that
    engine's default settings.

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
    return _Builder(Campaign(about.name, start, about, "-".join(name)), potential).build()


def _with_engine(about: Tier, engine: str) -> Tier:
    """A tier's content with another first-principles engine; unchanged if it is the tier's own."""
    from jobs.engines.first_principles.registry import load_engine, named_settings

    load_engine(engine)
    if about.aimd is None or engine == about.aimd.engine:
        return about
    return about.with_engine(engine, named_settings(engine, "default"))


class _Builder:
    """Turns one tier file into stages; each method adds one kind of them."""

    def __init__(self, campaign: Campaign, user_potential: Path | None) -> None:
        from jobs.reference.paper import read_paper

        self.campaign = campaign
        self.about = campaign.about
        self.user_potential = user_potential
        self.rebuilt = campaign.start_from == "nothing"  # first-principles data are computed anew
        self.protocol = read_paper().protocol
        self.melts: dict[int, Stage] = {}
        self.runs = campaign.runs
        self.potentials: dict[str, list[Stage]] = {}
        self.given: dict[str, ThinTrajectory] | None = None  # trajectories, where these are given
        self.given_pairs: dict[str, ThinTrajectory] = {}
        if campaign.start_from == "trajectories":
            self.given = thin_trajectories(campaign.tier)

    def build(self) -> Campaign:
        for label, run in self.about.runs.items():
            self._run(label, run)
        self._add_potentials()
        self._parity()
        self._samplers()
        self._kernels()
        self._learning_curve()
        judges = plan_judges(self.about)
        self.campaign.labels |= judges.labels
        self.campaign.unavailable |= judges.unavailable
        self._paired(judges)
        self._cost()
        self.campaign.deviations.extend(self._deviations(judging=sorted(judges.levels)))
        if self.user_potential is None:
            self.campaign.short_training = short_training(self.campaign)
        if self.given is not None:
            self.runs.clear()  # planned only to be compared with what is given
        return self.campaign

    # -- potentials -----------------------------------------------------------------------------

    def _potential(self, nnp: str) -> list[Stage]:
        """A potential's stages, one per seed; the same ones whenever they are asked for."""
        if nnp not in self.potentials:
            self.potentials[nnp] = self._plan_potential(nnp)
        return self.potentials[nnp]

    def _add_potentials(self) -> None:
        """Trainings, the first-principles runs that they learn from, and why there are none."""
        for nnp in (*NNPS, *([HDNNP] if self.about.hdnnp else [])):
            size = nnp.removeprefix("deepmd-")
            if self.rebuilt and nnp in NNPS:
                self.runs[f"aimd-{size}"] = list(self._dataset(nnp).inputs.values())
            if self.user_potential is not None:
                self.campaign.unavailable[f"train-{size}"] = self._judged_instead
            elif given := self._given_potentials:
                self.campaign.unavailable[f"train-{size}"] = given
                _, record = deposited_model(nnp)
                if record["dataset"] != self._dataset(HDNNP_DATA if nnp == HDNNP else nnp).name:
                    self.campaign.unavailable[f"parity-{size}"] = (
                        f"the deposited {DISPLAY_NAMES[nnp]} learned from another split of the frames: "
                        "it may have trained on what is held out now"
                    )
            else:
                self.campaign.labels[f"train-{size}"] = self._potential(nnp)

    @property
    def _judged_instead(self) -> str:
        return f"{self.user_potential} is judged in place of the paper's potentials"

    @property
    def _given_potentials(self) -> str | None:
        """The reason that nothing is trained, where potentials are given."""
        if not self.campaign.potentials_given:
            return None
        return f"the deposited potential was taken as given (--start-from {self.campaign.start_from})"

    def _plan_potential(self, nnp: str) -> list[Stage]:
        if self.user_potential is not None:
            return [imported_potential(self.user_potential, self.user_potential.stem)]
        if self._given_potentials:
            return [imported_potential(deposited_model(nnp)[0], DISPLAY_NAMES[nnp])]
        if nnp == HDNNP:
            return [self._trained_hdnnp(seed) for seed in self._hdnnp.seeds]
        return [self._trained(nnp, seed) for seed in self.about.seeds]

    @property
    def _hdnnp(self) -> Hdnnp:
        """How the other kind of network is trained; a tier that has none of it is refused before."""
        assert self.about.hdnnp is not None
        return self.about.hdnnp

    def _dataset(self, nnp: str, *, share: float = 1.0, seed: int = 1) -> Stage:
        """The dataset of a potential, or one with a share of its training frames, drawn with `seed`."""
        sets = [] if self.rebuilt else self._frames(nnp)
        parameters = {
            "sets": [
                {
                    "name": found.name,
                    "sha256": found.sha256,
                    "thin_frames": self.about.frames[nnp][found.name],
                    "use_unequilibrated": False,
                }
                for found in sets
            ],
            "train_share": 2 / 3,
            "sel": None,
            "cutoff_angstrom": self.protocol["II.B network"]["cutoff"].value,
            "max_train_frames": None,
            **self.about.place,
        }
        if share < 1:
            parameters |= {"max_train_frames": share, "subset_seed": seed}
        computed = self._aimd(nnp) if self.rebuilt else []
        inputs = {f"aimd-{n}": stage for n, stage in enumerate(computed, start=1)}
        label = f"dataset for {DISPLAY_NAMES[nnp]}"
        if share < 1:
            label = f"{share:.3g} of the {label}, draw {seed}"
        return Stage("dataset", label, parameters, seed=1, inputs=inputs, core_seconds=10)

    def _frames(self, nnp: str) -> list[DepositedSet]:
        """The sets that the tier trains a potential on, of the user's deposit or the project's."""
        sets = [find_set(name, self.about.place) for name in self.about.frames[nnp]]
        for found in sets:
            if found.use != "train":
                raise SuiteError(
                    f"tier {self.campaign.tier}: frames: {nnp}: found {found.name}, which judges, "
                    "expected sets that train"
                )
        return sets

    def _aimd(self, nnp: str) -> list[Stage]:
        """First-principles runs that a potential learns from (Sec. II A), one stage per start."""
        from jobs.engines.first_principles.registry import load_engine

        aimd = self.about.aimd
        if aimd is None:
            raise SuiteError(
                f"tier {self.campaign.tier}: found no aimd section; --start-from nothing needs one"
            )
        about = aimd.of(nnp)
        common = {
            "engine": aimd.engine,
            "settings": aimd.settings,
            "timestep_fs": about.timestep_fs,
            "ensemble": "nvt",
            # The paper's thermostat, where the engine has it.
            "thermostat": "nose-hoover" if "nose-hoover" in load_engine(aimd.engine).THERMOSTATS else "csvr",
            "damping_fs": DAMPING_FS,
            "density_g_cm3": about.density_g_cm3,
        }
        if isinstance(about, StepwiseAimd):
            melt = self._melt(about.atoms)
            kelvins = about.temperatures_K
            steps = (about.relaxation_steps + about.collection_steps) * len(kelvins)
            return [
                Stage(
                    "aimd",
                    f"AIMD of {about.atoms} atoms, {kelvins[0]} to {kelvins[-1]} K, melt {index + 1}",
                    {
                        **common,
                        "mode": "stepwise",
                        "source": "tersoff",
                        "frames": [index],
                        "replica": index + 1,
                        "temperatures_K": kelvins,
                        "relaxation_steps": about.relaxation_steps,
                        "collection_steps": about.collection_steps,
                    },
                    seed=1,
                    inputs={"start": melt},
                    cores=aimd.cores,
                    core_seconds=steps * aimd_core_seconds(about.atoms),
                )
                for index in range(self.about.melt.configurations)
            ]
        stages = []
        for number, (label, kelvin) in enumerate(about.starts.items()):
            sampler = self.runs[label][0]
            starts = list(range(1, about.configurations + 1))
            parameters = {
                **common,
                "mode": "short",
                "source": "nnp",
                "frames": starts,
                "replica": 1000 * (number + 1),
                "temperature_K": kelvin,
                "steps": about.steps,
            }
            cost = len(starts) * about.steps * aimd_core_seconds(sampler.parameters["n_atoms"])
            name = f"AIMD of {sampler.parameters['n_atoms']} atoms from {label}, {len(starts)} starts"
            stages.append(
                Stage(
                    "aimd",
                    name,
                    parameters,
                    seed=1,
                    inputs={"start": sampler},
                    cores=aimd.cores,
                    core_seconds=cost,
                )
            )
        return stages

    def _trained(self, nnp: str, seed: int, *, share: float = 1.0, **settings: Any) -> Stage:
        """One training; `settings` depart from the tier's own, `share` is that of the frames."""
        training = self.about.training.model_dump() | settings
        stated = self.protocol[f"II.B loss of {DISPLAY_NAMES[nnp]}"]
        loss = {
            f"{end}_pref_{letter}": stated[f"{quantity}_{end}"].value
            for quantity, letter in (("energy", "e"), ("force", "f"), ("virial", "v"))
            for end in ("start", "limit")
        }
        parameters = {
            "name": DISPLAY_NAMES[nnp],
            "loss": loss,
            **training,
        }
        cost = (
            TENSORFLOW_START_S * 4 + training["steps"] * CORE_SECONDS_PER_TRAINING_STEP[training["precision"]]
        )
        return Stage(
            "train",
            " ".join([f"train {DISPLAY_NAMES[nnp]} seed {seed}", *_departures(share, settings)]),
            parameters,
            seed=seed,
            inputs={"dataset": self._dataset(nnp, share=share, seed=seed)},
            core_seconds=cost,
        )

    def _trained_hdnnp(self, seed: int) -> Stage:
        """One training of an HDNNP, on the dataset of DeePMD-96."""
        updates = self._hdnnp.updates
        return self._kalman(DISPLAY_NAMES[HDNNP], self._dataset(HDNNP_DATA), seed, updates)

    def _kalman(self, name: str, dataset: Stage, seed: int, updates: int, **more: Any) -> Stage:
        parameters = {
            "name": name,
            "updates": updates,
            "checkpoint_every": self._hdnnp.checkpoint_every,
            **RECIPE,
            **more,
        }
        return Stage(
            "train_hdnnp",
            f"train {name} seed {seed}",
            parameters,
            seed=seed,
            inputs={"dataset": dataset},
            core_seconds=30 + updates * CORE_SECONDS_PER_HDNNP_UPDATE,
        )

    def _samplers(self) -> None:
        """HDNNPs that draw configurations: they train on every frame, and nothing is held out."""
        about = self.about.hdnnp
        if about is None or about.sampler_updates is None:
            return
        if reason := self._given_potentials:
            self.campaign.unavailable[SAMPLERS] = reason
            return
        dataset = self._dataset("deepmd-216")
        self.campaign.labels[SAMPLERS] = [
            self._kalman("HDNNP-sampler", dataset, seed, about.sampler_updates, all_frames=True)
            for seed in about.seeds
        ]

    def _deviations(self, *, judging: list[tuple[str, ...]]) -> Iterator[str]:
        return deviations(
            self.campaign,
            self.protocol,
            frames={} if self.rebuilt else {nnp: self._frames(nnp) for nnp in NNPS},
            datasets={nnp: self._dataset(nnp).name for nnp in NNPS},
            judging=judging,
            given=self.given or {},
            given_pairs=self.given_pairs,
            user_potential=self.user_potential,
        )

    def _parity(self) -> None:
        if self.about.hdnnp and self.user_potential is None:
            self._parity_of(HDNNP, self._dataset(HDNNP_DATA))
        dataset = {nnp: self._dataset(nnp) for nnp in NNPS}
        for nnp in NNPS:
            self.campaign.labels[f"parity-{nnp.removeprefix('deepmd-')}-bks"] = [
                Stage(
                    "parity",
                    f"held-out errors of BKS on frames of {DISPLAY_NAMES[nnp]}",
                    {"potential": "bks"},
                    inputs={"dataset": dataset[nnp]},
                    core_seconds=5,
                )
            ]
            self._parity_of(nnp, dataset[nnp])

    def _parity_of(self, nnp: str, dataset: Stage) -> None:
        potentials, label = self._potential(nnp), f"parity-{nnp.removeprefix('deepmd-')}"
        if label in self.campaign.unavailable:
            return
        self.campaign.labels[label] = [
            Stage(
                "parity",
                f"held-out errors of {stage.parameters['name']}",
                {},
                inputs={"dataset": dataset, "potential": stage},
                core_seconds=20,
            )
            for stage in potentials
        ]

    def _kernels(self) -> None:
        """The comparison of the native kernel with DeePMD-kit, for every NNP whose MD it runs."""
        for nnp in NNPS:
            label = f"kernel-{nnp.removeprefix('deepmd-')}"
            if self.given is not None:
                self.campaign.unavailable[label] = "trajectories are given, no MD runs"
                continue
            compared = [
                Stage(
                    "kernel",
                    f"native kernel of {stage.label} beside DeePMD-kit",
                    {},
                    seed=1,
                    inputs={"potential": stage, "dataset": self._dataset(nnp)},
                    core_seconds=40,
                )
                for stage in self._potential(nnp)
                if stage.parameters.get("family", "deepmd") == "deepmd"
            ]
            if compared:
                self.campaign.labels[label] = compared
            else:
                self.campaign.unavailable[label] = "the potential is no deep potential"

    def _learning_curve(self) -> None:
        """DeePMD-96's held-out error by frames, and by precision and steps; one stage per point and seed.

        Every point is judged on the held-out frames of the whole dataset. The point with all frames and the
        tier's own settings is the tier's training itself. With fewer steps the learning rate falls faster,
        to the same end.
        """
        labels = ("learning-curve", "learning-curve-settings")
        about = self.about.learning_curve
        reason = None
        if about is None:
            reason = (
                f"the {self.campaign.tier} tier trains no learning curve; reference, overnight and paper do"
            )
        elif self.user_potential is not None:
            reason = self._judged_instead
        else:
            reason = self._given_potentials
        if about is None or reason is not None:
            self.campaign.unavailable |= dict.fromkeys(labels, str(reason))
            return
        own = self.about.training
        shorter = [
            {"steps": n, "decay_steps": max(1, round(own.decay_steps * n / own.steps))}
            for n in sorted(about.steps)
            if n != own.steps
        ]
        # Precisions are compared at the shortest length, where float64 is affordable.
        shortest = shorter[0] if shorter else {}
        others = shorter + [{"precision": p} | shortest for p in about.precisions if p != own.precision]
        points: dict[str, list[tuple[float, dict[str, Any]]]] = {
            "learning-curve": [(float(share), {}) for share in about.shares],
            "learning-curve-settings": [(1.0, settings) for settings in ({}, *others)],
        }
        for label, of_label in points.items():
            self.campaign.labels[label] = [
                self._held_out_errors(self._trained("deepmd-96", seed, share=share, **settings))
                for share, settings in of_label
                for seed in about.seeds
            ]

    def _held_out_errors(self, trained: Stage) -> Stage:
        return Stage(
            "parity",
            f"held-out errors of {trained.label.removeprefix('train ')}",
            {},
            inputs={"dataset": self._dataset("deepmd-96"), "potential": trained},
            core_seconds=20,
        )

    # -- trajectories ---------------------------------------------------------------------------

    def _melt(self, atoms: int) -> Stage:
        if atoms not in self.melts:
            melt = self.about.melt
            parameters = {"n_atoms": atoms, **melt.model_dump()}
            steps = melt.duration_ps * 1000 * 2
            cost = 5 + atoms * steps * CORE_SECONDS_PER_ATOM_STEP["tersoff"]
            label = f"melt of {atoms} atoms"
            self.melts[atoms] = Stage("melt", label, parameters, seed=1, core_seconds=cost)
        return self.melts[atoms]

    def _run(self, label: str, run: Run) -> None:
        if isinstance(run, Again):
            if run.again not in self.runs:
                raise self._wrong_start(label, run.again)
            stages, observe = self.runs[run.again], True
        else:
            if run.potential == HDNNP and self.user_potential is not None:
                self.campaign.unavailable[label] = self._judged_instead
                return
            self._check_starts(label, run)
            stages = [self._replica(label, run, replica) for replica in range(run.replicas)]
            observe = run.observe
        self.runs[label] = stages
        if not observe:
            return
        if self.given is not None and (reason := self._not_given(stages, self.given)):
            self.campaign.unavailable[label] = reason
            return
        self.campaign.labels[label] = [self._observed(label, stage, run) for stage in stages]

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
            start, atoms = self._melt(run.atoms), run.atoms
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
            options = self._potential(name)
            inputs["potential"] = options[replica % len(options)]
        steps: float
        if isinstance(run, Quenched):
            kind, quench = "quench", run.quench
            cutoff = angle_cutoffs_angstrom()["Si-O"]
            parameters |= {**quench.model_dump(), "coordination_cutoff_angstrom": cutoff}
            steps = (quench.from_K - quench.to_K) / quench.rate_K_per_s / 1e-15 + quench.anneal_steps
        else:
            assert isinstance(run, Scheduled)
            kind = "md"
            parameters |= {
                "timestep_fs": run.timestep_fs,
                "ensemble": run.ensemble,
                "thermostat": run.thermostat,
                "schedule": [{"temperature_K": float(kelvin), "steps": n} for kelvin, n in run.schedule],
            }
            steps = sum(n for _, n in run.schedule)
        kernel = self.about.kernel if name in NNPS else None
        if name not in NNPS:
            cost = atoms * steps * CORE_SECONDS_PER_ATOM_STEP[name]
        else:
            cost = network_md_core_seconds(atoms * steps, kernel=kernel)
        return Stage(
            kind,
            f"{label} #{replica + 1}",
            parameters,
            seed=replica + 1,
            inputs=inputs,
            cores=parameters["ranks"],
            core_seconds=cost,
            wanted_kernel=kernel,
        )

    # -- observations ---------------------------------------------------------------------------

    def _observed(self, label: str, stage: Stage, run: Run) -> Stage:
        frames = production_steps(stage) / stage.parameters["dump_every"]
        cost = 3 + 2e-5 * frames * stage.parameters["n_atoms"]
        observed = Stage(
            "observe",
            f"observe {label} ({stage.label})" if isinstance(run, Again) else f"observe {stage.label}",
            observe_parameters(run.observables),
            inputs={"trajectory": stage},
            core_seconds=cost,
        )
        return observed if self.given is None else _of_given(observed, self.given[stage.label])

    def _paired(self, judges: Judges) -> None:
        """MD from frames of the AIMD references, and that AIMD from the same frames on."""
        if not self.about.paired:
            reason = f"the {self.campaign.tier} tier starts no MD from frames of AIMD"
            self.campaign.unavailable |= dict.fromkeys(PAIRED_LABELS, reason)
            return
        given = None if self.given is None else thin_trajectories(PAIRED, needed=False)
        self.given_pairs = given or {}
        for label, pairs in plan_pairs(self.about, judges, self._potential).items():
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
            self.campaign.unavailable["cost"] = "trajectories are given; --start-from potentials times MD"
            return
        from jobs.base.machine import available_cores
        from jobs.cost.plan import cost_stage, tier_plan

        plan = tier_plan(about.model_dump(exclude_none=True), precision=self.about.training.precision)
        potential = self._potential("deepmd-96")[0]
        label = f"cost of {potential.parameters['name']} and classical MD"
        self.campaign.labels["cost"] = [
            cost_stage(
                plan,
                potential,
                hdnnp=self._potential(HDNNP)[0] if plan.times_hdnnp else None,
                label=label,
                cores=available_cores(),
                machine_type=None,
            )
        ]


def _of_given(observed: Stage, thin: ThinTrajectory) -> Stage:
    """The observation of a deposited trajectory in place of a new run."""
    parameters = {**observed.parameters, "file": str(thin.path), "sha256": thin.sha256}
    return replace(observed, parameters=parameters, inputs={})


def _departures(share: float, settings: Mapping[str, Any]) -> list[str]:
    """How a training's settings differ from the tier's, in words for its stage's title."""
    words = [f"{share:.3g} of the frames"] if share < 1 else []
    words += [str(settings["precision"])] if "precision" in settings else []
    return words + ([f"{settings['steps']} steps"] if "steps" in settings else [])
