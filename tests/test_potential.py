"""A potential of one's own: taken in, tried, or refused with one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.engines.lammps import builtin_potential, evaluate, read_potential
from jobs.errors import EngineError, SuiteError
from jobs.stages import potential
from jobs.structures import cristobalite
from jobs.workspace import Workspace


def take(directory: Path, file: Path, *, sha256: str | None = None) -> Path:
    directory.mkdir(exist_ok=True)
    digest = sha256
    if sha256 is None and file.exists():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    given: dict[str, Any] = {"name": "mine", "file": str(file), "sha256": digest, "family": "lammps"}
    potential.run(Workspace(given, seed=1, inputs={}, directory=directory))
    return directory


@pytest.mark.engine
def test_a_snippet_is_the_potential_it_says(tmp_path: Path) -> None:
    bks = builtin_potential("bks")
    snippet = tmp_path / "bks.lmp"
    lines = [command for command in bks.commands if not command.startswith("if ")]
    snippet.write_text(
        "# BKS of mine\n# charges 2.4 -1.2\n" + "\n".join(lines) + "\nkspace_style ewald 1.0e-5\n"
    )
    mine = read_potential(take(tmp_path / "product", snippet))
    assert mine.charges == (2.4, -1.2)
    assert mine.cutoff_angstrom == pytest.approx(10.0)
    crystal = cristobalite(2, displacement_angstrom=0.1, seed=4)
    one, two = (evaluate(crystal, model, directory=tmp_path).forces for model in (mine, bks))
    np.testing.assert_allclose(one, two, atol=1e-9)


@pytest.mark.engine
def test_files_of_a_snippet_come_along(tmp_path: Path) -> None:
    tersoff = builtin_potential("tersoff")
    source = Path(tersoff.commands[1].split('"')[1])
    there = tmp_path / "given"
    there.mkdir()
    (there / "mine.tersoff").write_bytes(source.read_bytes())
    (there / "in.pot").write_text("pair_style tersoff\npair_coeff * * mine.tersoff Si O # mine\n")
    product = take(tmp_path / "a product", there / "in.pot")
    assert json.loads((product / "potential.json").read_text())["commands"][1] == (
        "pair_coeff * * {directory}/mine.tersoff Si O"
    )
    (there / "mine.tersoff").unlink()
    crystal = cristobalite(2, displacement_angstrom=0.1, seed=4)
    models = (read_potential(product), tersoff)
    one, two = (evaluate(crystal, model, directory=tmp_path).forces for model in models)
    np.testing.assert_allclose(one, two, atol=1e-9)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("pair_style buck 5.0\npair_coeff 1 1 1000 0.3 0\n", EngineError, r"^lmp: ERROR.*pair coeff"),
        (
            "pair_style nonsense 5.0\npair_coeff * * 1\n",
            EngineError,
            "^lmp: ERROR: Unrecognized pair style 'nonsense'",
        ),
        (
            "pair_style zero 5.0\nshell rm -rf x\n",
            SuiteError,
            "2: found command 'shell', expected pair_style",
        ),
        (
            "# charges one two\npair_style zero 5.0\n",
            SuiteError,
            "1: found '# charges one two', expected two numbers",
        ),
        ("pair_coeff * *\n", SuiteError, "found no pair_style line"),
    ],
)
def test_refused_snippets(tmp_path: Path, text: str, error: type[SuiteError], message: str) -> None:
    snippet = tmp_path / "mine.lmp"
    snippet.write_text(text)
    with pytest.raises(error, match=message) as caught:
        take(tmp_path / "product", snippet)
    assert "\n" not in str(caught.value)


@pytest.mark.engine
def test_a_broken_model_is_refused_by_lammps(tmp_path: Path) -> None:
    model = tmp_path / "model.pb"
    model.write_bytes(b"not a graph")
    with pytest.raises(EngineError, match=r"^lmp: ERROR") as caught:
        take(tmp_path / "product", model)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed(tmp_path: Path) -> None:
    snippet = tmp_path / "mine.lmp"
    snippet.write_text("pair_style zero 5.0\npair_coeff * *\n")
    with pytest.raises(SuiteError, match=r"found sha256 .*, expected 00"):
        take(tmp_path / "product", snippet, sha256="00")
    with pytest.raises(SuiteError, match=r"absent\.pb: not found"):
        take(tmp_path / "product", tmp_path / "absent.pb")
