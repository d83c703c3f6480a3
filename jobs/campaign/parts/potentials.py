"""Potentials in a campaign: trained, given or the user's own, and the data that they learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.units import FS_PER_PS
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import HDNNP, HDNNP_DATA, NNPS, Hdnnp, StepwiseAimd
from jobs.campaign.tier import DISPLAY_NAMES
from jobs.cost.estimates import (
    CORE_SECONDS_PER_ATOM_STEP,
    CORE_SECONDS_PER_HDNNP_UPDATE,
    CORE_SECONDS_PER_TRAINING_STEP,
    TENSORFLOW_START_S,
    aimd_core_seconds,
    production_steps,
)
from jobs.engines.first_principles.registry import load_engine
from jobs.engines.hdnnp.recipe import RECIPE
from jobs.engines.lammps.program import DAMPING_FS
from jobs.reference.paper import read_paper
from jobs.reference.potentials import deposited_model, imported_potential
from jobs.reference.sets import DepositedSet, find_set
from jobs.store.stage import Stage

SAMPLERS = "train-hdnnp-sampler"


class Potentials:
    """The potentials of a campaign, planned when they are first asked for, and what they learn from."""

    def __init__(self, campaign: Campaign, user_potential: Path | None) -> None:
        self.campaign = campaign
        self.about = campaign.about
        self.user_potential = user_potential
        self.rebuilt = campaign.start_from == "nothing"  # first-principles data are computed anew
        self.protocol = read_paper().protocol
        self.melts: dict[int, Stage] = {}
        self.runs = campaign.runs
        self._planned: dict[str, list[Stage]] = {}

    def of(self, nnp: str) -> list[Stage]:
        """A potential's stages, one per seed; the same ones whenever they are asked for."""
        if nnp not in self._planned:
            self._planned[nnp] = self._plan_potential(nnp)
        return self._planned[nnp]

    def add(self) -> None:
        """Trainings, the first-principles runs that they learn from, and why there are none."""
        for nnp in (*NNPS, *([HDNNP] if self.about.hdnnp else [])):
            size = nnp.removeprefix("deepmd-")
            if self.rebuilt and nnp in NNPS:
                self.runs[f"aimd-{size}"] = list(self.dataset(nnp).inputs.values())
            if self.user_potential is not None:
                self.campaign.unavailable[f"train-{size}"] = self.judged_instead
            elif given := self.why_given:
                self.campaign.unavailable[f"train-{size}"] = given
                _, record = deposited_model(nnp)
                if record["dataset"] != self.dataset(HDNNP_DATA if nnp == HDNNP else nnp).name:
                    self.campaign.unavailable[f"parity-{size}"] = (
                        f"the deposited {DISPLAY_NAMES[nnp]} learned from another split of the frames: "
                        "it may have trained on what is held out now"
                    )
            else:
                self.campaign.labels[f"train-{size}"] = self.of(nnp)

    @property
    def judged_instead(self) -> str:
        """Why there is none of the paper's potentials, where the user's own is judged."""
        return f"{self.user_potential} is judged in place of the paper's potentials"

    @property
    def why_given(self) -> str | None:
        """The reason that nothing is trained, where potentials are given."""
        if not self.campaign.potentials_given:
            return None
        return f"the deposited potential was taken as given (--start-from {self.campaign.start_from})"

    def _plan_potential(self, nnp: str) -> list[Stage]:
        if self.user_potential is not None:
            return [imported_potential(self.user_potential, self.user_potential.stem)]
        if self.why_given:
            return [imported_potential(deposited_model(nnp)[0], DISPLAY_NAMES[nnp])]
        if nnp == HDNNP:
            return [self._trained_hdnnp(seed) for seed in self._hdnnp.seeds]
        return [self.trained(nnp, seed) for seed in self.about.seeds]

    @property
    def _hdnnp(self) -> Hdnnp:
        """How the other kind of NNP is trained; a tier that has none of it is refused before."""
        assert self.about.hdnnp is not None
        return self.about.hdnnp

    def dataset(self, nnp: str, *, share: float = 1.0, seed: int = 1) -> Stage:
        """The dataset of a potential, or one with a share of its training frames, drawn with `seed`."""
        sets = [] if self.rebuilt else self.frames(nnp)
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

    def frames(self, nnp: str) -> list[DepositedSet]:
        """The sets that the tier trains a potential on, of the user's deposit or the project's."""
        sets = [find_set(name, self.about.place) for name in self.about.frames[nnp]]
        for found in sets:
            if found.use != "train":
                raise SuiteError(
                    f"tier {self.campaign.tier}: frames: {nnp}: found {found.name} with use judge, "
                    "expected sets with use train"
                )
        return sets

    def _aimd(self, nnp: str) -> list[Stage]:
        """First-principles runs that a potential learns from (Sec. II A), one stage per start."""
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
            melt = self.melt(about.atoms)
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
            kept = int(production_steps(sampler)) // sampler.parameters["dump_every"]
            if about.configurations > kept:
                raise SuiteError(
                    f"tier {self.campaign.tier}: aimd.deepmd-216.configurations: found "
                    f"{about.configurations}, expected at most {kept}, the frames that {label} keeps after "
                    "its first"
                )
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

    def trained(self, nnp: str, seed: int, *, share: float = 1.0, **settings: Any) -> Stage:
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
            inputs={"dataset": self.dataset(nnp, share=share, seed=seed)},
            core_seconds=cost,
        )

    def _trained_hdnnp(self, seed: int) -> Stage:
        """One training of an HDNNP, on the dataset of DeePMD-96."""
        updates = self._hdnnp.updates
        return self._kalman(DISPLAY_NAMES[HDNNP], self.dataset(HDNNP_DATA), seed, updates)

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

    def add_samplers(self) -> None:
        """HDNNPs that draw configurations: they train on every frame, and nothing is held out."""
        about = self.about.hdnnp
        if about is None or about.sampler_updates is None:
            return
        if reason := self.why_given:
            self.campaign.unavailable[SAMPLERS] = reason
            return
        dataset = self.dataset("deepmd-216")
        self.campaign.labels[SAMPLERS] = [
            self._kalman("HDNNP-sampler", dataset, seed, about.sampler_updates, all_frames=True)
            for seed in about.seeds
        ]

    def melt(self, atoms: int) -> Stage:
        """The melt of so many atoms that runs start from; one for all of them."""
        if atoms not in self.melts:
            melt = self.about.melt
            parameters = {"n_atoms": atoms, **melt.model_dump()}
            steps = melt.configurations * melt.duration_ps * FS_PER_PS / melt.timestep_fs
            cost = 5 + atoms * steps * CORE_SECONDS_PER_ATOM_STEP["tersoff"]
            label = f"melt of {atoms} atoms"
            self.melts[atoms] = Stage("melt", label, parameters, seed=1, core_seconds=cost)
        return self.melts[atoms]


def _departures(share: float, settings: Mapping[str, Any]) -> list[str]:
    """How a training's settings differ from the tier's, in words for its stage's title."""
    words = [f"{share:.3g} of the frames"] if share < 1 else []
    words += [str(settings["precision"])] if "precision" in settings else []
    return words + ([f"{settings['steps']} steps"] if "steps" in settings else [])
