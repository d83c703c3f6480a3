"""Cost of the analysis against the fastest library route, side by side: 5832 atoms x 200 frames.

Run by hand, alone on the machine: `pytest benchmarks/test_analysis.py -s`. Where a library is slow (a
radial distribution takes it a second a frame), both are timed on a few frames and stated per frame: the
work of a frame does not depend on the number of frames. Two threads at the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from jobs.base.silica import cristobalite, replicate, rescale
from jobs.observables import angles, msd, rdf
from jobs.observables.correlation import correlation_sums
from jobs.observables.neighbours import find_neighbours

THREADS = 2
FRAMES = 200
ATOMS = 5832
LIMIT = 1.3
CUTOFFS = {"Si-Si": 3.7, "Si-O": 2.4, "O-O": 3.6}


@pytest.fixture(scope="module")
def silica():
    """A disordered network near cristobalite, 5832 atoms at 2.20 g/cm3, and 200 frames of it vibrating."""
    crystal = rescale(replicate(cristobalite(1, displacement_angstrom=0.0, seed=0), (7, 7, 5)), 2.2)
    types, cell = crystal.types[:ATOMS], crystal.edges
    rng = np.random.default_rng(0)
    frames = crystal.positions[:ATOMS] + rng.normal(scale=0.25, size=(FRAMES, ATOMS, 3))
    return frames, types, cell


def seconds(job: Callable[[], object], repeats: int) -> float:
    """Least processor time (all threads) of some runs, the first of which warms up.

    Processor time, because a shared machine's wall clock measures its other users.
    """
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        job()
        best = min(best, time.process_time() - start)
    return best


def compare(
    what: str, ours: Callable[[], object], libraries: dict[str, Callable[[], object]], repeats: int = 3
):
    """Print and check one row."""
    mine = seconds(ours, repeats)
    theirs = {name: seconds(job, repeats) for name, job in libraries.items()}
    fastest = min(theirs, key=theirs.__getitem__)
    print(f"\n{what}: {mine:.3f} s; " + ", ".join(f"{name} {value:.3f} s" for name, value in theirs.items())
          + f"; ratio to {fastest} {mine / theirs[fastest]:.2f}")  # fmt: skip
    assert mine <= LIMIT * theirs[fastest]


def test_rdf(silica):
    """Two frames, three partials to half the box; libraries through their own C or C++ kernels."""
    import freud
    from MDAnalysis.lib.distances import distance_array, self_distance_array

    freud.parallel.set_num_threads(THREADS)
    frames, types, cell = silica
    frames = frames[:2]
    half = cell.min() / 2
    bins = int(half / 0.02)
    box = freud.box.Box(*cell)
    dimensions = np.array([*cell, 90, 90, 90], np.float32)

    def with_freud():
        """One frame only: it takes seconds."""
        points = box.wrap(frames[0])
        for a, b in ((0, 0), (0, 1), (1, 1)):
            histogram = freud.density.RDF(bins=bins, r_max=half * 0.999999)
            queries = points[types == a]
            # A hundred query points at a time: in one piece freud was slower by far.
            for first in range(0, len(queries), 100):
                histogram.compute((box, points[types == b]), queries[first : first + 100], reset=False)

    def with_mdanalysis():
        for frame in frames:
            points = (frame % cell).astype(np.float32)
            si, o = points[types == 0], points[types == 1]
            for distances in (
                self_distance_array(si, box=dimensions, backend="OpenMP"),
                distance_array(si, o, box=dimensions, backend="OpenMP"),
                self_distance_array(o, box=dimensions, backend="OpenMP"),
            ):
                np.histogram(distances, bins=bins, range=(0, half))

    freud_seconds = seconds(with_freud, 1)
    print(f"\nfreud RDF, one frame: {freud_seconds:.2f} s")
    compare("RDF, 2 frames", lambda: rdf.pair_counts(frames, types, cell, bin_angstrom=0.02),
            {"MDAnalysis": with_mdanalysis}, repeats=2)  # fmt: skip
    assert (
        seconds(lambda: rdf.pair_counts(frames[:1], types, cell, bin_angstrom=0.02), 1)
        < LIMIT * freud_seconds
    )


def test_badf(silica):
    """Ten frames: freud's neighbour list, then the angles of each centre by numpy, against ours."""
    import freud

    freud.parallel.set_num_threads(THREADS)
    frames, types, cell = silica
    frames = frames[:10]
    box = freud.box.Box(*cell)

    def ours():
        for frame in frames:
            near = find_neighbours(frame[None], types, cell, cutoff_angstrom=3.7)
            angles.angle_counts(near, CUTOFFS, bin_degree=1.0)

    def with_freud():
        reach = np.array([[CUTOFFS["Si-Si"], CUTOFFS["Si-O"]], [CUTOFFS["Si-O"], CUTOFFS["O-O"]]])
        for frame in frames:
            points = box.wrap(frame)
            query = freud.locality.AABBQuery(box, points)
            near = query.query(points, {"r_max": 3.7, "exclude_ii": True}).toNeighborList()
            kept = near.filter(
                near.distances < reach[types[near.query_point_indices], types[near.point_indices]]
            )
            units = kept.vectors / kept.distances[:, None]
            ends = types[kept.point_indices]
            # All ordered pairs of bonds of each centre, each angle twice but for its species.
            counts = kept.neighbor_counts.astype(int)
            first = np.repeat(np.arange(len(units)), counts[kept.query_point_indices])
            inner = np.arange(len(first)) - np.repeat(np.cumsum(counts[kept.query_point_indices])
                                                      - counts[kept.query_point_indices],
                                                      counts[kept.query_point_indices])  # fmt: skip
            second = kept.segments.astype(int)[kept.query_point_indices[first]] + inner
            once = first < second
            first, second = first[once], second[once]
            degrees = np.degrees(
                np.arccos(np.clip(np.einsum("px,px->p", units[first], units[second]), -1, 1))
            )
            kind = types[kept.query_point_indices[first]] * 3 + ends[first] + ends[second]
            np.bincount(kind * 181 + degrees.astype(int), minlength=6 * 181)

    compare("BADF, 10 frames", ours, {"freud + numpy": with_freud})


def test_vaf(silica):
    """All lags of both species' VAF; tidynamics (which MDAnalysis uses too) and dynasor atom by atom."""
    import tidynamics
    from dynasor.tools.acfs import compute_acf

    frames, types, _ = silica
    velocities = frames - frames.mean(axis=0)

    def ours():
        for species in (0, 1):
            series = velocities[:, types == species].reshape(FRAMES, -1)
            correlation_sums(series, n_origins=FRAMES, n_lags=FRAMES, workers=THREADS)

    def with_tidynamics():
        for atom in range(ATOMS):
            tidynamics.acf(velocities[:, atom])

    def with_dynasor():
        for series in velocities.reshape(FRAMES, -1).T:
            compute_acf(series)

    compare("VAF, 200 frames", ours, {"tidynamics": with_tidynamics, "dynasor": with_dynasor})


def test_msd(silica):
    """Both species' MSD in blocks at logarithmic lags; tidynamics (MDAnalysis' FFT route) has all lags."""
    import tidynamics

    frames, types, _ = silica
    lags = msd.logarithmic_lags(FRAMES // 2)

    def ours():
        msd.displacement_blocks(
            lambda start, stop, stride: frames[start:stop:stride], n_frames=FRAMES,
            lags=lags, blocks=8, chunk_frames=479,
            species=[np.flatnonzero(types == species) for species in (0, 1)],
        )  # fmt: skip

    def with_tidynamics():
        for atom in range(ATOMS):
            tidynamics.msd(frames[:, atom])

    compare(f"MSD in blocks, 200 frames, {len(lags)} lags", ours, {"tidynamics": with_tidynamics})
