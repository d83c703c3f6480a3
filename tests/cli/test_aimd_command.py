"""From starts to a deposited, rechecked set by the commands alone; and the plans and refusals on the way."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from jobs.base.errors import EngineError, SuiteError
from jobs.base.frames import read_extxyz
from jobs.cli.first_principles import aimd
from jobs.cli.first_principles.recheck import Drawn, compare, draw
from jobs.cli.main import main
from jobs.engines.first_principles import cp2k
from jobs.reference.sets import read_run, read_set
from jobs.reference.stage_products import longest_stretch, read_products
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "basis": "SZV-MOLOPT-SR-GTH",
    "cutoff_Ry": 100,
    "rel_cutoff_Ry": 25,
    "eps_default": 1.0e-9,
    "eps_scf": 1.0e-5,
    "max_scf": 20,
    "outer_max_scf": 5,
}
JUDGE = ("--use", "judge", "--unequilibrated", "0")
POSITIONS = np.array([[2.5, 2.5, 2.5], [4.02, 2.6, 2.5], [0.98, 2.45, 2.62]])
try:
    cp2k.find_cp2k()
    INSTALLED = True
except EngineError:
    INSTALLED = False


def frame_text(comment: str, *, forces: bool = False, shift: float = 0.0) -> str:
    columns = "species:S:1:pos:R:3" + (":forces:R:3" if forces else "")
    text = f'3\nLattice="5 0 0 0 5 0 0 0 5" Properties={columns} {comment} pbc="T T T"\n'
    for species, row in zip(("Si", "O", "O"), POSITIONS + np.array([shift, 0, 0]), strict=True):
        text += f"{species} {row[0]:.6f} {row[1]} {row[2]}" + (" 0.1 -0.1 0.2" if forces else "") + "\n"
    return text


def starts_file(path: Path, *starts: tuple[int, float]) -> Path:
    path.write_text(
        "".join(
            frame_text(f"replica={replica} temperature_K={kelvin:g} source=nnp", shift=0.01 * number)
            for number, (replica, kelvin) in enumerate(starts)
        )
    )
    return path


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main(["aimd", *map(str, arguments), "--dry-run"]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_label_is_estimated_as_a_cold_single_point_and_steps_as_steps(tmp_path, capsys):
    """Of 96 atoms 52 s and 15 s (docs/notes/first-principles-measured.md), by the cube of their number."""
    scale = (3 / 96) ** 3 / 3600
    file = starts_file(tmp_path / "starts.xyz", *((n, 3000.0) for n in range(1, 4)))
    parser = argparse.ArgumentParser()
    aimd.add_arguments(parser)

    def hours(*options):
        arguments = parser.parse_args([str(file), "--dry-run", *options])
        return sum(stage.core_seconds for stage in aimd.plan(arguments)) / 3600

    assert hours() == pytest.approx(3 * 52 * scale)
    assert hours("--mode", "short", "--steps", "100") == pytest.approx(3 * 100 * 15 * scale)


def test_starts_after_an_empty_line_are_starts(tmp_path, capsys):
    text = starts_file(tmp_path / "starts.xyz", (1, 3000.0)).read_text()
    joined = tmp_path / "joined.xyz"
    joined.write_text(text + "\n" + text.replace("replica=1", "replica=2") + " \n\n")
    assert any("of 2 starts (replicas 1, 2)" in line for line in planned(capsys, joined))


def product(store: Store, text: str, *, seed: int = 1, **changes: Any) -> Path:
    """A finished aimd product with these frames, sealed by the store like any other."""
    parameters = {"mode": "short", "engine": "cp2k", "steps": 9, "relaxation_steps": 0, "sha256": "0"}
    stage = Stage("aimd", "by hand", parameters, seed=seed)
    store.prepare()
    directory = store.part(stage.name)
    (directory / "decks").mkdir(parents=True)
    (directory / "decks" / "start-0.inp").write_text(f"deck of {seed}\n  PRECONDITIONER FULL_ALL\n")
    (directory / "frames.xyz").write_text(text)
    about = {
        "mode": "short",
        "source": "nnp",
        "engine": "cp2k",
        "engine_version": "2023.1",
        "functional": "PBE",
        "settings": SETTINGS,
        "timestep_fs": 1.0,
        "ensemble": "nvt",
        "thermostat": "csvr",
        "damping_fs": 50.0,
        "frames": text.count("Lattice"),
        "refused": 0,
    }
    (directory / "aimd.json").write_text(json.dumps(about | changes))
    workspace = Workspace(parameters, seed, {}, directory)
    store.finish(Recipe.of(stage), workspace, wall_seconds=1.0)
    return store.path(stage.name)


def trajectory(replica: int, steps: list[int]) -> str:
    return "".join(
        frame_text(
            f"replica={replica} temperature_K=3000 energy={-900 - 0.01 * step} step={step}",
            forces=True,
            shift=0.01 * step,
        )
        for step in steps
    )


def deposit(root: Path, *arguments: object) -> int:
    return main(["deposit", "--root", str(root), *map(str, arguments)])


class TestPlan:
    def test_labels_of_one_melt_stay_together(self, tmp_path, capsys):
        file = starts_file(tmp_path / "starts.xyz", *((r, 2000) for r in (1, 1, 2, 3, 3, 3, 4)))
        lines = planned(capsys, file, "--per-stage", 2, "--store", tmp_path / "store")
        told = [line.split("labels of ")[1].split(":")[0] for line in lines[:-1]]
        assert told == [
            "2 starts (replicas 1)",
            "1 starts (replicas 2)",
            "3 starts (replicas 3)",
            "1 starts (replicas 4)",
        ]
        assert not (tmp_path / "store").exists()

    def test_settings_that_were_not_timed_are_named(self, tmp_path, capsys):
        file = starts_file(tmp_path / "starts.xyz", (1, 2000))
        for options, timed in (
            ((), True),
            (("--settings", "md"), True),
            (("--settings", "tight"), False),
            (("--engine", "espresso"), False),
        ):
            said = planned(capsys, file, *options)[-1]
            assert ("1 stages, about" in said) == timed
            assert ("was timed" in said) != timed

    def test_where_the_store_is_does_not_matter(self, tmp_path, capsys):
        file = starts_file(tmp_path / "starts.xyz", (1, 2000))
        here = planned(capsys, file, "--store", tmp_path / "a")
        assert planned(capsys, file, "--store", tmp_path / "b") == here
        assert planned(capsys, file, "--settings", "tight") != here

    def test_short_runs_by_temperature(self, tmp_path, capsys):
        file = starts_file(tmp_path / "starts.xyz", (1, 2000), (1, 3000), (2, 2000))
        run = ("--mode", "short", "--steps", 10)
        assert [line.split(": ")[0].split("  ")[1] for line in planned(capsys, file, *run)[:-1]] == [
            "short of 2 starts (replicas 1, 2)",
            "short of 1 starts (replicas 1)",
        ]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--steps", "5"], "--steps needs --mode short or stepwise"),
            (["--seed", "2"], "--seed needs --mode short or stepwise"),
            (["--mode", "short"], "--mode short needs --steps"),
            (["--mode", "short", "--steps", "5", "--temperature-K", "3000"], "found two starts of replica 1"),
            (["--mode", "stepwise", "--steps", "5"], "--mode stepwise needs --temperature-K"),
            (["--settings", "best"], "found 'best', expected default, md, tight, tzvp or a .yml file's path"),
            (["--settings", "none.yml"], "none.yml: found no such file"),
            (
                ["--mode", "short", "--steps", "5", "--ensemble", "nve", "--thermostat", "csvr"],
                "--thermostat needs --ensemble nvt",
            ),
        ],
    )
    def test_refusals_are_one_line(self, tmp_path, capsys, options, message):
        file = starts_file(tmp_path / "starts.xyz", (1, 2000), (1, 3000))
        assert main(["aimd", str(file), "--dry-run", *options]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "found no start"),
            (frame_text("temperature_K=2000"), "frame 1: found replica=None"),
            (frame_text("replica=1 source=nnp"), "found a start without temperature_K="),
            (frame_text("replica=1 temperature_K=2000"), "found source None, expected one of bks, nnp"),
            (
                frame_text("replica=1 temperature_K=2000")[:-40],
                "frame 1: found 1 atoms, expected 3: truncated",
            ),
            (
                frame_text("replica=1 temperature_K=2000 source=nnp").replace(
                    'Lattice="5 0 0 0 5 0 0 0 5" ', ""
                ),
                "frame 1: found no cell, expected Lattice=",
            ),
            (
                frame_text("replica=1 temperature_K=2000 source=nnp").replace("2.6", "abc"),
                "frame 1: found no extended XYZ",
            ),
            (
                frame_text("replica=1 temperature_K=2000 source=nnp").replace("Si ", "Ge "),
                "frame 1: found species Ge",
            ),
            (
                frame_text("replica=1 temperature_K=2000 source=nnp").replace("4.02", "2.52"),
                "frame 1: found atoms 0.10 A apart, expected at",
            ),
            (
                frame_text("replica=1 temperature_K=2000 source=nnp").replace("4.020000", "nan"),
                "frame 1: found atoms nan A apart, expected at",
            ),
        ],
    )
    def test_starts_are_checked_before_any_work(self, tmp_path, capsys, text, message):
        file = tmp_path / "starts.xyz"
        file.write_text(text)
        assert main(["aimd", str(file), "--store", str(tmp_path / "store")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "store").exists()


class TestDepositFromStage:
    def test_products_say_what_made_them(self, tmp_path):
        store = Store(tmp_path / "store")
        first = product(store, trajectory(1, list(range(8))))
        second = product(store, trajectory(2, list(range(8))), seed=2)
        root = tmp_path / "deposit"
        assert deposit(root, "--from-stage", first, "--name", "s", *JUDGE) == 0
        assert deposit(root, "--from-stage", second, "--name", "s", *JUDGE, "--append") == 0
        found = read_set("s", root=root)
        assert [run.id for run in found.runs] == ["nnp-1-3000K", "nnp-2-3000K"]
        facts = found.facts
        assert (facts["engine"], facts["basis"], facts["thermostat"]) == (
            "CP2K",
            SETTINGS["basis"],
            "CSVR 50 fs",
        )
        assert facts["settings"]["cutoff_Ry"] == "100"
        assert facts["settings"]["pseudopotential"] == "GTH-PBE"
        assert facts["settings"]["scf"] == "OT-DIIS-FULL_ALL", "as the decks say"
        assert facts["timestep_fs"] == 1.0
        assert [deck["file"] for deck in facts["decks"]] == [
            f"decks/{path.name}.inp" for path in (first, second)
        ]
        assert first.name in facts["provenance"][0]
        # Both at once are the same set.
        assert deposit(root, "--from-stage", first, second, "--name", "t", *JUDGE) == 0
        assert [run.id for run in read_set("t", root=root).runs] == [run.id for run in found.runs]

    def test_same_product_again_is_refused_in_one_line(self, tmp_path, capsys):
        store, root = Store(tmp_path / "store"), tmp_path / "deposit"
        made = product(store, trajectory(1, list(range(8))))
        options = ("--from-stage", made, "--name", "s", *JUDGE)
        assert deposit(root, *options) == 0
        assert deposit(root, *options, "--append") == 2
        said = capsys.readouterr().err
        assert "found run nnp-1-3000K, expected a run that the set does not have yet" in said
        assert len(said.splitlines()) == 1
        assert deposit(root, "--from-stage", made, made, "--name", "t", *JUDGE) == 2
        assert "found it twice" in capsys.readouterr().err

    def test_longest_stretch_without_a_gap_is_deposited(self, tmp_path, capsys):
        store, root = Store(tmp_path / "store"), tmp_path / "deposit"
        steps = [0, 1, 2, 4, 5, 6, 7, 9]
        made = product(store, trajectory(1, steps) + trajectory(2, [0, 1, 2, 3]))
        assert deposit(root, "--from-stage", made, "--name", "s", *JUDGE) == 0
        assert "4 frames beyond steps whose SCF failed were left out" in capsys.readouterr().out
        found = read_set("s", root=root)
        assert [run.frames for run in found.runs] == [4, 4]
        kept = read_run(found, "nnp-1-3000K")
        np.testing.assert_allclose(kept.energies_eV, [-900 - 0.01 * step for step in (4, 5, 6, 7)])
        assert "4 frames beyond" in found.facts["provenance"][0]

    @pytest.mark.parametrize(
        ("steps", "longest"),
        [
            ([3], [3]),
            ([0, 1, 2], [0, 1, 2]),
            ([0, 2, 3], [2, 3]),
            ([0, 1, 3, 4], [0, 1]),
            ([5, 0, 1], [0, 1]),
        ],
    )
    def test_longest_stretch(self, steps, longest):
        assert longest_stretch(steps) == longest

    def test_refused_labels_are_counted_in_the_provenance(self, tmp_path, capsys):
        store, root = Store(tmp_path / "store"), tmp_path / "deposit"
        label = frame_text("replica=1 temperature_K=3000 energy=-900 gap_eV=1.5", forces=True)
        made = product(store, label, mode="labels", refused=2)
        assert deposit(root, "--from-stage", made, "--name", "s", "--use", "train") == 0
        said = "2 starts were refused (SCF not converged)"
        assert said in capsys.readouterr().out
        assert said in read_set("s", root=root).facts["provenance"][0]

    def test_single_points_of_a_sampler_name_it(self, tmp_path):
        store, root = Store(tmp_path / "store"), tmp_path / "deposit"
        label = frame_text("replica=1 temperature_K=3000 energy=-900", forces=True)
        made = product(store, label, mode="labels")
        options = ("--from-stage", made, "--name", "s", "--use", "judge", "--sampler", "deepmd-96")
        assert deposit(root, *options) == 0
        assert read_set("s", root=root).sampler["model"] == "deepmd-96"

    def test_a_trajectory_that_judges_says_where_equilibrium_begins(self, tmp_path, capsys):
        store, root = Store(tmp_path / "store"), tmp_path / "deposit"
        options = ("--from-stage", product(store, trajectory(1, [0, 1, 2])), "--name", "s", "--use", "judge")
        assert deposit(root, *options) == 2
        assert "use judge needs --unequilibrated: how many first frames" in capsys.readouterr().err
        assert deposit(root, *options, "--unequilibrated", "1") == 0

    def test_what_does_not_belong_together_is_refused(self, tmp_path):
        store = Store(tmp_path / "store")
        first = product(store, trajectory(1, [0, 1]))
        same = product(store, trajectory(1, [0, 1]), seed=2)
        other = product(store, trajectory(2, [0, 1]), seed=3, timestep_fs=2.0)
        with pytest.raises(SuiteError, match=r"found timestep_fs 2\.0, expected 1\.0 as in"):
            read_products([first, other])
        with pytest.raises(SuiteError, match="found replica 1 at 3000 K, expected each in one product"):
            read_products([first, same])
        with pytest.raises(SuiteError, match="found no finished aimd stage"):
            read_products([tmp_path])
        frames = first / "frames.xyz"
        frames.write_text(frames.read_text().replace("0.1", "0.2", 1))
        with pytest.raises(SuiteError, match="was changed and is not used"):
            read_products([first])

    def test_options_that_the_product_answers_are_refused(self, tmp_path, capsys):
        made = product(Store(tmp_path / "store"), trajectory(1, [0, 1]))
        options = ("--from-stage", made, "--name", "s", "--use", "judge", "--engine", "VASP")
        assert deposit(tmp_path, *options) == 2
        assert "--engine says nothing with --from-stage" in capsys.readouterr().err


class TestRecheck:
    def test_differences_are_those_put_in(self):
        """Known differences of forces and energies come out, without the zero of energy and the net force."""
        types = np.array([0, 1, 1], np.int8)
        old = [
            Drawn("r", n, 3000.0, types, POSITIONS, np.eye(3) * 5, -900.0 + n, np.zeros((3, 3)))
            for n in (0, 1)
        ]
        push = np.array([[0.02, 0, 0], [-0.01, 0, 0], [-0.01, 0, 0]])
        text = ""
        for n, energy in ((0, -800.0), (1, -799.0 + 0.006)):
            moved = push + np.array([0, 0.5 * n, 0])
            text += (
                '3\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 temperature_K=1 '
            )
            text += f"energy={energy}\n"
            for species, row, force in zip(("Si", "O", "O"), POSITIONS, moved, strict=True):
                text += f"{species} {' '.join(map(str, [*row, *force]))}\n"
        result = compare(old, list(_read(text)))
        assert result["force_rms_meV_A_by_species"]["Si"] == pytest.approx(20 / np.sqrt(3))
        assert result["force_rms_meV_A_by_species"]["O"] == pytest.approx(10 / np.sqrt(3))
        assert result["force_rms_meV_A"] == pytest.approx(np.sqrt((20**2 + 2 * 10**2) / 9))
        assert result["frames_with_gap"] == 0, "their gap is not known"
        assert result["energy_offset_meV_atom"] == pytest.approx((100_000 + 3) / 3)
        assert [row["energy_meV_atom"] for row in result["frames"]] == pytest.approx([-1.0, 1.0])

    def test_frames_are_spread_over_temperatures(self):
        drawn = draw(read_set("pbe-96-bks-singlepoints"), 6)
        kelvins = [frame.temperature_K for frame in drawn]
        assert kelvins == sorted(kelvins)
        assert kelvins[0] < 3000 < 4500 < kelvins[-1]
        assert len({(frame.run, frame.frame) for frame in drawn}) == 6

    def test_a_gap_can_be_asked_for(self, capsys):
        deposited = read_set("pbe-96-nnp-2.20")
        drawn = draw(deposited, 10, smallest_gap_eV=0.2)
        assert min(frame.gap_eV for frame in drawn) >= 0.2
        assert min(frame.gap_eV for frame in draw(deposited, 10)) < 0.2
        many = sum(run.smallest_gap_eV >= 0.2 for run in deposited.runs)
        options = ("--frames", str(many + 1), "--smallest-gap", "0.2", "--dry-run")
        assert main(["recheck", "pbe-96-nnp-2.20", *options]) == 2
        assert f"expected 1 to {many}, the frames of pbe-96-nnp-2.20 with a gap of at least 0.2 eV" in (
            capsys.readouterr().err
        )

    def test_dry_run_writes_nothing(self, tmp_path, capsys):
        options = ("--frames", "3", "--dry-run", "--store", str(tmp_path / "store"))
        assert main(["recheck", "pbe-96-nnp-singlepoints", *options]) == 0
        assert "3 stages" in capsys.readouterr().out
        assert not (tmp_path / "store").exists()

    def test_more_frames_than_there_are(self, capsys):
        assert main(["recheck", "pbe-96-nnp-singlepoints", "--frames", "100", "--dry-run"]) == 2
        assert "found 100, expected 1 to 5" in capsys.readouterr().err


def _read(text: str):
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".xyz") as handle:
        handle.write(text)
        handle.flush()
        yield from read_extxyz(Path(handle.name))


@pytest.mark.engine
@pytest.mark.skipif(not INSTALLED, reason="CP2K is not installed; see docs/first-principles.md")
def test_from_starts_to_a_rechecked_set(tmp_path):
    """aimd, deposit, append, recheck as a person types them, by CP2K on SiO2 molecules."""

    def command(*arguments: object) -> str:
        line = [sys.executable, "-m", "jobs", *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    starts = starts_file(tmp_path / "starts.xyz", (1, 2000), (2, 3000))
    own, finer = tmp_path / "own.yml", tmp_path / "finer.yml"
    own.write_text(yaml.safe_dump(SETTINGS))
    finer.write_text(yaml.safe_dump({**SETTINGS, "cutoff_Ry": 200, "rel_cutoff_Ry": 40}))
    store, root = tmp_path / "store", tmp_path / "deposit"
    compute = ("aimd", starts, "--settings", own, "--per-stage", 1, "--store", store, "--cores", 1)
    said = command(*compute).splitlines()
    products = [Path(line.split(":")[0]) for line in said[:2]]
    assert [line.endswith(": 1 frames, 0 refused") for line in said] == [True, True, False]
    assert f"--from-stage {products[0]} {products[1]} " in said[2]
    # Everything is there already: the same command only says so.
    assert command(*compute).splitlines() == said
    to_set = ("--name", "molecules", "--use", "train", "--root", root)
    command("deposit", "--from-stage", products[0], *to_set)
    command("deposit", "--from-stage", products[1], "--append", *to_set)
    assert [run.id for run in read_set("molecules", root=root).runs] == ["nnp-1", "nnp-2"]
    out = tmp_path / "check.json"
    again = (
        "recheck",
        "molecules",
        "--root",
        root,
        "--frames",
        2,
        "--store",
        store,
        "--output",
        out,
        "--cores",
        1,
    )
    # The very same settings: only the rounding of the deposit and the mean force of a frame are left.
    line = command(*again, "--frames", 1, "--settings", own)
    same = json.loads(out.read_text())
    assert same["force_rms_meV_A"] < 1.0
    assert f"{same['force_rms_meV_A']:.1f} meV/A rms" in line
    command(*again, "--frames", 2, "--settings", finer)
    different = json.loads(out.read_text())
    assert different["force_rms_meV_A"] > 5 * same["force_rms_meV_A"]
    assert [row["temperature_K"] for row in different["frames"]] == [2000.0, 3000.0]
    assert different["again"]["settings"]["cutoff_Ry"] == 200
    assert different["deposited"]["settings"]["cutoff_Ry"] == "100"
