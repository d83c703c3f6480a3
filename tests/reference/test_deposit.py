"""The deposit: what goes in comes out, wrong things do not go in, and a changed byte is found."""

import argparse
import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.frames import Frame, read_extxyz
from jobs.base.silica import MASSES_AMU, perpendicular_widths
from jobs.cli.data import deposit as deposit_command
from jobs.reference import deposit, set_writer
from jobs.reference.sets import (
    DEPOSIT,
    iter_run,
    iter_runs,
    list_sets,
    read_run,
    read_set,
    summary,
    verify_set,
)

SETS = ("pbe-96-aimd-3000K", "pbe-96-bks-singlepoints")
DESCRIPTION = {
    "use": "train",
    "engine": "CP2K",
    "engine_version": "2023.1",
    "functional": "PBE",
    "basis": "DZVP",
    "settings": {"cutoff_Ry": "280"},
    "start": "bks",
    "licence": "CC0-1.0",
    "provenance": "a test",
    "decks": [],
}
TRAJECTORY = {**DESCRIPTION, "kind": "trajectory", "thermostat": "none", "timestep_fs": 2.0}
SINGLE = {
    **DESCRIPTION,
    "kind": "singlepoints",
    "thermostat": None,
    "timestep_fs": None,
    "unequilibrated_frames": 0,
}


def real_frames(count, *, name="pbe-96-aimd-3000K", replica="4"):
    """Deposited frames as a reader gives them."""
    out = []
    for _, part in iter_runs(read_set(name)):
        for k in range(len(part)):
            out.append(
                Frame(
                    types=part.types,
                    positions=part.positions[k],
                    cell=part.cells[k],
                    energy_eV=float(part.energies_eV[k]),
                    forces=part.forces[k],
                    velocities=None if part.velocities is None else part.velocities[k],
                    temperature_K=float(part.temperatures_K[k]),
                    info={"replica": replica, "step": str(len(out))},
                )
            )
            if len(out) == count:
                return out
    return out


def write_extxyz(path, frames, *, edit=lambda lines: lines):
    """An extended XYZ file of frames with every digit; `edit` changes its lines."""
    lines = []
    for frame in frames:
        cell = " ".join(repr(float(x)) for x in frame.cell.ravel())
        extra = " ".join(f"{k}={v}" for k, v in frame.info.items())
        lines.append(str(len(frame.types)))
        lines.append(
            f'Lattice="{cell}" Properties=species:S:1:pos:R:3:velocities_A_per_fs:R:3:forces:R:3 '
            f'temperature_K={frame.temperature_K:g} energy={frame.energy_eV!r} {extra} pbc="T T T"'
        )
        for species, *numbers in zip(
            [("Si", "O")[t] for t in frame.types],
            frame.positions,
            frame.velocities,
            frame.forces,
            strict=True,
        ):
            lines.append(" ".join([species, *(repr(float(x)) for x in np.concatenate(numbers))]))
    path.write_text("\n".join(edit(lines)) + "\n")
    return path


def deposit_file(path, root, **changes):
    options = {**TRAJECTORY, "unequilibrated_frames": 1, "name": "t", "source": str(path), **changes}
    return deposit.deposit(read_extxyz(path), root=root, **options)


def nothing_left(root):
    return not root.exists() or not list(root.iterdir())


# What is deposited now ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_deposited_set_is_whole_and_physical(name):
    deposited = read_set(name)
    verify_set(deposited)
    total = 0
    for run, part in iter_runs(deposited):
        total += len(part)
        assert part.types.tolist() == [0] * 32 + [1] * 64
        assert np.abs(part.forces.mean(axis=1)).max() < 1e-4
        assert 2.0 < part.forces.std() < 4.5
        assert np.all(np.abs(part.energies_eV / 96 + 327.3) < 0.6)
        assert set(part.temperatures_K) <= set(run.temperatures_K)
    assert total == deposited.frames


def test_trajectory_positions_move_by_their_velocities_and_have_the_temperature():
    deposited = read_set("pbe-96-aimd-3000K")
    whole = read_run(deposited, "bks-4-3000K")
    assert len(whole) == 195
    time_fs = deposited.facts["timestep_fs"] * deposited.facts["steps_between_frames"]
    moved = (whole.positions[2:] - whole.positions[:-2]) / (2 * time_fs)
    # central differences at 2 fs of a 30 fs vibration lag by about (2 pi 2 / 30)^2 / 6 = 3 %
    assert np.abs(moved - whole.velocities[1:-1]).max() < 0.06 * np.abs(whole.velocities).max()
    kinetic = (np.asarray(MASSES_AMU)[whole.types][:, None] * whole.velocities**2).sum(axis=(1, 2))
    temperature = kinetic * 103.642697 / (3 * 95 * 8.617333e-5)  # amu A2/fs2 -> eV
    assert deposited.run("bks-4-3000K").unequilibrated_frames == 60
    assert temperature[20:30].mean() < 2700 < temperature[60:].mean() < 3300


def test_deposit_is_small_and_names_its_licence():
    files = [p for p in DEPOSIT.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < deposit.MAX_DEPOSIT_BYTES
    assert all(row["licence"] == "CC0-1.0" for row in map(summary, list_sets()))
    trajectory = read_set("pbe-96-aimd-3000K").directory / "runs"
    per_atom_frame = sum(p.stat().st_size for p in trajectory.iterdir()) / 195 / 96
    assert per_atom_frame * 10_000 * 216 < deposit.MAX_DEPOSIT_BYTES


# Round trip -----------------------------------------------------------------------------------------


def test_round_trip_error_is_far_below_the_force_noise(tmp_path):
    random = np.random.default_rng(1)
    original = real_frames(6)
    noisy = [
        Frame(
            types=f.types,
            positions=f.positions + random.uniform(-5e-6, 5e-6, (96, 3)),
            cell=f.cell,
            energy_eV=f.energy_eV,
            forces=(g := f.forces + random.uniform(-1e-3, 1e-3, (96, 3))) - g.mean(axis=0),
            velocities=f.velocities + random.uniform(-5e-7, 5e-7, (96, 3)),
            temperature_K=f.temperature_K,
            info=f.info,
        )
        for f in original
    ]
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", noisy), tmp_path / "root")
    back = read_run(deposited, "bks-4-3000K")
    force_noise = 8e-3
    force_error = back.forces - np.array([f.forces for f in noisy])
    assert np.sqrt(np.mean(force_error**2)) < force_noise / 200
    stiffest_bond = 60.0  # eV/A2
    position_error = back.positions - np.array([f.positions for f in noisy])
    assert np.sqrt(np.mean(position_error**2)) * stiffest_bond < force_noise / 20
    velocities = np.array([f.velocities for f in noisy])
    assert np.abs(back.velocities - velocities).max() < 1e-3 * velocities.std()
    assert back.energies_eV.tolist() == [f.energy_eV for f in noisy]
    np.testing.assert_array_equal(back.cells, [f.cell for f in noisy])


def test_atoms_are_sorted_and_net_force_is_subtracted(tmp_path):
    frames = real_frames(3)
    order = np.random.default_rng(0).permutation(96)
    mixed = [
        Frame(
            types=f.types[order],
            positions=f.positions[order],
            cell=f.cell,
            energy_eV=f.energy_eV,
            forces=f.forces[order] + [0.03, 0.0, -0.01],
            velocities=f.velocities[order],
            temperature_K=3000.0,
            info=f.info,
        )
        for f in frames
    ]
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", mixed), tmp_path / "root")
    back = read_run(deposited, "bks-4-3000K")
    assert (np.diff(back.types) >= 0).all()
    stable = order[np.argsort(frames[0].types[order], kind="stable")]
    np.testing.assert_allclose(back.positions, [f.positions[stable] for f in frames], atol=1e-5)
    np.testing.assert_allclose(back.forces, [f.forces[stable] for f in frames], atol=2e-4)
    assert deposited.facts["net_force"] == "subtracted from each frame"
    assert deposited.facts["largest_net_force_eV_A"] == pytest.approx(0.03, abs=1e-4)


def test_wrapped_trajectory_is_unwrapped(tmp_path):
    frames = real_frames(30)
    wrapped = [Frame(**{**f.__dict__, "positions": np.mod(f.positions, f.cell[0, 0])}) for f in frames]
    assert any(np.abs(w.positions - f.positions).max() > 5 for w, f in zip(wrapped, frames, strict=True))
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", wrapped), tmp_path / "root")
    back = read_run(deposited, "bks-4-3000K")
    given = np.array([f.positions for f in frames])
    np.testing.assert_allclose(back.positions - back.positions[0], given - given[0], atol=3e-5)


def test_same_frames_give_the_same_bytes(tmp_path):
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    first = deposit_file(path, tmp_path / "a")
    second = deposit_file(path, tmp_path / "b")
    assert first.sha256 == second.sha256


# Wrong inputs ---------------------------------------------------------------------------------------


def wrong(name, match):
    return pytest.param(name, match, id=name)


EDITS = {
    "truncated": lambda lines: lines[:-7],
    "truncated-line": lambda lines: [*lines[:-1], " ".join(lines[-1].split()[:6])],
    "nan-force": lambda lines: [*lines[:-1], " ".join([*lines[-1].split()[:-1], "nan"])],
    "infinite-position": lambda lines: [*lines[:-1], lines[-1].replace(lines[-1].split()[1], "inf", 1)],
    "nan-energy": lambda lines: [line.replace("energy=-", "energy=nan ignored=") for line in lines],
    "species": lambda lines: [*lines[:-1], lines[-1].replace("O ", "Al ", 1)],
    "unconverged": lambda lines: [
        *lines[:99],
        lines[99].replace("energy=", "converged=F energy="),
        *lines[100:],
    ],
    "atom-count": lambda lines: [*lines[:98], "95", *lines[99:-1]],
    "step": lambda lines: [line.replace("step=2 ", "step=3 ") for line in lines],
    "text": lambda lines: ["silica", *lines],
    "empty": lambda lines: [],
}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        wrong("truncated", r"f.xyz: frame 3: found 89 atoms .* expected 96: truncated"),
        wrong("truncated-line", r"frame 3: found 956 values"),
        wrong("nan-force", r"frame 3: found force not finite at atom 96"),
        wrong("infinite-position", r"frame 3: found position not finite"),
        wrong("nan-energy", r"frame 1: found energy not finite"),
        wrong("species", r"frame 3: found species Al, expected only Si and O"),
        wrong("unconverged", r"frame 2: found converged=F"),
        wrong("atom-count", r"frame 2: found 32 Si 63 O, expected 32 Si 64 O"),
        wrong("step", r"frame 3: found step 3 after 1"),
        wrong("text", r"frame 1: found 'silica', expected the number of atoms"),
        wrong("empty", r"f.xyz: found no frame|frame 1: found"),
    ],
)
def test_wrong_file_is_refused_in_one_line_and_leaves_nothing(tmp_path, name, match):
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3), edit=EDITS[name])
    with pytest.raises(SuiteError, match=match) as caught:
        deposit_file(path, tmp_path / "root")
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path / "root")


def test_other_composition_in_one_set_is_refused(tmp_path):
    frames = real_frames(3)
    few = frames[1]
    frames[1] = Frame(
        types=few.types[:-3],
        positions=few.positions[:-3],
        cell=few.cell,
        energy_eV=few.energy_eV,
        forces=few.forces[:-3],
        velocities=few.velocities[:-3],
        temperature_K=3000.0,
        info=few.info,
    )
    with pytest.raises(SuiteError, match="frame 2: found 32 Si 61 O, expected 32 Si 64 O"):
        deposit_file(write_extxyz(tmp_path / "f.xyz", frames), tmp_path / "root")


def test_a_melt_that_judges_does_not_train(tmp_path):
    root = tmp_path / "root"
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    deposit_file(path, root, use="judge")
    with pytest.raises(SuiteError, match=r"t: found melt bks-4 to judge, expected it not to train as well"):
        deposit_file(path, root, name="other", use="train")
    assert [s.name for s in list_sets(root=root)] == ["t"]


def test_another_volume_is_a_set_of_its_own(tmp_path):
    root = tmp_path / "root"
    deposit_file(write_extxyz(tmp_path / "f.xyz", real_frames(3)), root)
    wide = [
        Frame(**{**frame.__dict__, "cell": 1.01 * frame.cell, "positions": 1.01 * frame.positions})
        for frame in real_frames(3, replica="5")
    ]
    path = write_extxyz(tmp_path / "g.xyz", wide)
    with pytest.raises(SuiteError, match=r"found 2\.135 g/cm3, expected 2\.2 as in t"):
        deposit_file(path, root, append=True)
    assert read_set("t", root=root).frames == 3
    assert deposit_file(path, root, name="wide").frames == 3


def test_spliced_trajectory_is_refused(tmp_path):
    frames = real_frames(3)
    frames[2] = Frame(**{**frames[2].__dict__, "positions": frames[2].positions[::-1]})
    with pytest.raises(SuiteError, match=r"frame 3: found an atom .* expected one continuous trajectory"):
        deposit_file(write_extxyz(tmp_path / "f.xyz", frames), tmp_path / "root")


def test_velocities_that_end_where_a_part_ends_are_refused(tmp_path):
    """The first 500 frames of a run are one file, and are written before frame 501 is seen."""
    (frame,) = real_frames(1)

    def frames():
        for step in range(set_writer.FRAMES_PER_PART + 1):
            changes = {"info": {**frame.info, "step": str(step)}}
            changes |= {"velocities": None} if step == set_writer.FRAMES_PER_PART else {}
            yield replace(frame, **changes)

    with pytest.raises(SuiteError, match=r"x: frame 501: found velocities in some frames of bks-4"):
        deposit.deposit(
            frames(), root=tmp_path / "root", name="t", source="x", unequilibrated_frames=1, **TRAJECTORY
        )
    assert nothing_left(tmp_path / "root")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "../x"}, "--name"),
        ({"use": "both"}, "--use: found 'both'"),
        ({"timestep_fs": None}, "expected --timestep-fs and --thermostat"),
        ({"decks": [Path("no.inp")]}, "no.inp: found no such deck"),
        ({"unequilibrated_frames": 3}, "found 3 frames, expected more than the 3 unequilibrated"),
        ({"append": True}, "found no such set"),
    ],
)
def test_wrong_description_is_refused(tmp_path, changes, match):
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    with pytest.raises(SuiteError, match=match):
        deposit_file(path, tmp_path / "root", **changes)
    assert nothing_left(tmp_path / "root")


def test_cap_is_kept(tmp_path, monkeypatch):
    """Of the project's own deposit; anybody else's may be as large as the disk."""
    monkeypatch.setattr(deposit, "MAX_DEPOSIT_BYTES", 1000)
    frames = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    assert deposit_file(frames, tmp_path / "theirs").frames == 3
    monkeypatch.setattr(deposit, "DEPOSIT", tmp_path / "ours")
    with pytest.raises(SuiteError, match="expected at most"):
        deposit_file(frames, tmp_path / "ours")
    assert nothing_left(tmp_path / "ours")


# Growing and checking -------------------------------------------------------------------------------


def test_set_grows_run_after_run(tmp_path):
    root = tmp_path / "root"
    one = deposit_file(write_extxyz(tmp_path / "1.xyz", real_frames(3)), root)
    second = write_extxyz(tmp_path / "2.xyz", real_frames(4, replica="9"))
    with pytest.raises(SuiteError, match="found a set of this name"):
        deposit_file(second, root)
    two = deposit_file(second, root, append=True)
    assert [run.id for run in two.runs] == ["bks-4-3000K", "bks-9-3000K"]
    assert two.frames == one.frames + 4
    assert two.sha256 != one.sha256
    verify_set(two)
    before = {p: p.stat().st_size for p in root.rglob("*")}
    with pytest.raises(SuiteError, match="found run bks-9-3000K, expected a run that the set does not have"):
        deposit_file(second, root, append=True)
    with pytest.raises(SuiteError, match="found functional 'PBE', expected 'LDA' to append"):
        deposit_file(second, root, append=True, functional="LDA")
    broken = write_extxyz(tmp_path / "3.xyz", real_frames(3, replica="5"), edit=EDITS["truncated"])
    with pytest.raises(SuiteError, match="truncated"):
        deposit_file(broken, root, append=True)
    assert before == {p: p.stat().st_size for p in root.rglob("*")}
    verify_set(read_set("t", root=root))


def test_what_a_killed_deposit_left_is_not_a_set(tmp_path):
    root = tmp_path / "root"
    (root / ".t.part" / "runs").mkdir(parents=True)
    (root / ".t.part" / "set.yml").write_text("format: 1\n")
    assert list_sets(root=root) == []
    deposit_file(write_extxyz(tmp_path / "1.xyz", real_frames(3)), root)
    assert [p.name for p in root.iterdir()] == ["t"]


@pytest.mark.parametrize("victim", ["runs/bks-4-3000K.000.npz", "set.yml", "decks/d.inp"])
def test_one_changed_byte_is_found_and_named(tmp_path, victim):
    deck = tmp_path / "d.inp"
    deck.write_text("&GLOBAL\n")
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    deposited = deposit_file(path, tmp_path / "root", decks=[deck])
    verify_set(deposited)
    file = deposited.directory / victim
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SuiteError, match=victim):
        verify_set(deposited)
    if victim.startswith("runs"):
        with pytest.raises(SuiteError, match="not the file that was deposited"):
            next(iter_runs(deposited))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("set.yml", "format: 1\nruns: [", r"set\.yml: found no YAML"),
        ("set.yml", "format: 1\n", r"set\.yml: found KeyError 'runs', expected a set\.yml written by"),
        ("SHA256SUMS", "0123\n", r"SHA256SUMS: found the line '0123', expected a sha256 and a file"),
    ],
)
def test_a_damaged_index_is_one_line(tmp_path, file, content, message):
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", real_frames(3)), tmp_path / "root")
    (deposited.directory / file).write_text(content)
    with pytest.raises(SuiteError, match=message):
        verify_set(read_set("t", root=tmp_path / "root"))


def test_missing_file_is_found_and_named(tmp_path):
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", real_frames(3)), tmp_path / "root")
    (deposited.directory / "runs/bks-4-3000K.000.npz").unlink()
    with pytest.raises(SuiteError, match=r"bks-4-3000K.000.npz: found no such file"):
        verify_set(deposited)


# Size -----------------------------------------------------------------------------------------------


def test_reading_and_writing_hold_one_part_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(set_writer, "FRAMES_PER_PART", 50)
    frame = real_frames(1)[0]

    def stream(count):
        for step in range(count):
            yield Frame(**{**frame.__dict__, "info": {"replica": "1", "step": str(step)}})

    options = {**TRAJECTORY, "unequilibrated_frames": 0, "name": "long", "source": "stream"}

    def peak_of(count):
        root = tmp_path / str(count)
        tracemalloc.start()
        deposited = deposit.deposit(stream(count), root=root, **options)
        writing = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        frames = sum(len(part) for _, part in iter_runs(deposited))
        reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert frames == count
        assert len(deposited.runs[0].parts) == count // 50
        return writing, reading

    short, long = peak_of(100), peak_of(600)
    assert long[0] < 1.3 * short[0]
    assert long[1] < 1.3 * short[1]


def test_listing_reads_no_frames(tmp_path):
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", real_frames(3)), tmp_path / "root")
    for part in (deposited.directory / "runs").iterdir():
        part.unlink()
    assert [s.frames for s in list_sets(root=tmp_path / "root")] == [3]


def test_parts_of_one_run_join(tmp_path, monkeypatch):
    monkeypatch.setattr(set_writer, "FRAMES_PER_PART", 4)
    frames = real_frames(10)
    deposited = deposit_file(write_extxyz(tmp_path / "f.xyz", frames), tmp_path / "root")
    parts = list(iter_run(deposited, "bks-4-3000K"))
    assert [(part.first, len(part)) for part in parts] == [(0, 4), (4, 4), (8, 2)]
    whole = read_run(deposited, "bks-4-3000K")
    np.testing.assert_allclose(whole.positions, [f.positions for f in frames], atol=1e-5)


# Decorrelation --------------------------------------------------------------------------------------


def test_autocorrelation_time_of_a_known_process():
    random = np.random.default_rng(3)
    series = np.zeros(40_000)
    noise = random.normal(size=len(series))
    for k in range(1, len(series)):
        series[k] = 0.9 * series[k - 1] + noise[k]
    # AR(1): 1/2 + sum 0.9^k = 1/2 + 9
    assert set_writer.integrated_autocorrelation_time(series) == pytest.approx(9.5, rel=0.1)
    assert set_writer.integrated_autocorrelation_time(noise) == pytest.approx(0.5, abs=0.05)
    assert set_writer.integrated_autocorrelation_time(np.ones(10)) == 0.5


def test_decorrelated_frames_are_counted_by_melt_or_by_time():
    single = read_set("pbe-96-bks-singlepoints")
    assert single.decorrelated_frames == len(single.runs) == 7
    trajectory = read_set("pbe-96-aimd-3000K")
    run = trajectory.runs[0]
    assert (run.decorrelated_frames - 1) * 3 * run.autocorrelation_frames <= 135


# Command line and reader ----------------------------------------------------------------------------


def run_command(*arguments):
    parser = argparse.ArgumentParser()
    deposit_command.add_arguments(parser)
    return deposit_command.main(parser.parse_args([os.fspath(a) for a in arguments]))


def test_command_deposits_and_lists(tmp_path, capsys):
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    root = tmp_path / "root"
    words = "--kind trajectory --use judge --start nnp --engine CP2K --engine-version 1 --functional PBE"
    words += " --basis DZVP --licence CC0-1.0 --timestep-fs 2 --setting a=1 --setting b=2"
    texts = ("--thermostat", "none", "--provenance", "a test")
    with pytest.raises(SuiteError, match="use judge needs --unequilibrated: how many first frames"):
        run_command(path, "--name", "x", *words.split(), *texts, "--root", root)
    words += " --unequilibrated 0"
    assert run_command(path, "--name", "x", *words.split(), *texts, "--root", root) == 0
    capsys.readouterr()
    assert run_command("--list", "--json", "--root", root) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["use"] == "judge"
    assert row["held_out"] is True
    assert row["frames"] == 3
    assert row["timestep_fs"] == 2.0
    assert row["density_g_cm3"] == [2.2]
    for key in (
        "name",
        "engine",
        "functional",
        "atoms",
        "decorrelated_frames",
        "temperatures_K",
        "kind",
        "sha256",
    ):
        assert key in row
    with pytest.raises(SuiteError, match="deposit FILE needs --name, --kind"):
        run_command(path, "--root", root)
    root = tmp_path / "another"
    others = [path, "--name", "y", *words.split(), *texts, "--root", root, "--never-held-out"]
    with pytest.raises(SuiteError, match="--never-held-out: found use judge, expected train"):
        run_command(*others)
    others[others.index("judge")] = "train"
    assert run_command(*others) == 0
    assert not read_set("y", root=root).held_out
    with pytest.raises(SuiteError, match="found held_out False, expected None to append"):
        run_command(*others[:-1], "--append")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("energy=", "REF_energy=-1.0 energy=", "found energy labels ref_energy, energy, expected one"),
        ("energy=", "dft_e=-1.0 energy=", "found energy labels dft_e, energy, expected one"),
        ("energy=", "free_energy=-1.0 energy=", "found labels free_energy and forces, expected energy and"),
        ("velocities_A_per_fs:R:3", "REF_forces:R:3", "found force labels ref_forces, forces, expected one"),
        ("energy=", "energy-unit=hartree force-unit=hartree/bohr energy=", "found other units than eV and A"),
        ("energy=", "xc=SCAN energy=", "found functional SCAN, expected PBE as --functional says"),
        ('pbc="T T T"', 'PBC="F F F"', "found pbc='F F F', expected a cell that is periodic"),
    ],
)
def test_command_refuses_what_import_does(tmp_path, old, new, message):
    """Labels beside energy and forces, units, level of theory: never read in silence."""
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    words = "--name x --kind singlepoints --use train --start nnp --engine CP2K --engine-version 1 --basis b"
    words += " --functional PBE --licence CC0-1.0 --provenance p"
    with pytest.raises(SuiteError, match=rf"f\.xyz: frame 1: {message}") as caught:
        run_command(path, *words.split(), "--root", tmp_path / "root")
    assert "\n" not in str(caught.value)
    assert nothing_left(tmp_path / "root")


def test_reader_agrees_with_ase(tmp_path):
    io = pytest.importorskip("ase.io")
    path = write_extxyz(tmp_path / "f.xyz", real_frames(3))
    for ours, theirs in zip(read_extxyz(path), io.iread(path, format="extxyz"), strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(ours.cell, theirs.cell.array)
        np.testing.assert_array_equal(ours.forces, theirs.get_forces())
        np.testing.assert_array_equal(ours.velocities, theirs.arrays["velocities_A_per_fs"])
        assert ours.energy_eV == theirs.get_potential_energy()
        assert [("Si", "O")[t] for t in ours.types] == theirs.get_chemical_symbols()
        assert ours.temperature_K == theirs.info["temperature_K"]


def test_reader_agrees_with_ase_on_a_tilted_cell_written_by_ase(tmp_path):
    ase = pytest.importorskip("ase")
    calculators = pytest.importorskip("ase.calculators.singlepoint")
    atoms = ase.Atoms("SiO2", positions=[[0, 0, 0], [1.6, 0, 0], [0, 1.6, 0]], pbc=True)
    atoms.set_cell([[8, 0, 0], [1, 9, 0], [2, -3, 7]])
    atoms.info["temperature_K"] = 300
    forces = np.arange(9.0).reshape(3, 3)
    atoms.calc = calculators.SinglePointCalculator(atoms, energy=-1.5, forces=forces)
    atoms.write(tmp_path / "t.xyz", format="extxyz")
    (frame,) = read_extxyz(tmp_path / "t.xyz")
    np.testing.assert_allclose(frame.cell, atoms.cell.array)
    np.testing.assert_allclose(frame.forces, forces)
    lengths = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    np.testing.assert_allclose(perpendicular_widths(frame.cell), lengths)


def test_reader_holds_one_frame(tmp_path):
    path = write_extxyz(tmp_path / "f.xyz", real_frames(195))
    size = path.stat().st_size
    tracemalloc.start()
    assert sum(1 for _ in read_extxyz(path)) == 195
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 4
