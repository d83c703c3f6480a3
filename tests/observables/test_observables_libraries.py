"""What is observed of one real trajectory against freud, MDAnalysis, dynasor and tidynamics.

The trajectory is a deposited AIMD run (PBE, 96 atoms, 3000 K), through the observe stage as campaigns run it.
"""

import json

import numpy as np
import pytest

from jobs.base.silica import MASSES_AMU
from jobs.campaign.parts.observing import observe_parameters
from jobs.campaign.sections import Observables
from jobs.observables.msd import remove_drift
from jobs.reference.sets import read_run, read_set
from jobs.stages.observations import observe
from jobs.store.workspace import Workspace

SET, RUN, SKIP = "pbe-96-md-nnp-3000K", "nnp-907-3000K", 40


@pytest.fixture(scope="module")
def frames():
    return read_run(read_set(SET), RUN)


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("observed")
    parameters = observe_parameters(Observables(blocks=1, structure_factor=True))
    del parameters["skip_fraction"]
    parameters |= {
        "skip_frames": SKIP,
        "reference": {"set": SET, "run": RUN, "sha256": read_set(SET).sha256},
    }
    observe.run(Workspace(parameters, seed=0, inputs={}, directory=directory))
    with np.load(directory / "observables.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}, json.loads(
            (directory / "observe.json").read_text()
        )


def seen(frames, observed):
    """The frames that structure was averaged over, and the box."""
    _, facts = observed
    used = frames.positions[facts["skip_frames"] :: facts["structure_stride"]]
    return used, np.diag(frames.cells[0])


def test_rdf_is_freuds_and_mdanalysis(frames, observed):
    freud = pytest.importorskip("freud")
    distances = pytest.importorskip("MDAnalysis.lib.distances")
    arrays, _ = observed
    positions, cell = seen(frames, observed)
    r = arrays["rdf_r"]
    box = freud.box.Box(*cell)
    dimensions = np.array([*cell, 90, 90, 90], np.float32)
    edges = np.append(r - 0.01, r[-1] + 0.01)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    for pair, (a, b) in {"Si-Si": (0, 0), "Si-O": (0, 1), "O-O": (1, 1)}.items():
        library = freud.density.RDF(bins=len(r), r_max=edges[-1])
        counts = np.zeros(len(r))
        for frame in positions:
            one, other = (box.wrap(frame[frames.types == species]) for species in (a, b))
            library.compute(
                (box, other), one, reset=False, neighbors={"r_max": edges[-1], "exclude_ii": a == b}
            )
            apart = distances.distance_array(one.astype(np.float32), other.astype(np.float32), box=dimensions)
            counts += np.histogram(apart[apart > 0.5], edges)[0]
        n_a, n_b = (np.count_nonzero(frames.types == species) for species in (a, b))
        partners = n_b - 1 if a == b else n_b
        ours = arrays[f"rdf_{pair}"][0]
        # freud divides by the density of all partners, we by that of the others.
        np.testing.assert_allclose(ours, library.rdf * n_b / partners, atol=0.03, err_msg=pair)
        by_counts = counts / len(positions) / n_a / (partners * shells / np.prod(cell))
        # Single precision moves a distance across an edge now and then: few counts a bin, none in sum.
        np.testing.assert_allclose(ours, by_counts, atol=0.06, err_msg=pair)
        np.testing.assert_allclose(
            np.cumsum(ours * shells), np.cumsum(by_counts * shells), rtol=2e-3, atol=0.05
        )


def test_angles_and_coordination_are_freuds(frames, observed):
    """O-Si-O from freud's neighbour list and plain arccosines."""
    freud = pytest.importorskip("freud")
    arrays, _ = observed
    positions, cell = seen(frames, observed)
    box, cutoff = freud.box.Box(*cell), observe_parameters({})["angle_cutoffs_angstrom"]["Si-O"]
    histogram, shares = np.zeros(180), np.zeros(10)
    for frame in positions:
        silicon, oxygen = (box.wrap(frame[frames.types == species]) for species in (0, 1))
        near = freud.locality.AABBQuery(box, oxygen).query(silicon, {"r_max": cutoff}).toNeighborList()
        for atom in range(len(silicon)):
            partners = near.point_indices[near.query_point_indices == atom]
            shares[len(partners)] += 1
            bonds = box.wrap(oxygen[partners] - silicon[atom])
            units = bonds / np.linalg.norm(bonds, axis=1, keepdims=True)
            pairs = np.triu_indices(len(partners), 1)
            cosines = np.clip((units @ units.T)[pairs], -1, 1)
            histogram += np.histogram(np.degrees(np.arccos(cosines)), 180, (0, 180))[0]
    np.testing.assert_allclose(arrays["badf_O-Si-O"][0], histogram / histogram.sum(), atol=2e-4)
    np.testing.assert_allclose(
        arrays["coordination_SiO"][0],
        (shares / shares.sum())[: len(arrays["coordination_SiO"][0])],
        atol=1e-3,
    )


def test_vaf_and_msd_are_tidynamics(frames, observed):
    tidynamics = pytest.importorskip("tidynamics")
    arrays, facts = observed
    masses = MASSES_AMU[frames.types]
    start = facts["skip_frames"]
    velocities = remove_drift(frames.velocities[start:], masses)
    positions = remove_drift(frames.positions[start:], masses)
    for name, species in (("Si", 0), ("O", 1)):
        atoms = np.flatnonzero(frames.types == species)
        lags = np.rint(arrays["msd_time_fs"] / 2).astype(int)
        msd = np.mean([tidynamics.msd(positions[:, atom]) for atom in atoms], axis=0)
        # Ours takes fewer origins for long lags: exactly the library's up to there.
        np.testing.assert_allclose(arrays[f"msd_{name}"][0][:16], msd[lags][:16], rtol=1e-6)
        np.testing.assert_allclose(arrays[f"msd_{name}"][0], msd[lags], rtol=3e-3)
        # Ours takes the same origins for every lag; the library all that there are.
        n_lags = len(arrays["vaf_time_fs"])
        origins = len(velocities) - n_lags + 1
        vaf = np.mean(
            [
                [np.sum(velocities[k, atoms] * velocities[k + lag, atoms]) for lag in range(n_lags)]
                for k in range(origins)
            ],
            axis=0,
        )
        np.testing.assert_allclose(arrays[f"vaf_{name}"][0], vaf / vaf[0], atol=1e-9)
        acf = np.mean([tidynamics.acf(velocities[:, atom]) for atom in atoms], axis=0)
        early = slice(0, 10)  # where nearly the same origins enter
        np.testing.assert_allclose(arrays[f"vaf_{name}"][0][early], (acf / acf[0])[early], atol=0.06)


def test_structure_factor_is_dynasors(frames, observed):
    dynasor = pytest.importorskip("dynasor.core.reciprocal")
    arrays, facts = observed
    start, stop = facts["skip_frames"], facts["skip_frames"] + facts["frames"]
    cell = np.diag(frames.cells[0])
    held = frames.positions[start:stop]
    q, found = arrays["sq_q"], arrays["sq_Si-Si"][0]
    # The shortest vectors of this box: six along the axes (three and their opposites), one bin.
    waves = 2 * np.pi * np.eye(3) / cell[0]
    silicon = np.flatnonzero(frames.types == 0)
    lowest = np.linalg.norm(waves[0])
    at = int(np.argmin(np.abs(q - lowest)))
    assert q[at] == pytest.approx(lowest, abs=0.03)
    power = np.mean([np.abs(dynasor.calc_rho_q(frame[silicon], waves)) ** 2 for frame in held])
    # Faber-Ziman: S_aa = 1 + (|rho|^2 / N_a - 1) / c_a.
    expected = 1 + (power / len(silicon) - 1) / (1 / 3)
    assert found[at] == pytest.approx(expected, abs=0.05)
