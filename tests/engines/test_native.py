"""The native kernel: the same potential as DeePMD-kit's and as plain numpy's, whatever network and ranks."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.base import paths
from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import Configuration, cristobalite, replicate, write_data
from jobs.cost.speed import measure_speed
from jobs.engines.lammps.kernel import DEEPMD, NATIVE, choose_kernel, native_potential
from jobs.engines.lammps.native import build
from jobs.engines.lammps.native.deepmd_export import export_model
from jobs.engines.lammps.native.graph import read_constants
from jobs.engines.lammps.potential import Potential, interaction_commands
from jobs.engines.lammps.program import evaluate, evaluate_all, run_lammps
from jobs.engines.process import executable, run_program, thread_environment
from jobs.reference.potentials import deposited_model
from tests.helpers.plain_deepmd import PlainDeepPotential

pytestmark = pytest.mark.engine

# Networks small enough to train in seconds, with every part that a formula has.
HYBRID = {
    "type": "hybrid",
    "list": [
        {
            "type": "se_e2_a",
            "neuron": [6, 12, 12],
            "axis_neuron": 3,
            "rcut": 5.0,
            "rcut_smth": 2.0,
            "seed": 1,
        },
        {"type": "se_e2_r", "neuron": [5, 5], "rcut": 4.2, "rcut_smth": 1.0, "seed": 2},
    ],
}
ALONE = {"type": "se_e2_a", "neuron": [7, 14, 20], "axis_neuron": 4, "rcut": 5.0, "rcut_smth": 3.0, "seed": 1}
SEL = [30, 50]


def frame(repeats=1, displacement=0.25, seed=3):
    return cristobalite(repeats, displacement_angstrom=displacement, seed=seed)


def train(
    folder: Path, descriptor, *, precision="float64", one_side=False, steps=3, activation="tanh"
) -> Path:
    """A model that `dp` trained for some steps on one frame, with weights that are far from symmetric."""
    folder.mkdir(parents=True)
    system = folder / "data"
    (system / "set.000").mkdir(parents=True)
    start = frame()
    (system / "type_map.raw").write_text("Si\nO\n")
    np.savetxt(system / "type.raw", start.types, fmt="%d")
    rng = np.random.default_rng(1)
    np.save(system / "set.000/coord.npy", start.positions.reshape(1, -1))
    np.save(system / "set.000/box.npy", start.cell.reshape(1, 9))
    np.save(system / "set.000/energy.npy", np.array([-7800.0]))
    np.save(system / "set.000/force.npy", rng.normal(size=(1, start.positions.size)))
    common = {"sel": SEL, "resnet_dt": False, "precision": precision, "type_one_side": one_side}
    common["activation_function"] = activation
    parts = [{**part, **common} for part in descriptor.get("list", [descriptor])]
    content = {
        "model": {
            "type_map": ["Si", "O"],
            "descriptor": {"type": "hybrid", "list": parts} if "list" in descriptor else parts[0],
            "fitting_net": {"neuron": [9, 9, 4], "resnet_dt": True, "precision": precision, "seed": 3},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 0.001, "decay_steps": 10},
        "loss": {"type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 1, "limit_pref_f": 1},
        "training": {
            "training_data": {"systems": ["data"], "batch_size": 1},
            "numb_steps": steps,
            "seed": 4,
            "save_freq": steps,
            "disp_freq": steps,
        },
    }
    (folder / "input.json").write_text(json.dumps(content))
    for words in (["train", "input.json", "--skip-neighbor-stat"], ["freeze", "-o", "model.pb"]):
        run_program(
            [executable("dp"), "--tf", *words],
            directory=folder,
            log=folder / "dp.log",
            environment=thread_environment(1),
            append=True,
        )
    return folder / "model.pb"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "hybrid": train(folder / "hybrid", HYBRID),
        "one-sided": train(folder / "alone", ALONE, precision="float32", one_side=True),
    }


def by_deepmd(model: Path) -> Potential:
    return Potential("test", "deepmd", (f'pair_style deepmd "{model}"', "pair_coeff * * Si O"), None, 5.0)


def by_native(model: Path, scratch: Path) -> Potential:
    scratch.mkdir(exist_ok=True)
    return native_potential(by_deepmd(model), model, scratch=scratch)


def both(model: Path, configuration: Configuration, folder: Path):
    return [
        evaluate_all([(configuration, potential)], directory=folder, name=name)[0]
        for name, potential in (("native", by_native(model, folder)), ("deepmd", by_deepmd(model)))
    ]


# -- one potential ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hybrid", "one-sided"])
def test_energy_forces_and_virial_are_deepmd_kits(models, name, tmp_path):
    native, deepmd = both(models[name], frame(2), tmp_path)
    n_atoms = len(native.forces)
    assert native.energy == pytest.approx(deepmd.energy, abs=2e-6 * n_atoms)
    scale = np.sqrt(np.mean(deepmd.forces**2))
    assert np.sqrt(np.mean((native.forces - deepmd.forces) ** 2)) < 1e-4 * scale
    assert np.abs(native.virial_eV - deepmd.virial_eV).max() < 1e-4 * np.abs(deepmd.virial_eV).max()
    assert np.abs(native.forces.sum(axis=0)).max() < 1e-6


@pytest.mark.parametrize("name", ["hybrid", "one-sided"])
def test_plain_numpy_gives_deepmd_kits_energy(models, name, tmp_path):
    """The formulas, apart from any table or vector: float64 against float64."""
    export_model(models[name], tmp_path / "model.native")
    plain, start = PlainDeepPotential(tmp_path / "model.native"), frame()
    energy = plain.energy(start.positions, start.cell, start.types)
    deepmd = evaluate(start, by_deepmd(models[name]), directory=tmp_path)
    assert energy == pytest.approx(deepmd.energy, abs=1e-8 if name == "hybrid" else 1e-3)


def test_forces_are_the_plain_energys_derivative(models, tmp_path):
    start, h = frame(), 1e-4
    native = by_native(models["hybrid"], tmp_path)
    plain = PlainDeepPotential(tmp_path / "model.native")
    forces = evaluate(start, native, directory=tmp_path).forces
    for atom, axis in ((0, 0), (5, 1), (17, 2)):
        energies = []
        for step in (h, -h):
            moved = start.positions.copy()
            moved[atom, axis] += step
            energies.append(plain.energy(moved, start.cell, start.types))
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-5)


def test_energy_is_smooth_where_a_neighbour_crosses_the_cut_off(models, tmp_path):
    """Two atoms in a large box, from inside to outside: no jump in energy, and no force beyond."""
    native = by_native(models["hybrid"], tmp_path)
    energies, forces = [], []
    for distance in (4.9, 4.99, 4.9999, 5.0001, 5.2):
        pair = Configuration(
            np.array([0, 1]), np.array([[1.0, 1.0, 1.0], [1.0 + distance, 1.0, 1.0]]), np.eye(3) * 20.0
        )
        found = evaluate(pair, native, directory=tmp_path)
        energies.append(found.energy)
        forces.append(np.abs(found.forces).max())
    assert abs(energies[2] - energies[3]) < 1e-6
    assert forces[3] == forces[4] == 0.0
    assert forces[0] > forces[1] > forces[2]


def test_more_neighbours_than_slots_are_left_out_as_deepmd_kit_does(tmp_path, models):
    start = frame()
    crowded = replace(start, positions=start.positions * 0.7, cell=start.cell * 0.7)
    native, deepmd = both(models["hybrid"], crowded, tmp_path)
    assert "more neighbours than the model has slots" in (tmp_path / "native.log").read_text()
    assert np.abs(native.forces - deepmd.forces).max() < 1e-3 * np.abs(deepmd.forces).max()


@pytest.mark.parametrize("wider", ["angular", "radial"])
def test_each_descriptor_has_slots_within_its_own_cut_off(tmp_path, wider):
    """About 20 Si and 39 O lie within 6 A of each atom, 11 and 23 within 5 A."""
    start, (model, _) = frame(), deposited_model("deepmd-96")
    native, exported = by_native(model, tmp_path), tmp_path / "model.native"
    narrow = "radial" if wider == "angular" else "angular"
    text, n = re.subn(rf"(?m)^({narrow} \S+) 6.0 (.*)\n32 56$", r"\1 5.0 \2\n15 30", exported.read_text())
    assert n == 1
    exported.write_text(text)
    energy = PlainDeepPotential(exported).energy(start.positions, start.cell, start.types)
    assert evaluate(start, native, directory=tmp_path).energy == pytest.approx(energy, abs=24e-4)
    exported.write_text(text.replace("15 30", "6 12"))
    expected = r"found more neighbours of (Si|O) than slots \(sel\), expected one sel in both descriptors"
    with pytest.raises(EngineError, match=expected):
        evaluate(start, native, directory=tmp_path)


def test_ranks_agree(models, tmp_path):
    large = replicate(frame(2), (2, 1, 1))
    native = by_native(models["hybrid"], tmp_path)
    write_data(tmp_path / "start.data", large)
    forces, totals = [], []
    for ranks in (1, 2, 4):
        log = run_lammps(
            f"""units metal
atom_style charge
boundary p p p
read_data start.data
{interaction_commands(native)}
compute energies all pe/atom
compute stresses all stress/atom NULL
compute stress all reduce sum c_stresses[1] c_stresses[4]
thermo_style custom step pe pxx pxy vol c_stress[1] c_stress[2]
thermo_modify format float %.15g
dump forces all custom 1 forces-{ranks} fx fy fz c_energies
dump_modify forces sort id format float %.10g
run 0
""",
            directory=tmp_path,
            name=f"ranks-{ranks}",
            ranks=ranks,
        )
        forces.append(np.loadtxt(tmp_path / f"forces-{ranks}", skiprows=9))
        table = {key: float(values[0]) for key, values in log.thermo[0].items()}
        stress_bar = [-table[f"c_stress[{n}]"] / table["Volume"] for n in (1, 2)]
        totals.append([table["PotEng"], table["Pxx"], table["Pxy"], *stress_bar])
    for several in (1, 2):
        assert np.abs(forces[0] - forces[several]).max() < 1e-8
        np.testing.assert_allclose(totals[several], totals[0], atol=0.1)  # eV, and bar of some 1e5


def test_per_atom_energy_and_virial_add_up(models, tmp_path):
    native = by_native(models["hybrid"], tmp_path)
    write_data(tmp_path / "start.data", frame(2))
    log = run_lammps(
        f"""units metal
atom_style charge
boundary p p p
read_data start.data
{interaction_commands(native)}
compute energies all pe/atom
compute energy all reduce sum c_energies
compute stresses all stress/atom NULL
compute stress all reduce sum c_stresses[1] c_stresses[4]
thermo_style custom step pe pxx pxy vol c_energy c_stress[1] c_stress[2]
thermo_modify format float %.15g
run 0
""",
        directory=tmp_path,
        name="atoms",
    )
    table = {key: float(values[0]) for key, values in log.thermo[0].items()}
    assert table["c_energy"] == pytest.approx(table["PotEng"], abs=1e-8)
    assert -table["c_stress[1]"] / table["Volume"] == pytest.approx(table["Pxx"], abs=0.1)
    assert -table["c_stress[2]"] / table["Volume"] == pytest.approx(table["Pxy"], abs=0.1)


def test_energy_is_conserved(tmp_path):
    """The deposited network, 96 atoms at 3000 K: below 1 K/ps in 4 ps."""
    model, _ = deposited_model("deepmd-96")
    native = by_native(model, tmp_path)
    write_data(tmp_path / "start.data", replicate(frame(1, 0.05), (2, 2, 1)))
    log = run_lammps(
        f"""units metal
atom_style charge
boundary p p p
read_data start.data
{interaction_commands(native)}
velocity all create 6000 1 mom yes dist gaussian
timestep 0.0005
fix integrate all nve
thermo 100
thermo_style custom step time temp etotal
thermo_modify format float %.12g
run 1000
run 8000
""",
        directory=tmp_path,
        name="nve",
    )
    table = log.thermo[-1]
    slope_eV_ps = np.polyfit(table["Time"], table["TotEng"], 1)[0]
    assert abs(slope_eV_ps / 96 / (3 * 8.617e-5)) < 1.0
    assert log.dangerous_builds == 0


# -- trust ------------------------------------------------------------------------------------------


def compare(potential: Potential, model: Path, folder: Path) -> float:
    """Rms force difference (eV/A) to DeePMD-kit on a hot crystal of 192 atoms."""
    found = [
        evaluate_all([(frame(2, 0.15), one)], directory=folder, name=name)[0].forces
        for name, one in (("native", potential), ("deepmd", by_deepmd(model)))
    ]
    return float(np.sqrt(np.mean((found[0] - found[1]) ** 2)))


LIMIT_EV_A = 1e-3  # of the claim native-kernel/forces


def test_one_changed_weight_is_caught(tmp_path):
    model, _ = deposited_model("deepmd-96")
    native = by_native(model, tmp_path)
    assert compare(native, model, tmp_path) < 0.2 * LIMIT_EV_A
    exported = tmp_path / "model.native"
    lines = exported.read_text().split("\n")
    at = next(n for n, line in enumerate(lines) if line.startswith("layer 10 20")) + 4
    words = lines[at].split()
    words[3] = repr(float(words[3]) + 0.05)
    lines[at] = " ".join(words)
    exported.write_text("\n".join(lines))
    assert compare(native, model, tmp_path) > LIMIT_EV_A


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("deepmd_kernel.h", "TABLE_SPACING = 0.0125", "TABLE_SPACING = 0.15"),
        ("pair_deepmd_native.cpp", "< cutoff2;", "< cutoff2 && (j + i) % 97;"),
    ],
)
def test_a_wrong_kernel_is_caught(file, right, wrong, tmp_path, monkeypatch):
    """A table too coarse, a pair left out: compiled for real, and caught by the comparison."""
    sources = tmp_path / "sources"
    sources.mkdir()
    for path in [*build.SOURCES.rglob("*.h"), *build.SOURCES.rglob("*.cpp")]:
        text = path.read_text()
        if path.name == file:
            assert right in text
            text = text.replace(right, wrong)
        (sources / path.name).write_text(text)
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model, _ = deposited_model("deepmd-96")
    plugin = build.native_plugin.__wrapped__()
    potential = by_native(model, tmp_path)
    swapped = replace(potential, commands=(f'plugin load "{plugin}"', *potential.commands[1:]))
    assert compare(swapped, model, tmp_path) > LIMIT_EV_A


# -- refusals ---------------------------------------------------------------------------------------


def test_what_it_cannot_compute_is_refused_in_one_line(models, tmp_path):
    other = train(tmp_path / "gelu", ALONE, activation="gelu")
    with pytest.raises(
        SuiteError, match=r"model.pb: found descriptor.activation_function 'gelu', expected 'tanh'"
    ):
        export_model(other, tmp_path / "out")
    (tmp_path / "noise.pb").write_bytes(b"\x0a\xff not a graph")
    with pytest.raises(SuiteError, match=r"noise.pb: found other bytes, expected a frozen TensorFlow graph"):
        export_model(tmp_path / "noise.pb", tmp_path / "out")
    with pytest.raises(SuiteError, match=r"none.pb: not found"):
        export_model(tmp_path / "none.pb", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_graph_is_read_as_tensorflow_reads_it(models):
    """Every number of a real model, by TensorFlow in a process of its own."""
    script = """
import sys, numpy as np
from deepmd.tf.env import tf
from tensorflow.python.framework import tensor_util
graph = tf.GraphDef()
graph.ParseFromString(open(sys.argv[1], "rb").read())
for node in graph.node:
    if node.op == "Const":
        value = tensor_util.MakeNdarray(node.attr["value"].tensor)
        if value.dtype.kind in "if":
            print(node.name, repr(float(np.sum(value, dtype=np.float64))), value.size)
"""
    model = models["hybrid"]
    result = subprocess.run(
        [sys.executable, "-c", script, str(model)], capture_output=True, text=True, env=thread_environment(1)
    )
    rows = [line.split() for line in result.stdout.splitlines() if len(line.split()) == 3]
    ours = {name: value for name, value in read_constants(model).items() if isinstance(value, np.ndarray)}
    assert len(rows) > 50
    for name, total, size in rows:
        if name not in ours:
            continue  # kinds of number that no network has
        assert ours[name].size == int(size)
        assert float(np.sum(ours[name], dtype=np.float64)) == float(total)
    assert {name for name, _, _ in rows if "matrix" in name} <= set(ours)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (("newton off",), "expected newton on"),
        (("change_box all triclinic",), "expected an orthogonal one"),
    ],
)
def test_lammps_settings_it_cannot_run_with(models, commands, expected, tmp_path):
    native = by_native(models["hybrid"], tmp_path)
    write_data(tmp_path / "start.data", frame(2))
    before = [c for c in commands if c.startswith("newton")]
    after = [c for c in commands if not c.startswith("newton")]
    script = "\n".join(
        [
            "units metal",
            "atom_style charge",
            *before,
            "read_data start.data",
            *after,
            interaction_commands(native),
        ]
    )
    with pytest.raises(EngineError, match=re.escape(expected)):
        run_lammps(script + "\nrun 0\n", directory=tmp_path, name="refused")


def test_an_element_that_the_model_does_not_have(models, tmp_path):
    native = by_native(models["hybrid"], tmp_path)
    wrong = replace(native, commands=(*native.commands[:2], "pair_coeff * * Si Al"))
    with pytest.raises(EngineError, match="found Al for type 2, expected an element of the potential"):
        evaluate(frame(2), wrong, directory=tmp_path)


def test_without_a_compiler_deepmd_kit_runs_and_says_what_is_missing(models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    build.native_plugin.cache_clear()
    given, product = by_deepmd(models["hybrid"]), models["hybrid"].parent
    choice = choose_kernel(given, product, wanted=None, scratch=tmp_path)
    assert choice.kernel == DEEPMD
    assert choice.potential == given
    assert "found no C++ compiler" in (choice.warning or "")
    assert "20 times slower" in (choice.warning or "")
    said = measure_speed()
    assert said.startswith(
        "MD of NNPs: DeePMD-kit, about 20 times slower than the native kernel: found no C++"
    )
    with pytest.raises(
        SuiteError, match=r"md.kernel: found native, which cannot run here: found no C.. compiler"
    ):
        choose_kernel(given, product, wanted=NATIVE, scratch=tmp_path)
    assert choose_kernel(given, product, wanted=DEEPMD, scratch=tmp_path).warning is None


def test_a_compiler_is_what_cxx_says(monkeypatch):
    monkeypatch.setenv("CXX", "env g++")
    assert build._compiler() == ["env", "g++"]
    for wrong in ("/nowhere/icpx", 'g++ "'):
        monkeypatch.setenv("CXX", wrong)
        expected = re.escape(f"CXX: found '{wrong}', expected a C++ compiler")
        with pytest.raises(build.NativeUnavailableError, match=f"^{expected}$"):
            build._compiler()


def test_a_speed_that_cannot_be_kept_is_measured_all_the_same(monkeypatch):
    monkeypatch.setattr("jobs.cost.speed._file", lambda: Path("/proc/nowhere/speed.json"))
    assert re.fullmatch(r"MD of NNPs: native kernel, \d+\.\d core-us per step and atom .*", measure_speed())


def test_a_compiler_that_fails_is_one_line(tmp_path, monkeypatch):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'pair.h:1: error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(
        EngineError, match=r"failed to compile the native kernel: pair.h:1: error: no such thing"
    ):
        build.native_plugin.__wrapped__()
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_where_ranks_run_in_an_image_the_plugin_is_the_images(monkeypatch):
    """Here the image is this environment."""
    inside = ["env", f"{build.RANKS_IMAGE}=", f"PYTHONPATH={paths.ROOT}"]
    monkeypatch.setenv(build.RANKS_IMAGE, shlex.join(inside))
    assert build.native_plugin.__wrapped__() == build.native_plugin()
    monkeypatch.setenv(build.RANKS_IMAGE, "sh -c 'echo no such image >&2; exit 255' sh")
    with pytest.raises(EngineError, match="sh: no such image"):
        build.native_plugin.__wrapped__()


def test_a_plugin_of_another_processor_is_refused_before_it_computes(models, tmp_path, monkeypatch):
    """Compiled for a level that no processor has; forced on LAMMPS, it says so itself."""
    monkeypatch.setattr(build, "_march", lambda level: "-march=x86-64-v2")
    plugin = build.build_plugin(tmp_path / "plugins", level=9)
    assert plugin.name.startswith("x86-64-v9-")
    native = by_native(models["hybrid"], tmp_path)
    forced = replace(native, commands=(f'plugin load "{plugin}"', *native.commands[1:]))
    with pytest.raises(EngineError, match="found one compiled for x86-64-v9, which this processor is not"):
        evaluate(frame(2), forced, directory=tmp_path)


def test_other_sources_have_another_name(tmp_path, monkeypatch):
    before = build.plugin_name(3)
    (tmp_path / "deepmd_kernel.h").write_text("// changed")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    assert build.plugin_name(3) != before
