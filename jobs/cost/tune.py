"""`python -m jobs tune`: which ranks, threads, skin, precision and compression are fastest on this machine.

The search goes along one axis after the other (model, layout, skin), each from the best so far, every
alternative with several launches in turns; then the best few and the plain default run again together, and
the lowest median wins. What a setting costs is wall time of the whole machine per step and atom.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.machine import machine, require_gpus
from jobs.cost.bench import Bench
from jobs.cost.plan import DENSITY_G_CM3, TEMPERATURE_K, TIMESTEP_FS
from jobs.cost.points import Point
from jobs.cost.record import NNP
from jobs.cost.scaling import median_interval
from jobs.engines.lammps.kernel import DEEPMD, NATIVE
from jobs.engines.lammps.native.build import why_unavailable
from jobs.engines.lammps.timing import LAMMPS_SKIN_ANGSTROM, Layout, time_launch
from jobs.reference.potentials import deposited_model, imported_potential
from jobs.store.machine_settings import FOLDER, tuning_file
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.workspace import Workspace

N_ATOMS = 216
STEPS, NATIVE_STEPS = 100, 1500  # of so many atoms; about two seconds each
LEAST_STEPS = 20
LAUNCHES = 3
FINALISTS = 3
SKINS_ANGSTROM = (0.5, 1.0, 1.5, 2.0)
# Kernel, precision, compressed: the native kernel has one of each.
MODELS = (
    (NATIVE, "float32", False),
    (DEEPMD, "float32", True),
    (DEEPMD, "float32", False),
    (DEEPMD, "float64", True),
    (DEEPMD, "float64", False),
)


@dataclass(frozen=True)
class Setting:
    """One way to run the NNP."""

    kernel: str
    precision: str
    compressed: bool
    layout: Layout

    @property
    def text(self) -> str:
        """For people."""
        if self.kernel == NATIVE:
            return f"native kernel, {self.layout.text}"
        return f"{self.precision}{', compressed' * self.compressed}, {self.layout.text}"

    def as_json(self) -> dict[str, Any]:
        """For a record."""
        return {
            "kernel": self.kernel,
            "precision": self.precision,
            "compressed": self.compressed,
            **asdict(self.layout),
        }


def plain_default(cores: int, gpus: int = 0) -> Setting:
    """DeePMD-kit as it comes: one process with all cores as threads, float64, uncompressed, LAMMPS' skin."""
    layout = Layout(threads=cores, gpus=min(gpus, 1), skin_angstrom=LAMMPS_SKIN_ANGSTROM)
    return Setting(DEEPMD, "float64", False, layout)


def suite_default(cores: int, gpus: int = 0) -> Setting:
    """What an untuned machine uses, where the native kernel cannot run."""
    if gpus:
        return Setting(DEEPMD, "float32", True, Layout(threads=cores, gpus=1))
    return Setting(DEEPMD, "float32", True, Layout(replicas=cores))


def layouts(cores: int, gpus: int = 0) -> list[Layout]:
    """Ways to fill a machine: runs side by side, ranks, threads, pairs of threads; with GPUs, one or all."""
    if gpus:
        counts = sorted({1, gpus})
        return [Layout(ranks=count, threads=max(1, cores // count), gpus=count) for count in counts]
    ways = {(cores, 1, 1): None, (1, cores, 1): None, (1, 1, cores): None}
    if cores >= 4 and cores % 2 == 0:
        ways[1, cores // 2, 2] = None
    return [Layout(replicas, ranks, threads) for replicas, ranks, threads in ways]


def _with_layout(setting: Setting, layout: Layout) -> Setting:
    kept = replace(layout, skin_angstrom=setting.layout.skin_angstrom)
    return replace(setting, layout=kept)


def _with_skin(setting: Setting, skin_angstrom: float) -> Setting:
    return replace(setting, layout=replace(setting.layout, skin_angstrom=skin_angstrom))


def models(gpus: int = 0) -> list[tuple[str, str, bool]]:
    """What can run here: on a GPU only DeePMD-kit computes."""
    without = gpus or why_unavailable() is not None
    return [model for model in MODELS if not (without and model[0] == NATIVE)]


def axes(cores: int, gpus: int = 0) -> list[list[Callable[[Setting], Setting]]]:
    """What may be changed, an axis each: every function puts one alternative into a setting."""
    return [
        [
            partial(replace, kernel=kernel, precision=precision, compressed=compressed)
            for kernel, precision, compressed in models(gpus)
        ],
        [partial(_with_layout, layout=layout) for layout in layouts(cores, gpus)],
        [partial(_with_skin, skin_angstrom=skin) for skin in SKINS_ANGSTROM],
    ]


def every_setting(cores: int, gpus: int = 0) -> list[Setting]:
    """All combinations, for the exhaustive sweep."""
    return [
        Setting(*model, replace(layout, skin_angstrom=skin))
        for model, layout, skin in product(models(gpus), layouts(cores, gpus), SKINS_ANGSTROM)
    ]


Measure = Callable[[Setting], float]


@dataclass
class Search:
    """Measurements so far: us/step/atom by setting, who ran in the last comparison, whether time ran out."""

    samples: dict[Setting, list[float]] = field(default_factory=dict)
    finals: Sequence[Setting] = ()
    complete: bool = True

    def best(self, among: Sequence[Setting] = ()) -> Setting:
        """The lowest median: of these settings, else of the last comparison, else of all."""
        candidates = among or self.finals or self.samples
        return min(candidates, key=lambda setting: statistics.median(self.samples[setting]))

    def add(self, measure: Measure, settings: Sequence[Setting], launches: int) -> None:
        """Bring every setting to so many launches, in turns."""
        for _ in range(launches):
            for setting in settings:
                taken = self.samples.setdefault(setting, [])
                if len(taken) < launches:
                    taken.append(measure(setting))


def search(
    measure: Measure,
    *,
    start: Setting,
    plain: Setting,
    alternatives: Sequence[Sequence[Callable[[Setting], Setting]]],
    time_left: Callable[[], bool],
    launches: int = LAUNCHES,
) -> Search:
    """Walk along each axis from the best so far, then let the best few, start and plain run again.

    When the time is up no further axis is begun; the last comparison is always made.
    """
    found = Search()
    current = start
    for axis in alternatives:
        if not time_left():
            found.complete = False
            break
        settings = list(dict.fromkeys([current, *(change(current) for change in axis)]))
        found.add(measure, settings, launches)
        current = found.best(settings)
    ranked = sorted(found.samples, key=lambda one: statistics.median(found.samples[one]))
    # A stage is one run: its threads are those of the fastest that runs alone.
    alone = [one for one in ranked if one.layout.replicas == 1][:FINALISTS]
    # The few launches along an axis chose who runs here; who does not run here cannot win by a lucky few.
    found.finals = list(dict.fromkeys([*ranked[:FINALISTS], *alone, start, plain]))
    found.add(measure, found.finals, 2 * launches if time_left() else launches)
    return found


class Meter:
    """Measures settings of a potential with launches of their own, in a folder of its own that is kept."""

    def __init__(self, potential: Path, folder: Path, *, cores: int, n_atoms: int = N_ATOMS) -> None:
        # Models and liquids that are kept there do not say whose they are.
        folder = folder / potential.name
        folder.mkdir(parents=True, exist_ok=True)
        given = {
            "temperature_K": TEMPERATURE_K, "density_g_cm3": DENSITY_G_CM3, "timestep_fs": TIMESTEP_FS,
        }  # fmt: skip
        workspace = Workspace(given, 0, {"potential": potential}, folder, cores)
        self.bench, self.n_atoms, self.launches = Bench(workspace), n_atoms, 0

    def prepare(self) -> None:
        """Make models and the starting liquid, so that no measurement waits for them."""
        for model in models():
            self.bench.potential(self._point(*model))
        self.bench.liquid(NNP, self.n_atoms)

    def _point(self, kernel: str, precision: str, compressed: bool) -> Point:
        return Point(NNP, "tuned", self.n_atoms, precision, compressed, kernel=kernel)

    def measure(self, setting: Setting) -> float:
        """us/step/atom of one launch.

        Raises:
            EngineError: it failed, or did not simulate what it should.
        """
        self.launches += 1
        steps = NATIVE_STEPS if setting.kernel == NATIVE else STEPS
        return time_launch(
            self.bench.potential(self._point(setting.kernel, setting.precision, setting.compressed)),
            self.bench.liquid(NNP, self.n_atoms),
            setting.layout,
            steps=max(LEAST_STEPS, round(steps * N_ATOMS / self.n_atoms)),
            timestep_fs=TIMESTEP_FS,
            temperature_K=TEMPERATURE_K,
            seed=self.launches,
            name="setting",
        ).us_per_step_atom


def potential_stage(potential: Path | None) -> Stage:
    """The stage that makes a potential ready for LAMMPS: the deposited DeePMD-96, or one of the user's.

    Raises:
        SuiteError: it is not there, or was changed.
    """
    path = deposited_model("deepmd-96")[0] if potential is None else potential
    if not path.is_file() or path.suffix != ".pb":
        raise SuiteError(f"{path}: found no DeePMD model (.pb), expected one to time")
    return imported_potential(path, "DeePMD-96" if potential is None else path.stem)


def tune(store: Store, model: Path, *, minutes: float, cores: int, gpus: int) -> Path:
    """Search with a model (folder of a potential stage), keep the answer in the store; returns its file.

    Raises:
        EngineError: a setting failed.
        SuiteError: these GPUs cannot be used here.
    """
    require_gpus(gpus)
    begun = time.monotonic()
    meter = Meter(model, store.root / FOLDER / "work", cores=cores)
    print("making the model in both precisions, compressed and not, and a liquid", flush=True)
    meter.prepare()

    def measure(setting: Setting) -> float:
        found = meter.measure(setting)
        elapsed = time.monotonic() - begun
        print(f"{elapsed:4.0f} s  {found:8.1f} us/step/atom  {setting.text}", flush=True)
        return found

    # The last comparison takes about a minute on an idle machine.
    found = search(
        measure,
        start=suite_default(cores, gpus),
        plain=plain_default(cores, gpus),
        alternatives=axes(cores, gpus),
        time_left=lambda: time.monotonic() - begun < 60 * minutes * 3 / 4,
    )
    about = machine()
    content = answer(found, plain=plain_default(cores, gpus), cores=cores) | {"machine": about}
    content["seconds"] = round(time.monotonic() - begun, 1)
    path = tuning_file(store.root, about["type"])
    path.parent.mkdir(exist_ok=True)
    write_json(path, content, indent=1)
    best = found.best()
    times = statistics.median(found.samples[plain_default(cores, gpus)]) / statistics.median(
        found.samples[best]
    )
    print(f"fastest: {best.text}; {times:.2f} times the plain default ({plain_default(cores, gpus).text})")
    print(f"every MD stage of this store now uses {content['resources']}: {path}")
    return path


def answer(found: Search, *, plain: Setting, cores: int) -> dict[str, Any]:
    """What a tuning file holds: resources that are used, what is recommended, and all measurements."""
    best = found.best()
    single = [setting for setting in found.finals if setting.layout.replicas == 1 and setting != plain]
    threads = found.best(single).layout.threads if single else 1
    return {
        "n_atoms": N_ATOMS,
        "cores": cores,
        "resources": {"threads": threads, "skin_angstrom": best.layout.skin_angstrom},
        "recommended": best.as_json(),
        "complete": found.complete,
        "plain": plain.as_json(),
        "unit": "us/step/atom of the whole machine",
        "measurements": [
            {**setting.as_json(), "samples": samples, "median": median_interval(samples).value}
            for setting, samples in found.samples.items()
        ],
    }
