"""What a potential computes first: quartz, and frames of liquid silica that PBE computed.

A wrong unit or exchanged elements show at once: forces are many times too large, or unlike PBE's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.base.frames import Frames
from jobs.base.silica import Configuration, replicate
from jobs.engines.lammps.potential import Potential
from jobs.engines.lammps.program import evaluate_all
from jobs.reference.sets import iter_run, read_set

# Labels of liquid silica at 3000 K, 96 atoms, each of a melt of its own.
LIQUID_SET = "pbe-96-nnp-2.20"
LIQUID_K = 3000.0
LIQUID_FRAMES = 4
# Wide enough for cut-offs to 10 A without an atom meeting itself.
_REPEATS = (3, 2, 2)


@dataclass(frozen=True)
class FirstLook:
    """Energies of quartz and, on average, of the liquid frames (eV per SiO2), and forces on these, in eV/A.

    Forces are rms over components; `off` is of the difference from PBE's, `correlation` between both.
    """

    quartz_eV_SiO2: float
    liquid_eV_SiO2: float
    rms: float
    pbe_rms: float
    off: float
    correlation: float

    def line(self, name: str) -> str:
        """All of it for a person."""
        text = (
            f"{name}: quartz {self.quartz_eV_SiO2:.4f} eV per SiO2, {LIQUID_FRAMES} frames of liquid at "
            f"{LIQUID_K:g} K {self.liquid_eV_SiO2:.4f}, where its forces are {self.rms:.3f} eV/A rms, PBE's "
            f"{self.pbe_rms:.3f}, off by {self.off:.3f} (correlation {self.correlation:.3f})"
        )
        if self.off < self.pbe_rms:
            return text
        return f"{text}: no better than none at all; are units, charges and the order Si O right?"


def alpha_quartz() -> Configuration:
    """Alpha quartz (P3_2 21, Levien, Prewitt and Weidner 1980), 18 atoms in an orthorhombic cell."""
    a, c = 4.916, 5.4054
    u, (x, y, z) = 0.4697, (0.4135, 0.2669, 0.1191)
    silicon = [(u, 0, 2 / 3), (0, u, 1 / 3), (-u, -u, 0)]
    oxygen = [
        (x, y, z + 2 / 3), (-y, x - y, z + 1 / 3), (y - x, -x, z),
        (y, x, -z + 1 / 3), (-x, y - x, -z), (x - y, -y, -z + 2 / 3),
    ]  # fmt: skip
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    one = np.array(silicon + oxygen) @ lattice
    # The rectangle a x sqrt(3) a holds two hexagonal cells.
    cell = np.array([a, a * np.sqrt(3), c])
    positions = np.concatenate([one, one + lattice[1]]) % cell
    return Configuration(np.tile(np.repeat([0, 1], [3, 6]), 2), positions, np.diag(cell))


def first_look(potential: Potential, *, directory: Path) -> FirstLook:
    """Compute quartz and the liquid frames in LAMMPS, in a moment.

    Raises:
        EngineError: LAMMPS refuses the potential.
    """
    quartz = replicate(alpha_quartz(), _REPEATS)
    deposited = read_set(LIQUID_SET)
    runs = [run for run in deposited.runs if run.temperatures_K == (LIQUID_K,)][:LIQUID_FRAMES]
    liquid = [next(iter_run(deposited, run.id)).select(slice(0, 1)) for run in runs]
    frames = Frames.joined(liquid)
    alone = [
        Configuration(frames.types, *frame) for frame in zip(frames.positions, frames.cells, strict=True)
    ]
    first, *found = evaluate_all([(one, potential) for one in (quartz, *alone)], directory=directory)
    forces, pbe = np.array([one.forces for one in found]), frames.forces
    return FirstLook(
        quartz_eV_SiO2=3 * first.energy / quartz.n_atoms,
        liquid_eV_SiO2=3 * float(np.mean([one.energy for one in found])) / len(frames.types),
        rms=_rms(forces),
        pbe_rms=_rms(pbe),
        off=_rms(forces - pbe),
        correlation=float(np.corrcoef(forces.ravel(), pbe.ravel())[0, 1]) if forces.any() else 0.0,
    )


def _rms(forces: np.ndarray) -> float:
    return float(np.sqrt(np.mean(forces**2)))
