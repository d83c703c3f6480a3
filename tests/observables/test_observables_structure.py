"""Structure of arrays of atoms: each curve against a plain double loop, a known case and another library."""

import itertools

import numpy as np
import pytest

from jobs.observables import angles, coordination, rdf
from jobs.observables.neighbours import find_neighbours
from jobs.observables.peaks import highest_peak

SPECIES = ["Si", "O"]
CUTOFFS = {"Si-Si": 3.6, "Si-O": 2.4, "O-O": 3.5}


def gas(n_frames, n_atoms, cell, seed=0):
    rng = np.random.default_rng(seed)
    # Outside the box on purpose: positions arrive unwrapped.
    positions = (rng.random((n_frames, n_atoms, 3)) * 5 - 2) * cell
    return positions, rng.permutation(np.arange(n_atoms) % 3 > 0).astype(int)


def nearest(vector, cell):
    return vector - cell * np.rint(vector / cell)


@pytest.mark.parametrize("cell", [(11.3, 11.3, 11.3), (9.0, 10.5, 13.1)])
def test_pair_counts_equal_a_double_loop(cell):
    cell = np.array(cell)
    positions, types = gas(3, 24, cell)
    found = rdf.pair_counts(positions, types, cell, bin_angstrom=0.1)
    expected = np.zeros_like(found)
    for frame in positions:
        for i, j in itertools.permutations(range(24), 2):
            row = {(0, 0): 0, (0, 1): 1, (1, 1): 2}.get((types[i], types[j]))
            at = int(np.linalg.norm(nearest(frame[j] - frame[i], cell)) / 0.1)
            if row is not None and at < found.shape[1]:
                expected[row, at] += 1
    assert np.array_equal(found, expected)
    assert found.shape[1] == int(cell.min() / 2 / 0.1)


def test_pair_counts_do_not_depend_on_the_tile(monkeypatch):
    cell = np.full(3, 12.0)
    positions, types = gas(5, 60, cell)
    whole = rdf.pair_counts(positions, types, cell, bin_angstrom=0.05)
    monkeypatch.setattr(rdf, "_TILE", 300)
    assert np.array_equal(rdf.pair_counts(positions, types, cell, bin_angstrom=0.05), whole)
    # A shift moves no pair but those within 1e-6 A of a bin's edge.
    moved = rdf.pair_counts(positions + np.array([3.1, -40.0, 0.7]), types, cell, bin_angstrom=0.05)
    assert np.abs(moved - whole).sum() <= 4


def g_of(positions, types, cell, step):
    counts = rdf.pair_counts(positions, types, cell, bin_angstrom=step)
    n_o = int(types.sum())
    return rdf.partial_rdf(
        counts, n_si=len(types) - n_o, n_o=n_o, n_frames=len(positions), cell=cell, bin_angstrom=step
    )


def test_one_pair_fills_the_bin_of_its_distance():
    """One Si and one O, 1.63 A apart: g is the box over the shell there, and no pair of a kind has any g."""
    cell = np.array([10.0, 11.0, 12.0])
    r = rdf.bin_centres(cell, bin_angstrom=0.02)
    assert (len(r), r[0], r[-1]) == pytest.approx((250, 0.01, 4.99))
    g = g_of(np.array([[[1, 1, 1], [1, 1, 2.63]]]) + 0.005, np.array([0, 1]), cell, 0.02)
    assert np.flatnonzero(g[1]).tolist() == [np.argmin(np.abs(r - 1.63))]
    assert g[1].max() == pytest.approx(1320 / (4 / 3 * np.pi * (1.64**3 - 1.62**3)))
    assert np.isnan(g[[0, 2]]).all()


def test_an_ideal_gas_is_flat_at_one():
    cell = np.full(3, 10.0)
    positions, types = gas(400, 60, cell)
    g = g_of(positions, types, cell, 0.5)
    pairs = np.array([20 * 19 / 2, 20 * 40, 40 * 39 / 2])[:, None] * 400
    edges = np.arange(11) * 0.5
    error = 1 / np.sqrt(pairs * 4 / 3 * np.pi * np.diff(edges**3) / 1000)
    assert (np.abs(g - 1) < 4.5 * error).all()


def test_an_atom_within_rounding_of_a_face_has_its_neighbours():
    """400 atoms, where a tree finds them; some a rounding error below a multiple of the edge."""
    rng = np.random.default_rng(5)
    edge = 18.370000000000001
    positions = rng.uniform(0, edge, (1, 400, 3))
    positions[0, :200, 0] = np.nextafter(edge * rng.integers(-3, 4, 200), -np.inf)
    near = find_neighbours(positions, np.zeros(400, int), np.full(3, edge), cutoff_angstrom=3.0)
    delta = positions[0, :, None] - positions[0, None]
    delta -= edge * np.rint(delta / edge)
    distance = np.sqrt((delta**2).sum(axis=2))
    assert len(near.distance) == (distance < 3.0).sum() - 400


def test_rdf_agrees_with_freud():
    freud = pytest.importorskip("freud")
    cell = np.full(3, 14.0)
    positions, types = gas(4, 90, cell)
    found = g_of(positions, types, cell, 0.25)
    box = freud.box.Box.cube(14.0)
    for row, (a, b) in enumerate(((0, 0), (0, 1), (1, 1))):
        reference = freud.density.RDF(bins=28, r_max=6.999999)
        for frame in positions:
            points = box.wrap(frame)
            reference.compute(
                (box, points[types == b]),
                query_points=points[types == a],
                reset=False,
                neighbors={"r_max": 6.999999, "exclude_ii": a == b},
            )
        n = (types == a).sum()
        # freud divides by the density of all N partners, we by that of the other N - 1.
        finite_n = (n - 1) / n if a == b else 1.0
        np.testing.assert_allclose(found[row][4:] * finite_n, reference.rdf[4:], rtol=0.03)
        counts = rdf.pair_counts(positions, types, cell, bin_angstrom=0.25)[row]
        assert np.abs(counts - reference.bin_counts).sum() <= 4


def fcc(repeats, edge):
    unit = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    shifts = np.array(list(itertools.product(range(repeats), repeat=3)))
    return (unit + shifts[:, None]).reshape(-1, 3) * edge, np.full(3, repeats * edge)


def test_shells_of_an_fcc_crystal():
    points, cell = fcc(3, 4.1)
    counts = rdf.pair_counts(points[None], np.zeros(len(points), int), cell, bin_angstrom=0.05)
    r = rdf.bin_centres(cell, bin_angstrom=0.05)
    hit = np.flatnonzero(counts[0])
    shells = np.sqrt([0.5, 1.0, 1.5, 2.0]) * 4.1
    np.testing.assert_allclose(r[hit], shells[shells < r[-1]], atol=0.05)
    assert (counts[0][hit] / len(points)).tolist() == [12, 6, 24, 12][: len(hit)]
    assert np.isnan(g_of(points[None], np.zeros(len(points), int), cell, 0.05)[1:]).all()


@pytest.mark.parametrize("n_atoms", [60, 330])  # a table of distances, and a tree
def test_neighbours_equal_a_double_loop(n_atoms):
    cell = np.array([9.0, 11.0, 13.0])
    positions, types = gas(2, n_atoms, cell)
    near = find_neighbours(positions, types, cell, cutoff_angstrom=2.5)
    delta = nearest(positions[:, None, :, :] - positions[:, :, None, :], cell)
    distance = np.linalg.norm(delta, axis=-1)
    frame, i, j = np.nonzero((distance < 2.5) & ~np.eye(n_atoms, dtype=bool))
    assert np.array_equal(
        np.sort(near.centre * 2 * n_atoms + near.neighbour),
        np.sort((frame * n_atoms + i) * 2 * n_atoms + frame * n_atoms + j),
    )
    assert (np.diff(near.centre) >= 0).all()
    row = np.divmod(near.centre, n_atoms)
    np.testing.assert_allclose(near.vector, delta[row[0], row[1], near.neighbour % n_atoms], atol=1e-9)


def test_a_cutoff_beyond_half_the_box_is_refused():
    cell = np.array([9.0, 6.0, 9.0])
    positions, types = gas(1, 9, cell)
    with pytest.raises(ValueError, match=r"3\.1 A is longer than half the box edge 6\.000"):
        find_neighbours(positions, types, cell, cutoff_angstrom=3.1)
    find_neighbours(positions, types, cell, cutoff_angstrom=3.0)


@pytest.mark.parametrize("n_atoms", [48, 330])
def test_angles_equal_a_triple_loop(n_atoms):
    cell = np.full(3, 9.0) * (n_atoms / 48) ** (1 / 3)
    positions, types = gas(1, n_atoms, cell, seed=3)
    near = find_neighbours(positions, types, cell, cutoff_angstrom=3.6)
    found = angles.angle_counts(near, CUTOFFS, bin_degree=2.0)
    expected = np.zeros_like(found)
    names = np.array(["Si", "O"])[types]
    for b in range(n_atoms):
        vector = nearest(positions[0] - positions[0, b], cell)
        distance = np.linalg.norm(vector, axis=1)
        reach = [CUTOFFS["-".join(sorted((n, names[b]), key=SPECIES.index))] for n in names]
        partners = [i for i in range(n_atoms) if i != b and distance[i] < reach[i]]
        for a, c in itertools.combinations(partners, 2):
            ends = sorted((names[a], names[c]), key=SPECIES.index)
            name = f"{ends[0]}-{names[b]}-{ends[1]}"
            if name in angles.TRIPLETS:
                cosine = vector[a] @ vector[c] / distance[a] / distance[c]
                expected[angles.TRIPLETS.index(name), int(np.degrees(np.arccos(cosine)) / 2.0)] += 1
    assert np.array_equal(found, expected)
    density = angles.angle_density(found, bin_degree=2.0)
    np.testing.assert_allclose(density.sum(1) * 2.0, 1.0)
    moved = find_neighbours(positions + 100.7, types, cell, cutoff_angstrom=3.6)
    assert np.abs(angles.angle_counts(moved, CUTOFFS, bin_degree=2.0) - found).sum() <= 4


def test_bins_of_angles_fill_180_degrees():
    cell = np.full(3, 8.0)
    near = find_neighbours(*gas(1, 24, cell), cell, cutoff_angstrom=3.6)
    assert angles.angle_counts(near, CUTOFFS, bin_degree=0.1).shape == (6, 1800)
    with pytest.raises(ValueError, match=r"bins of 0\.7 degrees, expected a whole number of them in 180"):
        angles.angle_counts(near, CUTOFFS, bin_degree=0.7)


def test_each_block_of_angles_has_a_density_of_its_own():
    counts = np.zeros((3, 6, 90), int)
    counts[0, 2, 54] = 1  # a single angle is a density too, no angle is none
    counts[1, 2, [50, 60]] = 3
    density = angles.angle_density(counts, bin_degree=2.0)
    np.testing.assert_allclose(density[:2, 2].sum(axis=1) * 2.0, 1)
    assert density[1, 2, 60] == pytest.approx(1 / 4)
    assert np.isnan(density[2]).all()


def beta_cristobalite(repeats=2, edge=7.16):
    diamond = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) / 4
    bonds = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 8
    unit = np.concatenate([diamond, diamond + 0.25, (diamond[:, None] + bonds).reshape(-1, 3)])
    shifts = np.array(list(itertools.product(range(repeats), repeat=3)))
    positions = (unit + shifts[:, None]).reshape(-1, 3) * edge
    return positions, np.tile(np.repeat([0, 1], [8, 16]), repeats**3), np.full(3, repeats * edge)


def test_the_crystal_of_perfect_tetrahedra():
    positions, types, cell = beta_cristobalite()
    near = find_neighbours(positions[None], types, cell, cutoff_angstrom=3.6)
    counts = dict(zip(angles.TRIPLETS, angles.angle_counts(near, CUTOFFS, bin_degree=0.5), strict=True))
    n_si = int((types == 0).sum())
    at = {name: ((np.flatnonzero(row) + 0.5) * 0.5).tolist() for name, row in counts.items()}
    assert at["O-Si-O"] == at["Si-Si-Si"] == [109.25]  # 109.47 lies in the bin from 109.0 to 109.5
    assert at["Si-O-Si"] == [179.75]
    assert counts["O-Si-O"].sum() == counts["Si-Si-Si"].sum() == 6 * n_si
    # Six O around an O: 6 angles of 60 degrees within its two tetrahedra, 6 of 120, 3 of 180.
    assert counts["O-O-O"].sum() == 15 * 2 * n_si
    bonding = coordination.count_bonds(near, cutoff_si_o_angstrom=2.4)
    assert bonding.si.tolist() == [0, 0, 0, 0, n_si, 0, 0, 0, 0, 0]
    assert bonding.o.tolist() == [0, 0, 2 * n_si, 0, 0, 0, 0, 0, 0, 0]
    assert (bonding.two_rings, bonding.close_silicon) == (0, 0)
    r = rdf.bin_centres(cell, bin_angstrom=0.02)
    pairs = rdf.pair_counts(positions[None], types, cell, bin_angstrom=0.02)
    bond = 7.16 * np.sqrt(3) / 8
    np.testing.assert_allclose(
        r[[np.flatnonzero(row)[0] for row in pairs]], [2 * bond, bond, bond * np.sqrt(8 / 3)], atol=0.02
    )


def test_defects_and_edge_sharing_are_counted():
    # Two Si bridged by two O (2.4 A apart), a third Si with one O, one lone O; two frames.
    positions = np.array(
        [[5, 5, 5], [7.4, 5, 5], [12, 5, 5], [6.2, 6.1, 5], [6.2, 3.9, 5], [13.6, 5, 5], [5, 12, 12]]
    )
    types = np.array([0, 0, 0, 1, 1, 1, 1])
    near = find_neighbours(
        np.stack([positions, positions + 9.3]), types, np.full(3, 16.0), cutoff_angstrom=3.6
    )
    bonding = coordination.count_bonds(near, cutoff_si_o_angstrom=2.2)
    assert bonding.si.tolist() == [0, 2, 4, 0, 0, 0, 0, 0, 0, 0]
    assert bonding.o.tolist() == [2, 2, 4, 0, 0, 0, 0, 0, 0, 0]
    assert (bonding.two_rings, bonding.close_silicon) == (2, 2)
    twice = bonding + bonding
    assert (twice.two_rings, twice.close_silicon) == (4, 4)
    assert twice.si.tolist() == [0, 4, 8, 0, 0, 0, 0, 0, 0, 0]
    assert twice.o.tolist() == [4, 4, 8, 0, 0, 0, 0, 0, 0, 0]


def test_an_edge_that_a_threefold_oxygen_shares_is_a_two_ring():
    """Three Si around one O; a second O bridges the first and the last of them."""
    around = np.radians([60, 180, -60])
    silicon = 6 + 1.7 * np.stack([np.cos(around), np.sin(around), 0 * around], axis=1)
    positions = np.concatenate([silicon, [[6, 6, 6], [7.7, 6, 6]]])
    near = find_neighbours(positions[None], np.array([0, 0, 0, 1, 1]), np.full(3, 12.0), cutoff_angstrom=3.6)
    bonding = coordination.count_bonds(near, cutoff_si_o_angstrom=2.2)
    assert bonding.si.tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]
    assert bonding.o.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert bonding.two_rings == 1
    lone = find_neighbours(positions[None, 2:4], np.array([0, 1]), np.full(3, 12.0), cutoff_angstrom=3.6)
    assert coordination.count_bonds(lone, cutoff_si_o_angstrom=2.2).two_rings == 0


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_peak_of_a_known_curve(noise):
    r = (np.arange(280) + 0.5) * 0.02
    spread = np.exp(-((r - 1.623) ** 2) / (2 * 0.09**2))
    second = 2.0 * np.exp(-((r - 4.1) ** 2) / (2 * 0.4**2))
    g = 9.0 * spread + second + 1 / (1 + np.exp(-(r - 3.5) / 0.15))
    g = np.maximum(g + noise * np.sqrt(g) * np.random.default_rng(1).normal(size=len(r)), 0)
    position, height = highest_peak(r, g, window=(1.3, 2.0), half_width=0.06)
    assert position == pytest.approx(1.623, abs=0.004)
    assert height == pytest.approx(9.0, rel=0.01)


def test_the_vertex_of_a_parabola_is_exact():
    x = np.arange(0.01, 4, 0.02)
    for at, height in ((1.6234, 5.0), (1.6301, 0.7)):
        y = height - 3.0 * (x - at) ** 2
        position, found = highest_peak(x, y, window=(1.3, 2.0), half_width=0.06)
        assert position == pytest.approx(at, abs=1e-9)
        assert found == pytest.approx(height, abs=1e-9)


def test_a_spike_narrower_than_the_smoothing_is_no_peak():
    """One bin of noise, half as high again as the peak: weights 1 4 6 4 1 leave 6/16 of it."""
    x = np.arange(0.01, 4, 0.02)
    y = 2.0 * np.exp(-0.5 * ((x - 1.5) / 0.1) ** 2)
    y[np.argmin(np.abs(x - 1.9))] = 3.0
    assert highest_peak(x, y, window=(1.3, 2.0), half_width=0.06)[0] == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(("top", "edge"), [(2.1, 1.99), (1.2, 1.31)])
def test_what_only_rises_or_falls_has_its_maximum_at_the_edge(top, edge):
    """A hump whose top lies outside; both ends of the window belong to it."""
    x = np.arange(0.01, 4, 0.02)
    y = 10 - (x - top) ** 2
    first, last = np.argmin(np.abs(x - 1.31)), np.argmin(np.abs(x - 1.99))
    for window in ((1.3, 2.0), (x[first], x[last])):
        position, height = highest_peak(x, y, window=window, half_width=0.06)
        assert (position, height) == (pytest.approx(edge), pytest.approx(10 - (edge - top) ** 2))


def test_a_peak_may_stand_on_nothing():
    x = np.arange(0.01, 4, 0.02)
    y = np.maximum(0.0, 1 - ((x - 1.6) / 0.1) ** 2)
    assert highest_peak(x, y, window=(1.3, 2.0), half_width=0.06) == pytest.approx((1.6, 1.0))


def test_a_curve_without_a_peak_is_refused():
    with pytest.raises(ValueError, match="no counts between 1"):
        highest_peak(np.arange(1, 100) * 0.02, np.zeros(99), window=(1.0, 1.5), half_width=0.06)


def alpha_quartz(repeats=(3, 3, 2)):
    """Alpha quartz (P3_2 21) as 3 SiO2 in an orthorhombic cell doubled along b: a = 4.913, c = 5.405 A."""
    a, c = 4.913, 5.405
    lattice = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    u, (x, y, z) = 0.4697, (0.4135, 0.2669, 0.1191)
    silicon = [(u, 0, 2 / 3), (0, u, 1 / 3), (-u, -u, 0)]
    oxygen = [
        (x, y, z + 2 / 3), (-y, x - y, z + 1 / 3), (y - x, -x, z),
        (y, x, -z + 1 / 3), (-x, y - x, -z), (x - y, -y, -z + 2 / 3),
    ]  # fmt: skip
    unit = np.array([*silicon, *oxygen]) @ lattice
    types = np.repeat([0, 1], [3, 6])
    # The rectangle a x sqrt(3) a holds two hexagonal cells.
    cell = np.array([a, a * np.sqrt(3), c])
    positions = np.concatenate([unit, unit + lattice[1] + np.array([a, 0, 0])])
    shifts = np.array(list(np.ndindex(repeats))) * cell
    whole = (positions[None] + shifts[:, None]).reshape(-1, 3)
    return whole, np.tile(np.tile(types, 2), len(shifts)), cell * repeats


def test_quartz_has_no_two_rings():
    positions, types, cell = alpha_quartz()
    near = find_neighbours(positions[None], types, cell, cutoff_angstrom=3.6)
    bonding = coordination.count_bonds(near, cutoff_si_o_angstrom=2.2)
    n_si = int((types == 0).sum())
    assert bonding.si.tolist() == [0, 0, 0, 0, n_si, 0, 0, 0, 0, 0]
    assert bonding.o.tolist() == [0, 0, 2 * n_si, 0, 0, 0, 0, 0, 0, 0]
    assert (bonding.two_rings, bonding.close_silicon) == (0, 0)
    counts = dict(zip(angles.TRIPLETS, angles.angle_counts(near, CUTOFFS, bin_degree=1.0), strict=True))
    at = np.flatnonzero(counts["Si-O-Si"])
    assert ((at > 141) & (at < 146)).all()  # quartz: 143.7 degrees at every oxygen


def test_fibrous_silica_is_all_two_rings():
    """W-silica, the SiS2 structure: chains of tetrahedra that share opposite edges."""
    # Weiss & Weiss 1954: orthorhombic, a 4.72, b 8.36, c 5.16 A; chains along c, one link each c/2.
    a, b, c = 4.72, 8.36, 5.16
    chain = [(0, 0, 0.0), (0, 0, c / 2)]
    bridge = 1.2  # of an oxygen from the chain's axis: Si-O 1.76 A, Si-Si 2.58 A
    links = [(bridge, 0, c / 4), (-bridge, 0, c / 4), (0, bridge, 3 * c / 4), (0, -bridge, 3 * c / 4)]
    unit = np.array([*chain, *links])
    unit = np.concatenate([unit, unit + np.array([a / 2, b / 2, 0])])
    types = np.tile(np.repeat([0, 1], [2, 4]), 2)
    repeats = (3, 2, 3)
    shifts = np.array(list(np.ndindex(repeats))) * [a, b, c]
    positions, cell = (unit[None] + shifts[:, None]).reshape(-1, 3), np.array([a, b, c]) * repeats
    types = np.tile(types, len(shifts))
    near = find_neighbours(positions[None], types, cell, cutoff_angstrom=2.7)
    bonding = coordination.count_bonds(near, cutoff_si_o_angstrom=2.2)
    n_si = int((types == 0).sum())
    assert bonding.si[4] == n_si
    assert bonding.o[2] == 2 * n_si
    assert bonding.two_rings == n_si  # one shared edge for each link of a chain
    assert bonding.close_silicon == 0  # 2.58 A; a chain squeezed along its axis has them below 2.5
    squeezed = find_neighbours(
        (positions * [1, 1, 0.93])[None], types, cell * [1, 1, 0.93], cutoff_angstrom=2.7
    )
    bonding = coordination.count_bonds(squeezed, cutoff_si_o_angstrom=2.2)
    assert (bonding.two_rings, bonding.close_silicon) == (n_si, n_si)
