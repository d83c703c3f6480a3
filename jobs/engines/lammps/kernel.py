"""Which kernel runs an NNP's MD: the compiled one of this suite (`native`), or DeePMD-kit (`deepmd`).

Both compute the same potential (the stage `kernel` compares them). So the manifest records which one ran
(`mixed`: an attempt on each), like the processor, and the identity does not have it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from jobs.base.errors import EngineError, SuiteError
from jobs.base.machine import usable_gpus
from jobs.engines.lammps.native.build import native_plugin
from jobs.engines.lammps.native.deepmd_export import export_model
from jobs.engines.lammps.potential import Potential

NATIVE, DEEPMD = "native", "deepmd"
KERNELS = (NATIVE, DEEPMD)
MIXED = "mixed"
MODEL_FILE = "model.pb"
# How much slower MD is without it, measured side by side (docs/notes/fast-md-measured.md).
SLOWER = "about 20 times"


@dataclass(frozen=True)
class Choice:
    """A potential as it will run, by which kernel (None: classical), and why not the native one."""

    potential: Potential
    kernel: str | None
    reason: str | None = None

    @property
    def warning(self) -> str | None:
        """A line for people, where MD is slower than it could be."""
        if self.reason is None:
            return None
        return f"MD of {self.potential.name} runs on DeePMD-kit, {SLOWER} slower: {self.reason}"


def choose_kernel(potential: Potential, product: Path | None, *, wanted: str | None, scratch: Path) -> Choice:
    """The potential by the kernel that is `wanted`, or by the native one where that is possible.

    A process that has a GPU that DeePMD-kit can use runs DeePMD-kit; the native kernel computes on cores.

    Args:
        potential: as its product describes it.
        product: folder of that product, with the model as it was trained.
        wanted: `native`, `deepmd` or None.
        scratch: where the exported model goes; it must live as long as the run.

    Raises:
        SuiteError: the native kernel is demanded and cannot run this potential here.
    """
    if potential.family != "deepmd" or product is None:
        return Choice(potential, None)
    if wanted == DEEPMD:
        return Choice(potential, DEEPMD)
    if wanted is None and usable_gpus():
        return Choice(potential, DEEPMD)
    try:
        return Choice(native_potential(potential, product / MODEL_FILE, scratch=scratch), NATIVE)
    except (SuiteError, EngineError) as error:
        if wanted == NATIVE:
            raise SuiteError(f"md.kernel: found native, which cannot run here: {error}") from None
        return Choice(potential, DEEPMD, str(error))


def native_potential(potential: Potential, model: Path, *, scratch: Path) -> Potential:
    """A DeePMD potential as commands of the native pair style; its exported model is written into `scratch`.

    Raises:
        SuiteError: the model is of a kind that the pair style does not compute.
        NativeUnavailableError: there is no plugin, and none can be compiled.
    """
    plugin = native_plugin()
    exported = scratch / "model.native"
    export_model(model, exported)
    commands = (
        f'plugin load "{plugin}"',
        f'pair_style deepmd/native "{exported.resolve()}"',
        "pair_coeff * * Si O",
    )
    return replace(potential, commands=commands)
