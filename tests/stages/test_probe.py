"""The probe's look at TensorFlow and the GPU."""

import json
import subprocess
import sys

import pytest

from jobs.base.errors import SuiteError
from jobs.engines.process import thread_environment
from jobs.running import scheduler
from jobs.running.site_files import read_site
from jobs.stages import probe
from jobs.store.stage import Stage
from jobs.store.store import Store


@pytest.mark.engine
def test_tensorflow_is_timed_on_a_product_of_matrices():
    """On the cores, where there is no GPU."""
    command = [sys.executable, "-c", probe._GPU_SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, env=thread_environment(1))
    seen = json.loads(done.stdout.splitlines()[-1])
    assert 0 < seen["first_product_s"] < 60
    assert "failed" not in seen


def test_a_gpu_that_computes_nothing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_CACHE_PATH", str(tmp_path / "cuda-cache"))
    seen = {"gpus": ["GPU:0"], "cuda": "12.5.1", "failed": "an unsupported toolchain"}
    monkeypatch.setattr(probe, "_GPU_SCRIPT", f"print({json.dumps(json.dumps(seen))})")
    with pytest.raises(SuiteError, match=r"gpu: found an unsupported toolchain .*, expected a product of"):
        probe._gpu(asked=True, may_be_absent=False)
    assert (tmp_path / "cuda-cache").is_dir()


@pytest.mark.parametrize(("kind", "kept"), [("md", True), ("observe", False)])
def test_what_a_gpu_compiles_is_kept_in_the_store(tmp_path, kind, kept):
    """Jobs see no HOME; the store they may write."""
    store, site = Store(tmp_path / "store"), read_site("example-gpu")
    potential = Stage("potential", "network", {"family": "deepmd"})
    stage = Stage(kind, "liquid", {"ranks": 1}, inputs={"potential": potential})
    words = scheduler._stage_command(site, store, stage, tmp_path, "digest")
    assert (f"APPTAINERENV_CUDA_CACHE_PATH={store.root}/cuda-cache" in words) == kept
    assert f"type=bind,src={store.root},dst={store.root}" in words
