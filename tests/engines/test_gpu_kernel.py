"""What runs an NNP's MD where a GPU is seen, and what engines find in their environment."""

import pytest

from jobs.base import machine
from jobs.base.paths import ROOT
from jobs.cost import speed
from jobs.engines.lammps.kernel import DEEPMD, NATIVE, choose_kernel
from jobs.engines.lammps.potential import Potential
from jobs.engines.process import thread_environment
from jobs.reference.potentials import deposited_model
from tests.base.test_machine import WHOLE, plant

GIVEN = Potential("DeePMD-96", "deepmd", (), None, 6.0)


@pytest.fixture
def a_gpu_is_seen(monkeypatch, tmp_path):
    """And the native kernel's speed is known, so that nothing is measured."""
    plant(monkeypatch, tmp_path, WHOLE)
    known = tmp_path / "speed.json"
    known.write_text('{"core_us_per_step_atom": 4.0}')
    monkeypatch.setattr(speed, "_file", lambda: known)
    speed.kernel_here.cache_clear()
    yield
    speed.kernel_here.cache_clear()


@pytest.mark.engine
def test_a_tensorflow_for_cores_leaves_the_md_to_the_native_kernel(a_gpu_is_seen, monkeypatch, tmp_path):
    """This environment has one kind of TensorFlow or the other; the test says which."""
    monkeypatch.setattr(machine, "software_versions", lambda: {"tensorflow-cpu": "2.19.0"})
    product = deposited_model("deepmd-96")[0].parent
    choice = choose_kernel(GIVEN, product, wanted=None, scratch=tmp_path)
    assert (choice.kernel, choice.warning) == (NATIVE, None)
    assert speed.kernel_here() == NATIVE
    assert speed.measure_speed().startswith("MD of NNPs: native kernel, 4.0 core-us")


def test_a_tensorflow_for_gpus_runs_the_md_on_deepmd_kit(a_gpu_is_seen, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "software_versions", lambda: {"tensorflow": "2.19.0"})
    choice = choose_kernel(GIVEN, tmp_path, wanted=None, scratch=tmp_path)
    assert (choice.kernel, choice.warning) == (DEEPMD, None)
    assert speed.kernel_here() == DEEPMD
    assert speed.measure_speed() == "MD of NNPs: DeePMD-kit on the GPU"


def test_no_engine_rounds_the_factors_of_float32_products(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert thread_environment(1)["NVIDIA_TF32_OVERRIDE"] == "0"
    definition = (ROOT / "containers" / "deepmd-cuda.def").read_text()
    environment = definition.split("%environment")[1].split("%runscript")[0]
    assert "\n    export NVIDIA_TF32_OVERRIDE=0\n" in environment
