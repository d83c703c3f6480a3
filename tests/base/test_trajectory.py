"""Reading trajectories: what LAMMPS writes, and every way in which a file can be wrong."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.trajectory import (
    DUMP_COLUMNS,
    TRAJECTORY_FILE,
    ArrayTrajectory,
    DumpTrajectory,
    open_trajectory,
)
from jobs.engines.process import executable, run_program, thread_environment
from jobs.reference.trajectories import open_reference


def dump_bytes(positions, velocities, types, cell, steps, *, columns=DUMP_COLUMNS, chunks=1):
    """Binary dump frames; velocities in A/ps. The layout is proved against LAMMPS below."""
    found = []
    names = columns.encode()
    for x, v, step in zip(positions, velocities, steps, strict=True):
        bounds = [edge for length in cell for edge in (0.0, length)]
        found.append(
            struct.pack("<q10siiqqi6i6d", -10, b"DUMPCUSTOM", 1, 2, step, len(types), 0, *[0] * 6, *bounds)
        )
        found.append(struct.pack("<iibi", len(columns.split()), 0, 0, len(names)) + names)
        found.append(struct.pack("<i", chunks))
        rows = np.column_stack([np.arange(1.0, len(types) + 1), types + 1.0, x, v])
        for part in np.array_split(rows, chunks):
            found.append(struct.pack("<i", part.size) + part.astype("<f8").tobytes())
    return b"".join(found)


def write_md(folder, positions, velocities, types, cell, *, timestep_fs=1.0, dump_every=2, **facts):
    """A finished md product with a trajectory of these frames (velocities in A/fs)."""
    folder.mkdir()
    steps = 1000 + dump_every * np.arange(len(positions))
    (folder / TRAJECTORY_FILE).write_bytes(dump_bytes(positions, velocities * 1000.0, types, cell, steps))
    about = {
        "potential": "bks", "n_atoms": len(types), "ensemble": "nvt", "temperature_K": 300.0, "warnings": [],
        "timestep_fs": timestep_fs, "dump_every": dump_every, "frames": len(positions), "dangerous_builds": 0,
        "conserved_drift_meV_atom_ps": 0.1, **facts,
    }  # fmt: skip
    (folder / "md.json").write_text(json.dumps(about))
    rows = [
        f"{step},{step * timestep_fs / 1000},300.0,-1.0,1.0,0.5\n"
        for step in range(0, steps[-1] + 1, dump_every)
    ]
    (folder / "thermo.csv").write_text(
        "step,time_ps,temperature_K,potential_eV,kinetic_eV,total_eV\n" + "".join(rows)
    )
    return folder


def frames(n_frames=7, n_atoms=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, n_frames, n_atoms, 3)), np.arange(n_atoms) % 2, np.array([6.0, 7.0, 8.0])


SCRIPT = """
units metal
atom_style charge
lattice sc 2.0
region whole block 0 3 0 4 0 4
create_box 2 whole
create_atoms 1 box
set type 1 type/fraction 2 0.66 3
mass 1 28.0855
mass 2 15.999
velocity all create 30000 1
pair_style zero 4.0
pair_coeff * *
fix move all nve
timestep 0.002
dump binary all custom 5 dump.bin id type xu yu zu vx vy vz
dump_modify binary sort id
dump text all custom 5 dump.txt id type xu yu zu vx vy vz
dump_modify text sort id format float %.17g
run 200
"""


@pytest.mark.engine
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_dump_that_lammps_wrote(tmp_path, ranks):
    (tmp_path / "in.lammps").write_text(SCRIPT)
    start = [executable("mpirun"), "-n", "2"] if ranks == 2 else []
    run_program([*start, executable("lmp"), "-in", "in.lammps"], directory=tmp_path, log=tmp_path / "out",
                environment=thread_environment(1))  # fmt: skip
    found = DumpTrajectory(tmp_path / "dump.bin", time_step_fs=2.0, facts={})
    text = (tmp_path / "dump.txt").read_text().splitlines()
    size = 48 + 9
    rows = np.array(
        [[line.split() for line in text[at + 9 : at + size]] for at in range(0, len(text), size)], float
    )
    assert (found.n_frames, found.n_atoms, found.time_between_frames_fs) == (41, 48, 10.0)
    assert np.array_equal(found.types, rows[0, :, 1].astype(int) - 1)
    np.testing.assert_array_equal(found.cell, [6.0, 8.0, 8.0])
    np.testing.assert_array_equal(found.positions(0, 41), rows[:, :, 2:5])
    np.testing.assert_array_equal(found.velocities(3, 9), rows[3:9, :, 5:8] / 1000.0)
    # Fast free particles left the box: positions are unwrapped, and follow the velocities.
    assert (np.abs(rows[-1, :, 2:5]) > 12).any()
    moved = np.diff(found.positions(0, 41), axis=0)
    np.testing.assert_allclose(moved, found.velocities(0, 40) * 10.0, atol=1e-9)


def test_chunks_strides_and_pieces_give_the_same_frames(tmp_path):
    (positions, velocities), types, cell = frames()
    whole = dump_bytes(positions, velocities, types, cell, range(0, 70, 10))
    two_ranks = dump_bytes(positions, velocities, types, cell, range(0, 70, 10), chunks=2)
    # A run resumed on another number of ranks: frames of two layouts in one file.
    per_frame = len(two_ranks) // 7
    mixed = whole[: 3 * (len(whole) // 7)] + two_ranks[3 * per_frame :]
    for name, content in (("a", whole), ("b", two_ranks), ("c", mixed)):
        (tmp_path / name).write_bytes(content)
        found = DumpTrajectory(tmp_path / name, time_step_fs=1.0, facts={})
        np.testing.assert_array_equal(found.positions(1, 7, 2), positions[1::2])
        np.testing.assert_array_equal(found.velocities(1, 7), velocities[1:] / 1000)


def test_a_truncated_file_is_one_line(tmp_path):
    (positions, velocities), types, cell = frames()
    whole = dump_bytes(positions, velocities, types, cell, range(7))
    path = tmp_path / "cut"
    size = len(whole) // 7
    for kept in (len(whole) - 1, len(whole) - size + 20, 3 * size + 140, 3 * size + 163, 30, 5):
        path.write_bytes(whole[:kept])
        with pytest.raises(
            SuiteError, match=rf"cut: truncated, found {kept} bytes, expected at least \d+"
        ) as caught:
            DumpTrajectory(path, time_step_fs=1.0, facts={})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"", "found an empty file"),
        (lambda c: b"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n" * 9, "expected a LAMMPS binary custom dump"),
        (lambda c: c[: len(c) // 7] + b"x" * (len(c) // 7), "found other bytes than a frame's start"),
        (lambda c: c[: len(c) // 7] + c[2 * len(c) // 7 :], "found step 30 after 20, expected one every 20"),
        (lambda c: c[: len(c) // 7] * 2, "found step 0 after 0"),
        (lambda c: c.replace(b"xu yu zu", b"x  y  z "), "found the columns"),
        (lambda c: c.replace(struct.pack("<d", 8.0), struct.pack("<d", 8.5), 1), "expected 5 in"),
        (lambda c: c.replace(struct.pack("<2d", 5.0, 1.0), struct.pack("<2d", 5.0, 3.0)), "found atom types"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, change, message):
    (positions, velocities), types, cell = frames()
    path = tmp_path / "dump"
    path.write_bytes(change(dump_bytes(positions, velocities, types, cell, range(0, 70, 10))))
    with pytest.raises(SuiteError, match=message) as caught:
        DumpTrajectory(path, time_step_fs=1.0, facts={})
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_unsorted_atoms_and_broken_numbers_are_refused(tmp_path):
    (positions, velocities), types, cell = frames()
    positions[4, 2, 1] = np.nan
    content = dump_bytes(positions, velocities, types, cell, range(7))
    (tmp_path / "nan").write_bytes(content)
    found = DumpTrajectory(tmp_path / "nan", time_step_fs=1.0, facts={})
    found.positions(0, 4)
    with pytest.raises(SuiteError, match="not finite in frames 0 to 6"):
        found.positions(0, 7)
    swapped = bytearray(content)
    swapped[164:172], swapped[228:236] = content[228:236], content[164:172]
    (tmp_path / "unsorted").write_bytes(swapped)
    with pytest.raises(SuiteError, match="out of order, expected ids 1 to 5"):
        DumpTrajectory(tmp_path / "unsorted", time_step_fs=1.0, facts={}).velocities(0, 1)


def test_a_product_must_be_what_it_says(tmp_path):
    (positions, velocities), types, cell = frames()
    good = write_md(tmp_path / "good", positions, velocities, types, cell)
    found = open_trajectory(good)
    assert found.time_between_frames_fs == 2.0
    np.testing.assert_allclose(found.velocities(0, 7), velocities, rtol=1e-14)
    for number, (wrong, message) in enumerate(
        [({"frames": 8}, "found 7 frames, expected 8"), ({"n_atoms": 6}, "found 5 atoms, expected 6")]
    ):
        with pytest.raises(SuiteError, match=message):
            open_trajectory(write_md(tmp_path / str(number), positions, velocities, types, cell, **wrong))
    os.remove(good / "md.json")
    with pytest.raises(SuiteError, match=r"md\.json: not found"):
        open_trajectory(good)


def test_reading_holds_only_what_was_asked_for(tmp_path):
    (positions, velocities), types, cell = frames(n_frames=400, n_atoms=500)
    path = tmp_path / "long"
    path.write_bytes(dump_bytes(positions, velocities, types, cell, range(400)))
    tracemalloc.start()
    trajectory = DumpTrajectory(path, time_step_fs=1.0, facts={})
    for first in range(0, 400, 10):
        assert len(trajectory.positions(first, first + 10)) == 10
        assert len(trajectory.velocities(first, first + 10)) == 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size / 5


def test_wrapped_arrays_are_unwrapped():
    rng = np.random.default_rng(0)
    cell = np.array([5.0, 6.0, 7.0])
    positions = np.cumsum(rng.normal(scale=0.4, size=(200, 4, 3)), axis=0)
    found = ArrayTrajectory(
        positions % cell, None, types=np.zeros(4, int), cell=cell, time_between_frames_fs=1.0, facts={}
    )
    shift = found.positions(0, 1) - positions[0]
    np.testing.assert_allclose(found.positions(0, 200) - shift, positions, atol=1e-9)
    with pytest.raises(SuiteError, match="found no velocities"):
        found.velocities(0, 1)


def test_the_deposited_trajectory_is_continuous_and_moves_with_its_velocities():
    from jobs.reference.sets import list_sets

    names = [found.name for found in list_sets() if found.kind == "trajectory"]
    if not names:
        pytest.skip("no trajectory is deposited")
    run = next(found for found in list_sets() if found.name == names[0]).runs[0]
    found = open_reference(names[0], run.id)
    assert found.n_frames == run.frames
    moved = np.diff(found.positions(0, 20), axis=0)
    speed = (found.velocities(0, 19) + found.velocities(1, 20)) / 2
    np.testing.assert_allclose(moved, speed * found.time_between_frames_fs, atol=5e-3)


def test_single_points_are_no_trajectory():
    from jobs.reference.sets import list_sets

    points = [found for found in list_sets() if found.kind == "singlepoints"]
    if not points:
        pytest.skip("no single points are deposited")
    with pytest.raises(SuiteError, match="found singlepoints, expected a trajectory"):
        open_reference(points[0].name, points[0].runs[0].id)
