"""The kind of node: GPUs and MIG slices as nvidia-smi lists them, and parts of a node."""

import os
import shutil

import pytest

from jobs.base import machine
from jobs.base.errors import SuiteError
from jobs.base.machine import (
    gpus,
    listed_gpus,
    machine_type,
    native_kernel,
    node_type,
    require_gpus,
    usable_gpus,
)

WHOLE = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1d2f6cda-0a6d-4d4b-9d0f-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1d2f6cda-0a6d-4d4b-9d0f-000000000001)
"""
SLICES = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-000000000000)
  MIG 1g.5gb      Device  1: (UUID: MIG-c7384736-a75d-5afc-978f-000000000001)
  MIG 1g.5gb      Device  2: (UUID: MIG-c7384736-a75d-5afc-978f-000000000002)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-000000000001)
"""
EPYC = {"cpu": "AMD EPYC 7763 64-Core Processor", "cores": 128, "gpus": []}


def plant(monkeypatch, tmp_path, listing):
    """An nvidia-smi that lists GPUs, first on PATH."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = -L ]; then cat <<END\n{listing}END\nelse echo 550.54.15; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_the_native_kernels_digest_is_of_its_sources_and_of_what_writes_its_models(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_NATIVE_FOLDER", shutil.copytree(machine._NATIVE_FOLDER, tmp_path / "copy"))
    digest = native_kernel.__wrapped__
    before = digest()
    assert before == native_kernel()
    for name in ("source/hdnnp/hdnnp_kernel.h", "source/plugin.cpp", "deepmd_export.py"):
        (tmp_path / "copy" / name).write_text("// changed")
        assert digest() != before
        before = digest()
    (tmp_path / "copy/build.py").write_text("# how it is compiled is in a plugin's name")
    assert digest() == before


def test_a_slice_of_a_gpu_has_its_profile():
    assert listed_gpus(WHOLE) == ["NVIDIA H100 80GB HBM3"] * 2
    a100 = "NVIDIA A100-SXM4-40GB"
    assert listed_gpus(SLICES) == [f"{a100} MIG 3g.20gb", *[f"{a100} MIG 1g.5gb"] * 2, a100]
    assert listed_gpus("No devices were found\n") == []


def test_parts_of_a_node_have_names_of_their_own():
    cpu, gpu = "amd-epyc-7763-64-core", "nvidia-a100-sxm4-40gb-mig"
    assert machine_type(EPYC) == machine_type(EPYC | {"available_cores": 128}) == f"{cpu}-128-cores"
    assert machine_type(EPYC | {"available_cores": 16}) == f"{cpu}-16-of-128-cores"
    cut_up = machine_type(EPYC | {"gpus": listed_gpus(SLICES)[:3]})
    assert cut_up == f"{cpu}-128-cores-1-x-{gpu}-3g-20gb-2-x-{gpu}-1g-5gb"


def test_this_node_is_named_by_the_cores_that_this_process_may_use(monkeypatch, tmp_path):
    plant(monkeypatch, tmp_path, SLICES)
    monkeypatch.setattr(machine, "hardware", lambda: EPYC)
    assert gpus()[0] == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "550.54.15")
    assert f"-{len(os.sched_getaffinity(0))}-of-128-cores-1-x-nvidia-a100" in node_type()


@pytest.mark.parametrize(
    ("tensorflow", "visible", "usable"),
    [("tensorflow", None, 2), ("tensorflow", "0,1", 2), ("tensorflow", "-1", 0), ("tensorflow-cpu", None, 0)],
)
def test_a_gpu_that_is_seen_is_usable_only_by_a_tensorflow_for_gpus(
    monkeypatch, tmp_path, tensorflow, visible, usable
):
    plant(monkeypatch, tmp_path, WHOLE)
    monkeypatch.setattr(machine, "software_versions", lambda: {tensorflow: "2.19.0"})
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(gpus()) == 2
    assert usable_gpus() == usable
    require_gpus(usable)
    with pytest.raises(SuiteError, match=rf"gpus: found {usable} that can be used \(2 seen .*expected 3"):
        require_gpus(3)
