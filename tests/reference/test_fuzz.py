"""Ten thousand mutations of other people's files and of those that a person writes.

What is checked of each mutated output of a first-principles program (bytes, words and lines are changed,
dropped, doubled and exchanged, files are cut):

- it is read, or refused with one line that names its file; nothing else is raised;
- fewer frames than before are never silent: some are counted as refused, or a remark says that the file
  ends early, or their steps do not begin where they did or have a gap;
- what is taken is finite and of the right shape. A frame's forces are those of its step in the original but
  for a few numbers, and so are its positions unless the mutation changed its cell: rows, columns and steps
  are never read in each other's place, and no frame has the positions or the cell of another step.

And of each mutated YAML or JSON: it is refused with one line that names it, or what it says can be used: the
campaign is planned, the job's script or the deck is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.silica import Configuration
from jobs.campaign.build import build_campaign
from jobs.campaign.tier import TIERS
from jobs.engines.first_principles import cp2k, espresso, vasp
from jobs.engines.first_principles.registry import load_engine, named_settings
from jobs.reference.formats.sources import open_sources
from jobs.reference.paper import REFERENCE, read_experiment, read_paper
from jobs.reference.survey import Survey, report, watch
from jobs.running.site_files import SITES, read_site
from suite.judging.checks import CLAIMS_FILE, load_claims
from tests.engines.test_cp2k import needs_cp2k
from tests.helpers import fuzzing
from tests.helpers.cp2k_runs import run_md, run_single_point
from tests.helpers.pwx_runs import HYDROGEN, deck, run_pwx
from tests.helpers.vasp_files import VaspRun, write_outcar, write_vasprun
from tests.reference.test_import import atoms_of, needs_pwx, vasp_run
from tests.running.test_dpgen import entry

# Numbers of a frame's forces that one mutation may change: the word, and a neighbour that it is joined with.
FEW = 6


@dataclass
class Frames:
    """What is read of an output: (F, N, 3) positions and forces, (F, 3, 3) cells."""

    steps: list[int]
    positions: list[np.ndarray]
    forces: list[np.ndarray]
    cells: list[np.ndarray]


@dataclass
class Original:
    """An output that is whole, and what is read of it."""

    path: Path
    frames: Frames


def small_run(**changes: object) -> VaspRun:
    """Three steps of six atoms."""
    run = vasp_run()
    few = np.r_[0:2, 32:36]
    return replace(
        run,
        species=[run.species[i] for i in few],
        positions=run.positions[:3, few],
        forces=run.forces[:3, few],
        energies=run.energies[:3],
        cells=run.cells[:3],
        scf_steps=6,
        **changes,
    )


def read_all(path: Path) -> tuple[Survey, Frames]:
    """Everything that an import without deposit does."""
    (source,) = open_sources([path])
    survey, found = Survey(source), Frames([], [], [], [])
    for batch in watch(source, survey):
        n, atoms = len(batch), len(batch.species)
        assert batch.positions.shape == batch.forces.shape == (n, atoms, 3)
        assert batch.cells.shape == (n, 3, 3)
        for values in (batch.positions, batch.forces, batch.cells, batch.energies_eV):
            assert np.isfinite(values).all()
        found.steps += batch.steps.tolist()
        found.positions += list(batch.positions)
        found.forces += list(batch.forces)
        found.cells += list(batch.cells)
    assert report(survey.facts())
    json.dumps(survey.facts())
    return survey, found


def original(path: Path) -> Original:
    survey, frames = read_all(path)
    assert frames.steps
    assert not survey.source.refused
    return Original(path, frames)


def misread(whole: Frames, found: Frames, k: int) -> str | None:
    """What is of another atom or step in the k-th frame, if anything is."""
    n_atoms, step = len(found.forces[k]), found.steps[k]
    if n_atoms != len(whole.forces[0]):
        return None  # another number of atoms: said by the report

    def off(values: np.ndarray, known: np.ndarray) -> int:
        return int((np.abs(values - known) > 1e-9).sum())

    # Of a frame whose step was changed, any of the original may be meant.
    candidates = [i for i, known in enumerate(whole.steps) if known == step] or range(len(whole.steps))
    reasons = []
    for i in candidates:
        if off(found.forces[k], whole.forces[i]) > FEW:
            reasons.append("forces")
        elif off(found.cells[k], whole.cells[i]) == 0 and off(found.positions[k], whole.positions[i]) > FEW:
            reasons.append("positions")
        elif off(found.cells[k], whole.cells[i]) and any(
            off(found.cells[k], other) == 0 for j, other in enumerate(whole.cells) if j != i
        ):
            reasons.append("cell")
        else:
            return None
    return f"step {step}: {' or '.join(reasons)} of another atom or step"


def fuzz_output(
    whole: Original,
    number: int,
    *,
    seed: int,
    file: Path | None = None,
    ends: Callable[[bytes], bool] = lambda content: False,
    binary: bool = False,
) -> None:
    """Mutate an output and hold the reader to what the top of this file says.

    `file` is the one to mutate, of a run that has several. `ends` tells of a format without an end whether a
    cut file holds nothing but whole frames. What numbers of a `binary` file mean, nothing in it says.
    """
    file = file or whole.path
    content = file.read_bytes()
    wrong: list[str] = []
    for said, mutated in fuzzing.mutations(content, number, seed=seed):
        file.write_bytes(mutated)
        try:
            survey, found = read_all(whole.path)
        except SuiteError as error:
            if "\n" in str(error) or str(whole.path.parent) not in str(error):
                wrong.append(f"{said}: {error!r}")
            continue
        except Exception as error:
            wrong.append(f"{said}: {type(error).__name__} {error}")
            continue
        source, steps = survey.source, found.steps
        gap = bool(steps) and steps != whole.frames.steps[: len(steps)]
        lost = len(steps) < len(whole.frames.steps) and not (content.startswith(mutated) and ends(mutated))
        if lost and not (source.refused or source.remarks or gap):
            wrong.append(f"{said}: {len(steps)} of {len(whole.frames.steps)} frames, and not a word")
        for k in range(0 if binary else len(steps)):
            if what := misread(whole.frames, found, k):
                wrong.append(f"{said}: {what}")
    file.write_bytes(content)
    assert not wrong, f"{len(wrong)} of {number}: " + "\n".join(wrong[:10])


def whole_xyz(content: bytes) -> bool:
    """Whether a file ends where a frame does, but for white space and a number of atoms cut short."""
    lines = content.splitlines()
    return len(lines) % 8 == 0 or (len(lines) % 8 == 1 and not lines[-1].strip())


class TestOutputs:
    @pytest.mark.parametrize("version", ["5.4.4", "6.3.0"])
    @pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
    def test_vasp(self, tmp_path, name, version):
        write = write_outcar if name == "OUTCAR" else write_vasprun
        write(tmp_path / name, small_run(version=version))
        fuzz_output(original(tmp_path / name), 900, seed=ord(name[0]) + ord(version[0]))

    @pytest.mark.parametrize("compact", [True, False])
    def test_extended_xyz(self, tmp_path, compact):
        run = small_run()
        frames = atoms_of(run)
        for k, atoms in enumerate(frames):
            atoms.info["step"] = k + 1
            if not compact:
                atoms.info |= {"energy-unit": "eV", "force-unit": "eV/A", "converged": True}
        ase.io.write(tmp_path / "a.xyz", frames)
        fuzz_output(original(tmp_path / "a.xyz"), 1000, seed=3 + compact, ends=whole_xyz)

    def test_deepmd(self, tmp_path):
        run = small_run()
        system = _deepmd(run)
        system.to("deepmd/npy", str(tmp_path / "data"), comp_prec=np.float64)
        whole = original(tmp_path / "data")
        for k, file in enumerate(("type.raw", "type_map.raw", "set.000/coord.npy", "set.000/energy.npy")):
            fuzz_output(whole, 150, seed=20 + k, file=tmp_path / "data" / file, binary=k > 1)

    def test_deepmd_hdf5(self, tmp_path):
        _deepmd(small_run()).to("deepmd/hdf5", str(tmp_path / "data.hdf5"), comp_prec=np.float64)
        fuzz_output(original(tmp_path / "data.hdf5"), 300, seed=30, binary=True)


def _deepmd(run: VaspRun):
    import warnings

    import dpdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dpdata.LabeledSystem(
            data={
                "atom_names": ["Si", "O"],
                "atom_numbs": [2, 4],
                "atom_types": np.repeat([0, 1], [2, 4]),
                "orig": np.zeros(3),
                "coords": run.positions,
                "cells": run.cells,
                "energies": run.energies,
                "forces": run.forces,
            }
        )


class TestRealPwx:
    pytestmark = needs_pwx

    @pytest.mark.parametrize("calculation", ["scf", "md", "vc-relax"])
    def test_outputs(self, tmp_path, calculation):
        kind = HYDROGEN if calculation == "scf" else {}
        path = run_pwx(tmp_path, deck(calculation, steps=3, **kind))
        fuzz_output(original(path), 700, seed=40 + len(calculation))


class TestRealCp2k:
    pytestmark = needs_cp2k

    def test_a_single_point(self, tmp_path):
        fuzz_output(original(run_single_point(tmp_path)), 700, seed=50)

    @pytest.mark.parametrize(
        "ending", ["-pos-1.xyz", "-frc-1.xyz", "-1.cell", "-1.ener", "-1.restart", "log"]
    )
    def test_each_file_of_a_trajectory(self, tmp_path, ending, cp2k_run):
        shutil.copytree(cp2k_run, tmp_path / "run")
        whole = original(tmp_path / "run" / "liquid-pos-1.xyz")
        file = tmp_path / "run" / ("run.out" if ending == "log" else f"liquid{ending}")
        fuzz_output(whole, 300, seed=60 + len(ending), file=file)


@pytest.fixture(scope="module")
def cp2k_run(tmp_path_factory):
    return run_md(tmp_path_factory.mktemp("cp2k"), steps=2)


# What a person writes -----------------------------------------------------------------------------


def fuzz_text(
    path: Path, use: Callable[[Path], object], number: int, *, seed: int, named: tuple[str, ...] = ()
) -> None:
    """Mutate a file that a person writes; it is refused in a line that names it, or can be used.

    `named` are other names that lines may have for it, or for what it names.
    """
    content = path.read_bytes()
    use(path)
    wrong = []
    for said, mutated in fuzzing.mutations(content, number, seed=seed):
        path.write_bytes(mutated)
        try:
            use(path)
        except SuiteError as error:
            if "\n" in str(error) or not any(name in str(error) for name in (str(path), *named)):
                wrong.append(f"{said}: {error!r}")
        except Exception as error:
            wrong.append(f"{said}: {type(error).__name__} {error}")
    assert not wrong, f"{len(wrong)} of {number}: " + "\n".join(wrong[:10])


@pytest.mark.parametrize("name", ["smoke", "laptop"])
def test_tiers(tmp_path, name):
    path = tmp_path / "mine.yml"
    shutil.copy(TIERS / f"{name}.yml", path)
    fuzz_text(
        path,
        lambda path: build_campaign(str(path)),
        300,
        seed=70 + len(name),
        named=("tier ", "set.yml: found no such set"),
    )


@pytest.mark.parametrize("name", ["example-gpu", "example-pbs"])
def test_sites(tmp_path, name):
    path = tmp_path / "site.yml"
    shutil.copy(SITES / f"{name}.yml", path)
    fuzz_text(path, lambda path: read_site(str(path)), 400, seed=80 + len(name))


def test_machine_files(tmp_path):
    path = tmp_path / "machine.json"
    made = entry(
        envs={"A": ["$A", 1], "B": 2}, append_script=["x"], kwargs={"custom_gpu_line": " "}, strategy={"a": 1}
    )
    path.write_text(json.dumps({"train": [made], "model_devi": entry(), "fp": entry()}, indent=1))
    fuzz_text(path, lambda path: read_site(str(path)), 900, seed=90)


@pytest.mark.parametrize("engine", ["cp2k", "espresso", "vasp"])
def test_settings(tmp_path, engine):
    import yaml

    path = tmp_path / "settings.yml"
    path.write_text(yaml.safe_dump(named_settings(engine, "default"), sort_keys=False))
    start = Configuration(np.array([0, 1, 1], dtype=np.int8), np.eye(3), np.eye(3) * 8.0)

    def use(path: Path) -> None:
        settings = load_engine(engine).read_settings(named_settings(engine, str(path)))
        assert settings.basis
        if engine == "espresso":
            espresso.write_deck(settings, start, dynamics=None)
        elif engine == "vasp":
            vasp.write_incar(settings, start, dynamics=None)
        else:
            assert cp2k.read_settings(named_settings(engine, str(path))) == settings

    fuzz_text(path, use, 400, seed=100 + len(engine))


def test_the_paper_and_the_experiment(tmp_path):
    path = tmp_path / "paper.yml"
    shutil.copy(REFERENCE / "paper.yml", path)
    fuzz_text(path, read_paper.__wrapped__, 150, seed=110)
    (tmp_path / "experiment").mkdir()
    path = tmp_path / "experiment" / "rows.yml"
    shutil.copy(sorted((REFERENCE / "experiment").glob("*.yml"))[0], path)
    fuzz_text(path, lambda path: read_experiment.__wrapped__(path.parent), 150, seed=111)


def test_claims(tmp_path):
    path = tmp_path / "claims.yml"
    shutil.copy(CLAIMS_FILE, path)
    fuzz_text(path, load_claims.__wrapped__, 150, seed=112)
