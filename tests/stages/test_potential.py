"""A potential of one's own: taken in, tried, or refused with one line."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import cristobalite
from jobs.engines.hdnnp.n2p2_files import write_network
from jobs.engines.lammps.native.build import why_unavailable
from jobs.engines.lammps.potential import Potential, builtin_potential, read_potential
from jobs.engines.lammps.program import evaluate
from jobs.engines.lammps.snippets import read_snippet
from jobs.reference.potentials import MODELS, imported_potential, potential_sha256
from jobs.stages.potentials import potential
from jobs.stages.potentials.first_look import alpha_quartz, first_look
from jobs.store.workspace import Workspace
from tests.helpers.hdnnp_tools import random_network


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
            "lmp: found no pair style 'nonsense', expected LAMMPS with it: SILICA_LMP names another one",
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


def test_a_folder_that_is_none_of_n2p2(tmp_path: Path) -> None:
    (tmp_path / "scaling.data").touch()
    expected = r"found a folder without input\.nn, expected one with n2p2's input\.nn, scaling\.data, weights"
    with pytest.raises(SuiteError, match=expected) as caught:
        imported_potential(tmp_path, "mine")
    assert "\n" not in str(caught.value)
    with pytest.raises(SuiteError, match=r"absent: not found, expected a TensorFlow \.pb model"):
        imported_potential(tmp_path / "absent", "mine")


@pytest.mark.engine
@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_forces_of_n2p2s_files_are_those_that_lammps_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, product = tmp_path / "n2p2", tmp_path / "product"
    given.mkdir()
    write_network(random_network(), given, comment="a test's")
    workspace = Workspace(
        {"name": "mine", "file": str(given), "sha256": potential_sha256(given)},
        seed=1,
        inputs={},
        directory=product,
    )
    product.mkdir()
    potential.run(workspace)
    assert 0 < workspace.facts["float32_force_rms_eV_A"] < 2e-5

    def off(*arguments: Any, **options: Any) -> Any:
        found = evaluate(*arguments, **options)
        return replace(found, forces=found.forces + 2e-3)

    monkeypatch.setattr(potential, "evaluate", off)
    expected = f"^{given}: found forces 2.0e-03 eV/A rms off .*, expected at most 1e-03$"
    with pytest.raises(EngineError, match=expected):
        potential.run(workspace)


BUCKINGHAM = """pair_coeff 1 1 0.0 1.0 0.0
pair_coeff 1 2 18003.7572 0.205205 133.5381
pair_coeff 2 2 1388.7730 0.362319 175.0
"""
CHARGES = "# charges 2.4 -1.2\n"


def snippet(directory: Path, text: str) -> Path:
    path = directory / "mine.lmp"
    path.write_text(text)
    return path


class TestSnippets:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("pair_style deepmd m.pb\npair_coeff * * O Si\n", "O Si"),
            ("pair_style tersoff\npair_coeff * * SiO.tersoff O Si\n", "O Si"),
            ("pair_style sw\npair_coeff * * &\n  SiO.sw &\n  O Si\n", "O Si"),
            ("pair_style vashishta\npair_coeff * * f.vashishta o si\n", "O Si"),
            ("pair_style vashishta\npair_coeff * * f.vashishta Si Si\n", "Si Si"),
            ("pair_style deepmd m.pb\npair_coeff * * Si O O\n", "Si O O"),
            ("pair_style hybrid/overlay zero 5 sw\npair_coeff * * zero\npair_coeff * * sw f NULL Si\n",
             "NULL Si"),
            ("pair_style aenet\npair_coeff * * O.nn Si.nn\n", "O Si"),
            ("pair_style quip\npair_coeff * * gp.xml \"Potential xml_label=GAP\" 8 14\n", "O Si"),
            ("pair_style metatomic m.pt\npair_coeff * * 8 14\n", "O Si"),
            ("pair_style metatensor m.pt device cpu\npair_coeff * * O Si\n", "O Si"),
            ("pair_style metatomic m.pt\npair_coeff * * 14 14\n", "Si Si"),
            ("pair_style e3gnn\npair_coeff * * m.pt Si O Ge\n", "Si O Ge"),
            ("pair_style tersoff\npair_coeff * * SiC.tersoff Si C\n", "Si C"),
            ("pair_style deepmd m.pb\npair_coeff * * Si Si\n", "Si Si"),
            ("pair_style hdnnp 6.35 dir nnp emap \"1:O,2:Si\"\npair_coeff * *\n", "O Si"),
            ("pair_style nnp dir nnp emap \"2:Si, 1:O\" cflength 1.89\npair_coeff * * 6.35\n", "O Si"),
            ("pair_style nnp dir nnp emap \"1:Si,2:Si\"\npair_coeff * * 6.35\n", "Si Si"),
            ("pair_style hdnnp 6.35 dir nnp\npair_coeff * * O Si\n", "O Si"),
            ("pair_style hdnnp 6.35 dir \"nnp\" emap \"1:O,2:Si\"\npair_coeff * * hdnnp 1:O,2:Si\n", "O Si"),
        ],
    )  # fmt: skip
    def test_elements_in_another_order_are_refused(self, tmp_path, text, found):
        with pytest.raises(SuiteError, match=rf"mine\.lmp:\d: found elements {found}, expected Si O: types"):
            read_snippet(snippet(tmp_path, text))
        with pytest.raises(SuiteError, match="found elements"):
            imported_potential(snippet(tmp_path, text), "mine")  # before anything is planned

    @pytest.mark.parametrize(
        "text",
        [
            "pair_style deepmd m.pb\npair_coeff * *\n",
            "pair_style deepmd m.pb out_freq 100\npair_coeff * *\n",
            "pair_style hybrid/overlay deepmd m.pb zero 5\npair_coeff * * deepmd\npair_coeff * * zero\n",
            "pair_style mliap model unified m.pt 0\npair_coeff * *\n",
            "pair_style deepmd m.pb\npair_coeff 1*2 1*2\n",
            "pair_style deepmd m.pb\npair_coeff 1* *2\n",
            "pair_style metatomic m.pt\npair_coeff * *\n",
            "pair_style deepspin m.pb\npair_coeff * *\n",
            "pair_style mlip mlip.ini\npair_coeff * *\n",
            "pair_style unheard_of\npair_coeff * * m.pt\n",
            "pair_style hdnnp 6.35 dir nnp\npair_coeff * *\n",
        ],
    )
    def test_elements_that_are_not_named_stand_in_an_order_of_their_own(self, tmp_path, text):
        with pytest.raises(SuiteError, match="without elements, expected Si O at its end"):
            read_snippet(snippet(tmp_path, text))

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("pair_style eam\npair_coeff 1 1 O.eam\npair_coeff 2 2 Si.eam\n", "O for types 1 and 1"),
            ("pair_style table linear 9\npair_coeff 2 2 t.table Si-O\n", "Si for types 2 and 2"),
            ("pair_style table linear 9\npair_coeff 1 1 t.table OO\n", "O for types 1 and 1"),
            ("pair_style zbl 4 5\npair_coeff 1 1 8 8\npair_coeff 2 2 14 14\n", "O for types 1 and 1"),
            ("pair_style hybrid/overlay zero 5 zbl 4 5\npair_coeff 2 2 zbl 14 14\n", "Si for types 2 and 2"),
        ],
    )
    def test_a_pair_of_types_that_names_others_is_refused(self, tmp_path, text, found):
        with pytest.raises(SuiteError, match=rf"mine\.lmp:2: found {found}, expected .*: types are 1 = Si"):
            read_snippet(snippet(tmp_path, text))

    @pytest.mark.parametrize(
        "text",
        [
            "pair_style tersoff\npair_coeff * * SiO.tersoff Si O # O Si\n",
            "pair_style hybrid/overlay gw sw\npair_coeff * * gw f Si NULL\npair_coeff * * sw g Si O\n",
            'pair_style quip\npair_coeff * * gp.xml "Potential xml_label=GAP" 14 8\n',
            "pair_style aenet\npair_coeff * * Si.nn O.nn\n",
            "pair_style metatomic m.pt\npair_coeff * * 14 8\n",
            "pair_style zbl 4 5\npair_coeff 1 1 14 14\npair_coeff 1 2 14 8\npair_coeff 2 2 8 8\n",
            "pair_style zero 5\npair_coeff * *\n",
            "pair_style buck 5\npair_coeff * * 0.0 1.0 0.0\n",
            "pair_style table linear 9\npair_coeff 1 2 SiO.table SiO\npair_coeff 1 1 SiO.table SiSi\n",
            'pair_style nnp dir "nnp" emap "1:Si,2:O"\npair_coeff * * 6.35\n',
            "pair_style hdnnp 6.35 dir nnp\npair_coeff * * Si O\n",
            "pair_style deepmd m.pb\npair_coeff 1*2 1*2 Si O\n",
            "pair_style table linear 9\npair_coeff 1 1 Si-Si.table Si-Si\npair_coeff 1 2 Si-O.table Si-O\n"
            "pair_coeff 2 2 coul.table O\n",
        ],
    )
    def test_the_right_order_in_many_words(self, tmp_path, text):
        assert read_snippet(snippet(tmp_path, text)).charges is None

    @pytest.mark.parametrize(
        "style",
        [
            "buck/coul/cut 10.0",
            "buck/coul/long 10.0",
            "born/coul/wolf 0.25 10.0",
            "lj/cut/coul/dsf 0.05 10.0",
            "hybrid/overlay buck 10.0 coul/long 10.0",
            "zero 10.0\nkspace_style pppm 1.0e-5",
        ],
    )
    def test_coulomb_styles_need_charges(self, tmp_path, style):
        text = f"pair_style {style}\n{BUCKINGHAM}"
        with pytest.raises(SuiteError, match="and no charges, expected them in a comment"):
            read_snippet(snippet(tmp_path, text))
        assert read_snippet(snippet(tmp_path, CHARGES + text)).charges == (2.4, -1.2)

    @pytest.mark.parametrize("style", ["comb", "reaxff NULL", "coul/streitz 12.0 ewald"])
    def test_charges_that_move_are_refused(self, tmp_path, style):
        with pytest.raises(SuiteError, match="whose charges move by a fix, expected a style without one"):
            read_snippet(snippet(tmp_path, f"{CHARGES}pair_style {style}\npair_coeff * * f Si O\n"))

    @pytest.mark.parametrize(
        ("comment", "message"),
        [
            ("# charges: 2.4 -1.2", "expected two numbers, as '# charges 2.4 -1.2'"),
            ("# charges 2.4", "expected two numbers"),
            ("#charges Si 2.4 O -1.2", "expected two numbers"),
            ("# charge 2.4 -1.2", "expected two numbers"),
            ("# Charges 2,4 -1,2", "expected two numbers"),
            ("# charges 2.4 -1.2 of BKS", "expected two numbers"),
            ("# charges nan -1.2", "expected SiO2 to be neutral"),
            ("# charges -1.2 2.4", "found charges -1.2 of Si and 2.4 of O, expected SiO2 to be neutral"),
            ("# charges 2.4 -1.2\n# charges 1.2 -0.6", "2: found charges a second time"),
        ],
    )
    def test_comments_that_look_like_charges_must_be_them(self, tmp_path, comment, message):
        path = snippet(tmp_path, f"{comment}\npair_style buck/coul/long 10.0\n{BUCKINGHAM}")
        with pytest.raises(SuiteError, match=message):
            read_snippet(path)

    def test_charges_behind_a_command_and_lines_that_go_on(self, tmp_path):
        text = "pair_style buck/coul/long &\n 10.0 # Charges 2.4 -1.2\n" + BUCKINGHAM
        found = read_snippet(snippet(tmp_path, text))
        assert found.charges == (2.4, -1.2)
        assert found.commands[0] == ("pair_style", "buck/coul/long", "10.0")
        with pytest.raises(SuiteError, match="found '&' at its end"):
            read_snippet(snippet(tmp_path, text + "pair_modify shift &\n"))


def _exchanged(command: str) -> str:
    """A pair_coeff for types 1 = O and 2 = Si."""
    return re.sub(r"(?<=pair_coeff )(1 1|2 2)", lambda m: {"1 1": "2 2", "2 2": "1 1"}[m[0]], command)


def _in_kcal(command: str) -> str:
    """Buckingham's energies as LAMMPS' `real` units have them."""
    words = command.split()
    if words[3:4] == ["buck/coul/long"]:
        words[4], words[6] = (f"{float(words[k]) * 23.06}" for k in (4, 6))
    return " ".join(words)


@pytest.mark.engine
class TestFirstLook:
    """Real numbers of LAMMPS, before anything long is computed."""

    def test_quartz_is_quartz(self):
        quartz = alpha_quartz()
        assert quartz.density_g_cm3 == pytest.approx(2.65, abs=0.01)
        delta = quartz.positions[:, None] - quartz.positions[None]
        delta -= quartz.edges * np.rint(delta / quartz.edges)
        bonds = np.linalg.norm(delta, axis=-1)[quartz.types == 0][:, quartz.types == 1]
        assert ((bonds > 1.59) & (bonds < 1.63)).sum(axis=1).tolist() == [4] * 6

    def test_bks(self, tmp_path):
        found = first_look(builtin_potential("bks"), directory=tmp_path)
        assert found.quartz_eV_SiO2 == pytest.approx(-58.0, abs=0.5)
        # Heat and disorder; the frames are PBE's, strained for BKS.
        assert 1.0 < found.liquid_eV_SiO2 - found.quartz_eV_SiO2 < 4.0
        assert 0.5 < found.off / found.pbe_rms < 1.0
        assert found.correlation > 0.75

    def test_exchanged_elements_and_wrong_units_stand_out(self, tmp_path):
        right = builtin_potential("bks")
        assert "no better" not in first_look(right, directory=tmp_path).line("x")
        swapped = tuple(_exchanged(command) for command in right.commands)
        wrong = first_look(replace(right, commands=swapped, charges=(-1.2, 2.4)), directory=tmp_path)
        assert "are units, charges and the order Si O right?" in wrong.line("x")
        kcal = tuple(_in_kcal(command) for command in right.commands)
        found = first_look(replace(right, commands=kcal), directory=tmp_path)
        assert found.rms > 5 * found.pbe_rms
        assert "no better than none at all" in found.line("x")

    def test_a_network_shows_how_near_it_is(self, tmp_path):
        model = next(MODELS.glob("*/model.pb"))
        lines = (f"pair_style deepmd {model}", "pair_coeff * * Si O")
        found = first_look(Potential("x", "deepmd", lines, None, 6.0), directory=tmp_path)
        assert found.off < 0.2 * found.pbe_rms

    def test_the_line_reaches_whoever_waits(self, tmp_path, capsys):
        from jobs.running.local import run
        from jobs.store.store import Store

        text = CHARGES + "pair_style buck/coul/long 10.0\n" + BUCKINGHAM + "kspace_style ewald 1.0e-5\n"
        stage = imported_potential(snippet(tmp_path, text), "mine")
        store = Store(tmp_path / "store")
        run([stage], store)
        said = " ".join("".join(capsys.readouterr()).split())
        assert "note: mine: quartz -5" in said
        assert "eV per SiO2, 4 frames of liquid at 3000 K -5" in said
        assert "where its forces are" in said
        assert store.manifest(stage.name)["facts"]["first_look"]["pbe_rms"] == pytest.approx(2.594, abs=1e-3)
