"""The dataset: nothing of one melt on both sides, every neighbour counted, bad frames and judges kept out."""

import csv
import json
import shutil
import subprocess
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.base.errors import SuiteError
from jobs.engines.process import executable, thread_environment
from jobs.reference import deposit
from jobs.reference.sets import DEPOSIT, iter_run, iter_runs, read_run, read_set
from jobs.stages.data import dataset
from jobs.stages.data import splits as _splits
from jobs.store.workspace import Workspace

SETS = ("pbe-96-aimd-3000K", "pbe-96-bks-singlepoints")


def parameters(**changes):
    sets = [
        {
            "name": name,
            "sha256": read_set(name).sha256,
            "thin_frames": 5,
            "use_unequilibrated": False,
        }
        for name in changes.pop("names", SETS)
    ]
    return {
        "sets": sets,
        "train_share": 2 / 3,
        "sel": None,
        "cutoff_angstrom": 6.0,
        "max_train_frames": None,
        **changes,
    }


def make(directory, *, seed=1, root=None, **changes):
    directory.mkdir(exist_ok=True)
    place = {} if root is None else {"deposit": str(root)}
    dataset.run(Workspace(parameters(**changes) | place, seed, {}, directory))
    return json.loads((directory / "dataset.json").read_text())


def rows(directory, side):
    out = []
    for path in sorted((directory / side).rglob("frames.csv")):
        with path.open() as handle:
            out += [(row["set"], row["run"], int(row["frame"])) for row in csv.DictReader(handle)]
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("dataset")
    return directory, make(directory)


@pytest.fixture
def copied(tmp_path):
    """A copy of the deposit that a test may damage."""
    shutil.copytree(DEPOSIT, tmp_path / "aimd")
    return tmp_path / "aimd"


# The split ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_no_melt_is_on_both_sides(tmp_path, seed):
    facts = make(tmp_path / "d", seed=seed)
    melts = {
        side: {run.split("-3000K")[0] for _, run, _ in rows(tmp_path / "d", side)}
        for side in ("train", "test")
    }
    assert not melts["train"] & melts["test"]
    assert sorted(melts["train"]) == facts["train_melts"]
    assert sorted(melts["test"]) == facts["test_melts"]
    # the trajectory started from melt 4: it goes where melt 4's single points go
    if ("pbe-96-aimd-3000K", "bks-4-3000K", 60) in rows(tmp_path / "d", "train"):
        assert "pbe-96-bks-singlepoints/bks-4" in facts["train_runs"]
    counts = facts["frames"]
    assert counts["train"] / (counts["train"] + counts["test"]) == pytest.approx(2 / 3, abs=0.07)
    assert all(n["train"] and n["test"] for n in facts["frames_by_temperature"].values())


def test_split_is_determined_by_the_seed(tmp_path, made):
    directory, facts = made
    assert make(tmp_path / "again") == facts
    for path in directory.rglob("*.npy"):
        assert (tmp_path / "again" / path.relative_to(directory)).read_bytes() == path.read_bytes()
    others = [make(tmp_path / f"s{seed}", seed=seed)["test_melts"] for seed in (2, 3)]
    assert any(other != facts["test_melts"] for other in others)


def test_split_of_equal_melts_is_two_to_one():
    melts = {f"m{k}": {3000.0: 2, 4000.0: 1} for k in range(12)}
    train, test = _splits.split_melts(melts, train_share=2 / 3, seed=5)
    assert (len(train), len(test)) == (8, 4)
    assert sorted(train + test) == sorted(melts)


def test_split_covers_every_temperature_on_both_sides_where_it_can():
    melts = {f"m{k}": {float(t): 1} for k, t in enumerate([2000, 2000, 3000, 3000, 3000, 4000])}
    for seed in range(5):
        train, test = _splits.split_melts(melts, train_share=2 / 3, seed=seed)
        sides = [{t for melt in side for t in melts[melt]} for side in (train, test)]
        assert sides == [{2000.0, 3000.0, 4000.0}, {2000.0, 3000.0}]  # only one melt has 4000 K: it trains


def test_one_melt_cannot_be_split(tmp_path):
    with pytest.raises(SuiteError, match="found 1 melts, expected at least 2"):
        make(tmp_path, names=SETS[:1])


# The frames -----------------------------------------------------------------------------------------


def test_written_frames_are_the_deposited_ones(made):
    directory, facts = made
    seen = 0
    runs = {(name, run.id): read_run(read_set(name), run.id) for name in SETS for run in read_set(name).runs}
    for system in [*facts["train_systems"], *chain.from_iterable(facts["test_systems"].values())]:
        path = directory / system
        arrays = {k: np.load(path / "set.000" / f"{k}.npy") for k in ("box", "coord", "energy", "force")}
        with (path / "frames.csv").open() as handle:
            for k, row in enumerate(csv.DictReader(handle)):
                whole = runs[row["set"], row["run"]]
                index = int(row["frame"])
                np.testing.assert_array_equal(arrays["coord"][k].reshape(-1, 3), whole.positions[index])
                np.testing.assert_array_equal(arrays["force"][k].reshape(-1, 3), whole.forces[index])
                np.testing.assert_array_equal(arrays["box"][k].reshape(3, 3), whole.cells[index])
                assert arrays["energy"][k] == whole.energies_eV[index]
                assert float(row["temperature_K"]) == whole.temperatures_K[index]
                if "/T" in system:
                    assert f"/T{row['temperature_K']}/" in system
                seen += 1
        assert (path / "type_map.raw").read_text().split() == ["Si", "O"]
    assert seen == facts["frames"]["train"] + facts["frames"]["test"] == 78 + 27


def test_trajectory_is_thinned_after_what_is_not_equilibrated(tmp_path, made):
    directory, _ = made
    both = rows(directory, "train") + rows(directory, "test")
    steps = sorted(index for name, _, index in both if name == "pbe-96-aimd-3000K")
    assert steps[0] == 60
    assert all(b - a == 5 for a, b in pairwise(steps))
    whole = parameters()
    for options in whole["sets"]:
        options.update(thin_frames=1, use_unequilibrated=True)
    dataset.run(Workspace(whole, 1, {}, tmp_path))
    assert len(rows(tmp_path, "train") + rows(tmp_path, "test")) == 195 + 78


def test_audit_says_what_trained(made):
    _, facts = made
    assert facts["lowest_temperature_K"] == min(facts["temperatures_K"]) == 2000
    assert 2.2 in facts["densities_g_cm3"]
    volume_at_2_20 = facts["volumes_A3"][facts["densities_g_cm3"][::-1].index(2.2)]
    assert volume_at_2_20 == pytest.approx(1451.2, abs=0.1)
    directory, _ = made
    closest = {"Si-Si": np.inf, "Si-O": np.inf, "O-O": np.inf}
    for system in facts["train_systems"]:
        types = np.loadtxt(directory / system / "type.raw", dtype=int)
        boxes, positions = (np.load(directory / system / "set.000" / f"{k}.npy") for k in ("box", "coord"))
        for box, x in zip(boxes.reshape(-1, 3, 3), positions.reshape(len(boxes), -1, 3), strict=True):
            delta = x[:, None] - x[None]
            delta -= np.rint(delta @ np.linalg.inv(box)) @ box
            distance = np.linalg.norm(delta, axis=2) + 99 * np.eye(len(x))
            for pair, (a, b) in {"Si-Si": (0, 0), "Si-O": (0, 1), "O-O": (1, 1)}.items():
                closest[pair] = min(closest[pair], distance[np.ix_(types == a, types == b)].min())
    assert facts["min_distance_angstrom"] == pytest.approx(closest, abs=1e-4)
    assert facts["frames"]["refused"] == 0
    assert 2 < facts["force_rms_eV_A"] < 4
    assert any("twice the cutoff" in warning for warning in facts["warnings"])


def test_learning_curve_subsets_are_nested(tmp_path, made):
    directory, _ = made
    subsets = []
    for n in (10, 30):
        make(tmp_path / str(n), max_train_frames=n)
        subsets.append(set(rows(tmp_path / str(n), "train")))
        assert len(subsets[-1]) == n
        assert rows(tmp_path / str(n), "test") == rows(directory, "test")
    assert subsets[0] < subsets[1] < set(rows(directory, "train"))
    with pytest.raises(SuiteError, match="found max_train_frames 1000"):
        make(tmp_path / "much", max_train_frames=1000)


def test_learning_curve_shares_are_of_all_training_frames_and_each_seed_draws_its_own(tmp_path, made):
    directory, facts = made
    drawn = {}
    for share, seed in ((0.5, 1), (0.5, 2), (0.25, 2)):
        place = tmp_path / f"{share}-{seed}"
        about = make(place, max_train_frames=share, subset_seed=seed)
        drawn[share, seed] = set(rows(place, "train"))
        assert about["frames"]["train"] == round(share * facts["frames"]["train"])
        assert rows(place, "test") == rows(directory, "test")
        assert about["sel"] == facts["sel"]  # one network for the whole curve
        for pair, closest in facts["min_distance_angstrom"].items():
            assert about["min_distance_angstrom"][pair] >= closest
    assert drawn[0.25, 2] < drawn[0.5, 2] != drawn[0.5, 1]
    # The paper's tier has shares for its 350 000 frames; of the deposit's they leave one.
    assert make(tmp_path / "few", max_train_frames=0.001)["frames"]["train"] == 1


def test_killed_stage_leaves_nothing_behind_in_the_next(tmp_path, made):
    directory, facts = made
    stale = tmp_path / "train" / "other" / "set.000"
    stale.mkdir(parents=True)
    assert make(tmp_path) == facts
    assert not stale.exists()
    assert len(list(tmp_path.rglob("*.npy"))) == len(list(directory.rglob("*.npy")))


# Neighbours -----------------------------------------------------------------------------------------


def brute_force(positions, cell, types, cutoff):
    """Every pair in every image up to 6 cells away."""
    counts = np.zeros((len(types), 2), dtype=int)
    shortest = dict.fromkeys(("Si-Si", "Si-O", "O-O"), np.inf)
    images = (np.array(list(np.ndindex(13, 13, 13))) - 6) @ cell
    for i in range(len(types)):
        for j in range(len(types)):
            r = np.linalg.norm(positions[j] - positions[i] + images, axis=1)
            if i == j:
                r = r[r > 0]
            pair = ("Si-Si", "Si-O", "O-O")[types[i] + types[j]]
            shortest[pair] = min(shortest[pair], r.min())
            counts[i, types[j]] += (r <= cutoff).sum()
    return counts, shortest


@pytest.mark.parametrize("cutoff", [1.0, 2.9, 6.0])
def test_neighbours_agree_with_brute_force_in_a_narrow_tilted_cell(cutoff):
    random = np.random.default_rng(2)
    cell = np.array([[5.0, 0, 0], [1.5, 4.5, 0], [-1.0, 2.0, 6.0]])
    types = np.array([0, 0, 1, 1, 1, 1], dtype=np.int8)
    positions = random.uniform(-1, 2, (6, 3)) @ cell  # also outside the cell
    counts, shortest = _splits.neighbour_counts(positions, cell, types, cutoff_angstrom=cutoff)
    expected, nearest = brute_force(positions, cell, types, cutoff)
    np.testing.assert_array_equal(counts, expected)
    for pair, distance in nearest.items():
        assert shortest[pair] == pytest.approx(distance) or shortest[pair] > cutoff


def test_atom_is_a_neighbour_of_its_own_images():
    counts, shortest = _splits.neighbour_counts(
        np.zeros((1, 3)), np.eye(3) * 4.0, np.array([0], dtype=np.int8), cutoff_angstrom=6.0
    )
    # 6 at 4 A and 12 at 5.66 A
    assert counts.tolist() == [[18, 0]]
    assert shortest == {"Si-Si": 4.0, "Si-O": np.inf, "O-O": np.inf}


@pytest.mark.engine
def test_neighbour_maximum_agrees_with_deepmd(made, tmp_path):
    directory, facts = made
    trained = directory / "train" / "pbe-96-bks-singlepoints"
    done = subprocess.run(
        [executable("dp"), "neighbor-stat", "-s", str(trained), "-r", "6.0", "-t", "Si", "O"],
        capture_output=True,
        text=True,
        env=thread_environment(1),
        cwd=tmp_path,
        check=True,
    )
    line = next(text for text in (done.stdout + done.stderr).splitlines() if "max_nbor_size:" in text)
    found = [int(n) for n in line.split("[")[-1].rstrip("]").split()]
    ours = np.zeros(2, dtype=int)
    types = np.loadtxt(trained / "type.raw", dtype=np.int8)
    box, coord = (np.load(trained / "set.000" / f"{k}.npy") for k in ("box", "coord"))
    for cell, positions in zip(box, coord, strict=True):
        counts, _ = _splits.neighbour_counts(
            positions.reshape(-1, 3), cell.reshape(3, 3), types, cutoff_angstrom=6.0
        )
        ours = np.maximum(ours, counts.max(axis=0))
    assert found == ours.tolist()
    assert all(a <= b for a, b in zip(found, facts["neighbour_max"], strict=True))


def test_sel_covers_the_data_or_is_refused(tmp_path, made):
    _, facts = made
    assert facts["neighbour_max"] == [26, 50]
    assert facts["sel"] == [32, 56]
    assert make(tmp_path / "given", sel=[26, 50])["sel"] == [26, 50]
    with pytest.raises(SuiteError, match=r"found sel \[24, 50\], expected at least \[26, 50\]"):
        make(tmp_path / "small", sel=[24, 50])
    assert not (tmp_path / "small" / "dataset.json").exists()
    assert not (tmp_path / "small" / "train").exists()


def test_cell_narrower_than_the_cutoff_is_refused(tmp_path):
    with pytest.raises(SuiteError, match=r"found a cell 11.\d\d A wide, expected at least the cutoff, 12 A"):
        make(tmp_path, cutoff_angstrom=12.0)


# What must not go in --------------------------------------------------------------------------------


def change_set(root, name, **changes):
    """Rewrite a set's description as its maker would, checksums included; returns its new sha256."""
    path = root / name / "set.yml"
    facts = {**yaml.safe_load(path.read_text()), **changes}
    deposit._write_index(root / name, facts)
    return read_set(name, root=root).sha256


def with_sha(options, sha):
    return [{**o, "sha256": sha.get(o["name"], o["sha256"])} for o in options]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_never_held_out_trains_with_all_of_its_melts(tmp_path, copied, seed):
    sha = {SETS[0]: change_set(copied, SETS[0], held_out=False)}
    facts = make(tmp_path / "d", seed=seed, root=copied, sets=with_sha(parameters()["sets"], sha))
    assert "bks-4" in facts["train_melts"]
    assert SETS[0] not in {name for name, _, _ in rows(tmp_path / "d", "test")}
    both = {run for _, run, _ in rows(tmp_path / "d", "train")}
    assert {"bks-4-3000K", "bks-4"} <= both  # what another set has of this melt trains as well
    assert not set(facts["train_melts"]) & set(facts["test_melts"])


def test_set_that_judges_never_trains(tmp_path, copied):
    sha = {SETS[0]: change_set(copied, SETS[0], use="judge")}
    with pytest.raises(
        SuiteError, match="found use: judge, expected train: training data are never a reference"
    ) as caught:
        make(tmp_path / "d", root=copied, sets=with_sha(parameters()["sets"], sha))
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "d").iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [{"functional": "PBEsol"}, {"settings": {"method": "GAPW_XC", "cutoff_Ry": "400"}}],
    ids=["functional", "grid"],
)
def test_sets_of_different_theory_do_not_mix(tmp_path, copied, changes):
    sha = {SETS[0]: change_set(copied, SETS[0], **changes)}
    with pytest.raises(SuiteError, match="expected one level of theory"):
        make(tmp_path / "d", root=copied, sets=with_sha(parameters()["sets"], sha))


def test_set_that_changed_is_refused(tmp_path):
    sets = with_sha(parameters()["sets"], {SETS[0]: "0" * 64})
    with pytest.raises(SuiteError, match=r"set.yml: found sha256 \w+, expected 0000"):
        make(tmp_path / "d", sets=sets)


def test_damaged_run_file_is_refused_by_name(tmp_path, copied):
    victim: Path = copied / SETS[1] / "runs" / "bks-3.000.npz"
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(SuiteError, match=r"bks-3.000.npz: found sha256"):
        make(tmp_path / "d", root=copied)


def test_outliers_are_refused_with_a_count(tmp_path, copied, monkeypatch):
    """Frames that a code gave in good faith but that no potential should learn."""
    original = iter_run

    def spoiled(deposited, run_id):
        for part in original(deposited, run_id):
            if run_id == "bks-2":
                part.forces[0, 5] = [0.0, 61.0, 0.0]
                part.positions[1, 7] = part.positions[1, 8] + [0.7, 0.0, 0.0]
                part.forces[2, 0, 0] = np.nan
            yield part

    monkeypatch.setattr("jobs.reference.sets.iter_run", spoiled)
    facts = make(tmp_path / "d")
    assert facts["refused"] == {"force above 60 eV/A": 1, "atoms closer than 0.8 A": 1, "not finite": 1}
    assert facts["frames"] == {**facts["frames"], "refused": 3}
    assert facts["frames"]["train"] + facts["frames"]["test"] == 78 + 27 - 3
    used = rows(tmp_path / "d", "train") + rows(tmp_path / "d", "test")
    assert Counter(run for _, run, _ in used)["bks-2"] == 14 - 3


def test_thresholds_refuse_no_real_frame():
    for name in SETS:
        for _, part in iter_runs(read_set(name)):
            strongest = np.linalg.norm(part.forces, axis=2).max()
            assert strongest < 0.6 * _splits.MAX_FORCE_EV_ANGSTROM


def test_first_principles_products_of_the_campaign_train_too(tmp_path, monkeypatch):
    """The same frames, once from the deposit and once as an aimd product, give the same dataset.

    However large: the repository's limit is not one of a campaign's own data.
    """
    monkeypatch.setattr(deposit, "MAX_DEPOSIT_BYTES", 1000)
    product = tmp_path / "aimd"
    product.mkdir()
    deposited = read_set("pbe-96-bks-singlepoints")
    lines = []
    for run, part in iter_runs(deposited):
        for k in range(len(part)):
            cell = " ".join(f"{value:.10g}" for value in part.cells[k].ravel())
            replica = run.melt.split("-")[1]
            lines += [
                str(len(part.types)),
                f'Lattice="{cell}" Properties=species:S:1:pos:R:3:forces:R:3 replica={replica} '
                f'temperature_K={part.temperatures_K[k]:g} energy={part.energies_eV[k]:.9f} pbc="T T T"',
            ]
            for species, row in zip(part.types, np.hstack([part.positions[k], part.forces[k]]), strict=True):
                lines.append(" ".join([("Si", "O")[species], *(f"{value:.9f}" for value in row)]))
    (product / "frames.xyz").write_text("\n".join(lines) + "\n")
    about = {key: deposited.facts[key] for key in ("engine", "engine_version", "functional")}
    settings = {"basis": deposited.facts["basis"]}
    (product / "aimd.json").write_text(json.dumps({**about, "settings": settings, "source": "bks"}))
    directory = tmp_path / "dataset"
    directory.mkdir()
    dataset.run(Workspace(parameters(sets=[]), 1, {"aimd-1": product}, directory))
    own = json.loads((directory / "dataset.json").read_text())
    (tmp_path / "other").mkdir()
    given = make(tmp_path / "other", names=["pbe-96-bks-singlepoints"])
    for key in ("neighbour_max", "train_melts", "test_melts", "frames", "lowest_temperature_K"):
        assert own[key] == given[key]
    assert own["min_distance_angstrom"] == pytest.approx(given["min_distance_angstrom"], abs=2e-4)
