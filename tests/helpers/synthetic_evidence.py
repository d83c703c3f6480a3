"""Products with known answers, in the format of the stages `observe`, `parity` and `train`."""

import json
from pathlib import Path

import numpy as np

BLOCKS = 8
PEAKS = {"Si-O": (1.637, 0.09, 9.0), "O-O": (2.66, 0.16, 2.6), "Si-Si": (3.14, 0.18, 2.8)}
CLOSEST = {"Si-O": 1.3, "O-O": 2.1, "Si-Si": 2.4}
ANGLES = {"O-Si-O": (109.0, 9.0), "O-O-O": (60.0, 6.0), "Si-O-Si": (140.0, 14.0), "Si-Si-Si": (105.0, 18.0)}


def smooth_noise(rng, shape, width):
    """Noise whose neighbours along the last axis resemble each other, unit variance."""
    kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    white = rng.normal(size=(*shape[:-1], shape[-1] + len(kernel) - 1))
    rows = [np.convolve(row, kernel, mode="valid") for row in white.reshape(-1, white.shape[-1])]
    return np.reshape(rows, shape) / np.sqrt((kernel**2).sum())


def temperature_series(rng, *, mean_K, n_atoms, n=600, fluctuation=1.0, memory=0.8):
    """AR(1) with the canonical variance times `fluctuation` squared."""
    sd = fluctuation * mean_K * np.sqrt(2 / (3 * n_atoms - 3))
    x = np.empty(n)
    x[0] = rng.normal()
    for i in range(1, n):
        x[i] = memory * x[i - 1] + np.sqrt(1 - memory**2) * rng.normal()
    return mean_K + sd * x


def write_observation(
    directory: Path,
    *,
    n_atoms=96,
    seed=0,
    temperature_K=3000.0,
    fluctuation=1.0,
    shift=0.0,
    turn=0.0,
    stiffness=1.0,
    noise=1.0,
    **facts,
):
    """One replica: `shift` moves every peak (A), `turn` every angle (deg), `stiffness` scales frequencies."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True)
    scale = noise / np.sqrt(n_atoms / 96)
    edge = (n_atoms / 0.0662) ** (1 / 3)
    r = np.arange(0.01, edge / 2, 0.02)
    arrays = {"rdf_r": r, "angle_deg": np.arange(180) + 0.5}
    for pair, (position, width, height) in PEAKS.items():
        peak = height * np.exp(-0.5 * ((r - position - shift) / width) ** 2)
        mean = peak + 1 / (1 + np.exp(-(r - position - 0.9) / 0.15))
        rough = 0.02 * scale * smooth_noise(rng, (BLOCKS, len(r)), 2) * np.sqrt(mean)
        arrays[f"rdf_{pair}"] = np.where(mean > 1e-3, np.abs(mean + rough), 0.0)
    for angle, (mean, width) in ANGLES.items():
        x = arrays["angle_deg"]
        density = np.exp(-0.5 * ((x - mean - turn) / width) ** 2) + 0.02 * np.sin(np.radians(x))
        density = np.abs(density + 0.01 * scale * smooth_noise(rng, (BLOCKS, len(x)), 3))
        arrays[f"badf_{angle}"] = density / density.sum(axis=1, keepdims=True)
    t = np.arange(0.0, 1001.0, 2.0)
    lags = np.unique(np.round(np.geomspace(1, 500, 40))) * 2.0
    for species, mass, frequency in (("Si", 28.0855, 0.09), ("O", 15.999, 0.11)):
        w = frequency * stiffness
        vaf = np.exp(-t / 90) * np.cos(w * t)
        drawn = 0.01 * scale * smooth_noise(rng, (BLOCKS, len(t)), 6) * (1 - np.exp(-t / 10))
        arrays[f"vaf_{species}"] = vaf + drawn
        v2 = 3 * 8.314462618e-7 * temperature_K / mass
        bump = 1 + 0.12 * np.exp(-0.5 * (np.log(lags / 170) / 0.5) ** 2)
        msd = 2 * v2 / w**2 * (1 - np.cos(np.minimum(w * lags, np.pi / 2))) * bump * (1 + lags / 4000)
        drawn = 0.02 * scale * rng.normal(size=(BLOCKS, 1))
        arrays[f"msd_{species}"] = msd * np.exp(drawn * (1 + 0.2 * np.log(lags / 100)))
    arrays |= {"vaf_time_fs": t, "msd_time_fs": lags}
    shares = np.zeros((BLOCKS, 10))
    shares[:, 4] = 0.95 + 0.005 * rng.normal(size=BLOCKS)
    shares[:, 5] = 1 - shares[:, 4]
    arrays["coordination_SiO"] = shares
    series = temperature_series(rng, mean_K=temperature_K, n_atoms=n_atoms, fluctuation=fluctuation)
    arrays["temperature_K"] = series.reshape(BLOCKS, -1).mean(axis=1)
    arrays["thermo_temperature_K"] = series
    arrays["thermo_time_fs"] = 10.0 * np.arange(len(series))
    arrays["thermo_total_eV"] = -1000 + 0.01 * rng.normal(size=len(series))
    np.savez(directory / "observables.npz", **arrays)
    about = {
        "n_atoms": n_atoms,
        "temperature_K": 3000.0,
        "density_g_cm3": 2.2,
        "dangerous_builds": 0,
        "potential": f"DeePMD-{n_atoms}",
        "stretch": 1.0,
        "blocks": BLOCKS,
    }
    about |= {"frames": 3000, "time_between_frames_fs": 2.0} | facts
    (directory / "observe.json").write_text(json.dumps(about))
    return directory


def write_heldout(
    directory: Path, *, error=0.2, per_atom=None, seed=0, n_atoms=96, frames=4, runs=3, reference_seed=99
):
    """Held-out frames of several runs and temperatures; the errors are `error` eV/A, forces 2 eV/A.

    Energies are off by `per_atom` eV, or by 0.02 A of the error.
    """
    per_atom = 0.02 * error if per_atom is None else per_atom
    directory.mkdir(parents=True)
    truth, rng = np.random.default_rng(reference_seed), np.random.default_rng(seed)
    temperatures = np.repeat([2000, 2500, 3000, 3500, 4000, 4500, 5000], frames * runs)
    n = len(temperatures)
    reference = 2.0 * truth.normal(size=(n * n_atoms, 3))
    # A least-squares model has E(reference | predicted) = predicted.
    shrink = 1 - (error / 2.0) ** 2
    predicted = shrink * reference + error * np.sqrt(shrink) * rng.normal(size=reference.shape)
    energy = truth.normal(-31400, 2.0, size=n)
    np.savez(
        directory / "heldout.npz",
        temperature_K=temperatures,
        melt=np.array([f"melt-{i}" for i in np.tile(np.repeat(np.arange(runs), frames), 7)]),
        n_atoms=np.full(n, n_atoms),
        energy_reference_eV=energy,
        energy_predicted_eV=energy + per_atom * n_atoms * rng.normal(size=n),
        forces_reference=reference,
        forces_predicted=predicted,
        species=np.tile(np.repeat([0, 1], [n_atoms // 3, 2 * n_atoms // 3]), n),
        frame=np.repeat(np.arange(n), n_atoms),
    )
    (directory / "parity.json").write_text("{}")
    return directory


def write_training(directory: Path, **audit):
    """A training's record."""
    directory.mkdir(parents=True)
    training = {"lowest_temperature_K": 2000.0, "min_distance_angstrom": dict(CLOSEST)} | audit
    (directory / "potential.json").write_text(json.dumps({"name": "DeePMD-96", "training": training}))
    (directory / "train.json").write_text(json.dumps({"compressed_vs_full_force_rms_eV_A": 0.0005}))
    return directory


def with_motion(products):
    """Products in which motion is read from the liquids, as in a tier that observes one run for both."""
    liquids = {"liquid-96-nvt", "liquid-96-bks", "liquid-216-nvt"} & set(products)
    return {**products, **{label.replace("liquid", "motion"): products[label] for label in liquids}}


def replicas(root: Path, label: str, count: int, *, seed: int, **options):
    """Several replicas of one label."""
    return [write_observation(root / f"{label}-{i}", seed=seed + i, **options) for i in range(count)]


def cost_point(engine, n_atoms, *, core_us, setting=None, cores=2, **facts):
    """A measured point of a cost record whose core-microseconds per step and atom are known."""
    setting = setting or ("aimd" if engine == "cp2k" else "tuned")
    layout = {"replicas": 1, "ranks": cores, "threads": 1, "gpus": 0, "skin_angstrom": 1.0}
    return {
        "engine": engine, "setting": setting, "model": engine, "model_sha256": None, "precision": "float32",
        "compressed": True, "sel": None, "n_atoms": n_atoms, "timestep_fs": 1.0, "cores": cores, **layout,
        "samples_are": "launches", "us_per_step_atom": [us / cores for us in core_us],
        "core_us_per_step_atom": list(core_us), "steps": 100, "checks": {}, "failed": [], "seconds": 1.0,
    } | facts  # fmt: skip


def write_cost(directory: Path, points, *, not_measured=(), **machine):
    """A cost product of these points."""
    from jobs.cost.record import cost_record

    directory.mkdir(parents=True)
    about = {
        "type": "test-node", "cpu": "test", "cores": 2, "gpus": [], "driver": None, "software": {},
        "image": None, "measured": "2026-01-01T00:00:00Z",
    } | machine  # fmt: skip
    conditions = {"temperature_K": 3000.0, "density_g_cm3": 2.2, "timestep_fs": 1.0}
    record = cost_record(points, machine=about, conditions=conditions, not_measured=not_measured)
    (directory / "cost.json").write_text(json.dumps(record))
    return directory
