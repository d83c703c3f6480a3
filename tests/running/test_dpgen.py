"""DP-GEN and dpdispatcher files as their users have them: kept, named as not kept, or refused."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from jobs.base.errors import SuiteError
from jobs.campaign.build import build_campaign
from jobs.cli import overview
from jobs.running import scheduler
from jobs.running.site import Site
from jobs.running.site_files import read_site
from jobs.store.stage import Stage
from jobs.store.store import Store
from tests.running.test_site import dpgen_entry

needs_dpdispatcher = pytest.mark.skipif(
    find_spec("dpdispatcher") is None, reason="needs dpdispatcher: pip install -e '.[hpc]'"
)


def write(directory: Path, content: dict[str, Any]) -> str:
    path = directory / "machine.json"
    path.write_text(json.dumps(content))
    return str(path)


def entry(*, machine: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
    """A part of a file; what is given replaces or adds."""
    made = dpgen_entry("q", 0)
    made["machine"] |= machine or {}
    made["resources"] |= resources
    return made


def read(directory: Path, **parts: Any) -> Site:
    return read_site(write(directory, parts))


class TestKept:
    def test_what_dpdispatcher_would_do_before_and_after(self, tmp_path):
        site = read(
            tmp_path,
            train=entry(
                module_purge=True,
                module_unload_list=["gcc"],
                module_list=["deepmd/2.1"],
                source_list=["/opt/env.sh", ""],
                prepend_script=["echo before"],
                append_script=["echo after", "rm -r $TMPDIR/x"],
                custom_flags=["#SBATCH --qos=long"],
                kwargs={"custom_gpu_line": "#SBATCH --gres=gpu:1g.10gb:1"},
                envs={"A": 1, "B": "x y", "LD_LIBRARY_PATH": ["/a:$LD_LIBRARY_PATH", "/b:$LD_LIBRARY_PATH"]},
            ),
        )
        request = site.request("train")
        assert request.setup == (
            "module purge",
            "module unload gcc",
            "module load deepmd/2.1",
            "source /opt/env.sh",
            'export LD_LIBRARY_PATH="/a:$LD_LIBRARY_PATH"',
            'export LD_LIBRARY_PATH="/b:$LD_LIBRARY_PATH"',
            "echo before",
        )
        assert request.environment == {"A": "1", "B": "x y"}
        assert request.teardown == ("echo after", "rm -r $TMPDIR/x")
        assert request.backend == {"custom_gpu_line": "#SBATCH --gres=gpu:1g.10gb:1"}

    def test_a_list_of_values_is_exported_one_after_the_other(self, tmp_path):
        """Run by the shell: each sees the one before, quotes and blanks stay."""
        envs = {"P": ["/a:$P", "/b:$P"], "Q": '"$P" \\ x', "R": ["one"]}
        setup = read(tmp_path, train=entry(envs=envs)).request("train").setup
        script = "P=/z\n" + "\n".join(line for line in setup if line.startswith("export"))
        command = ["bash", "-c", script + '\nprintf "%s|" "$P" "$Q" "$R"']
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert said.stdout == '/b:/a:/z|"/b:/a:/z" \\ x|one|'

    @needs_dpdispatcher
    @pytest.mark.parametrize(
        ("batch_type", "kwargs", "line"),
        [
            ("Slurm", {"custom_gpu_line": "#SBATCH --gpus=a100:2"}, "#SBATCH --gpus=a100:2"),
            ("LSF", {"custom_gpu_line": "#BSUB -gpu num=2:mode=shared"}, "#BSUB -gpu num=2:mode=shared"),
            ("SGE", {"pe_name": "smp"}, "#$ -pe smp 4"),
        ],
    )
    def test_they_are_in_the_jobs_script(self, tmp_path, batch_type, kwargs, line):
        made = entry(
            machine={"batch_type": batch_type}, kwargs=kwargs, gpu_per_node=2, append_script=["echo after"]
        )
        site = read(tmp_path, train=made)
        store = Store(tmp_path / "store")
        stage = Stage("train", "t", {})
        job = scheduler.prepare_job(site, store, stage, tmp_path / "store" / "1", image_digest=None)
        lines = scheduler.script_text(job).splitlines()
        assert line in lines
        assert "#SBATCH --gres=gpu:2" not in lines
        assert "echo after" in lines

    def test_one_pair_is_a_site_of_its_own(self, tmp_path):
        """dpdispatcher's submission files have their tasks beside it."""
        pair = entry()
        content = {key: pair[key] for key in ("machine", "resources")} | {"work_base": "x", "task_list": [1]}
        site = read_site(write(tmp_path, content))
        assert site.request("train") == site.request("aimd")
        assert any("not kept: work_base (x), task_list (...)" in note for note in site.notes)


class TestNamed:
    def test_what_is_not_kept_is_named_with_its_value(self, tmp_path):
        site = read(
            tmp_path,
            api_version="1.0",
            deepmd_version="2.1",
            train=[entry(number_node=2, para_deg=3, wait_time=5, new_key="x"), entry()],
            fp=entry(
                strategy={
                    "if_cuda_multi_devices": False,
                    "customized_script_header_template_file": "t.slurm",
                },
                kwargs={"pe_name": "mpi"},
            ),
        )
        train, fp, rest = site.notes
        assert train.startswith(f"{tmp_path}/machine.json: train: not kept: ")
        for words in (
            "command (dp)",
            "machine.local_root (./)",
            "machine.remote_root (/scratch)",
            "resources.number_node (2)",
            "resources.group_size (5)",
            "resources.para_deg (3)",
            "resources.wait_time (5)",
            "resources.new_key (x)",
            "1 more of its machines",
        ):
            assert words in train
        assert "resources.strategy.customized_script_header_template_file (t.slurm)" in fp
        assert "resources.kwargs.pe_name (mpi)" in fp
        assert "cuda" not in fp
        assert rest.endswith("machine.json: not kept: deepmd_version")

    @needs_dpdispatcher
    def test_it_is_said_before_anything_is_submitted(self, tmp_path, capsys):
        campaign = build_campaign("smoke")
        site, store = read(tmp_path, train=entry(), model_devi=entry()), Store(tmp_path / "store")
        overview.dry_run(campaign, campaign.select(["train-96"]), store, site=site)
        said = capsys.readouterr().out
        assert said.index("train: not kept: command (dp)") < said.index("#SBATCH")


class TestRefused:
    @pytest.mark.parametrize("context", ["SSHContext", "SSH", "ssh", "sshcontext", "Bohrium", "HDFSContext"])
    def test_another_machine_by_any_of_its_names(self, tmp_path, context):
        with pytest.raises(SuiteError, match=f"train: found context_type {context}, expected a local one"):
            read(tmp_path, train=entry(machine={"context_type": context}))

    @pytest.mark.parametrize("context", ["local", "LocalContext", "lazylocal", "LazyLocalContext", "Local"])
    def test_this_machine_by_any_of_its_names(self, tmp_path, context):
        assert read(tmp_path, train=entry(machine={"context_type": context})).batch_type == "Slurm"

    @pytest.mark.parametrize(
        ("parts", "said"),
        [
            ({"train": "slurm", "fp": "lsf"}, "Slurm for train, LSF for fp"),
            ({"train": "PBS", "model_devi": "slurm", "fp": "pbs"}, "PBS for train, Slurm for model_devi"),
            ({"model_devi": "Torque", "fp": "SGE"}, "Torque for model_devi, SGE for fp"),
        ],
    )
    def test_several_batch_systems(self, tmp_path, parts, said):
        made = {part: entry(machine={"batch_type": system}) for part, system in parts.items()}
        with pytest.raises(SuiteError, match=f"found {said}.*, expected one batch system: give a file"):
            read(tmp_path, **made)

    def test_another_system_in_resources(self, tmp_path):
        with pytest.raises(SuiteError, match="found batch_type lsf in resources, expected Slurm as"):
            read(tmp_path, train=entry(batch_type="lsf"))

    @pytest.mark.parametrize(
        ("content", "key"),
        [
            ({"train_machine": {"batch": "slurm"}, "train_resources": {"numb_node": 1}}, "train_machine"),
            ({"deepmd_path": "/opt", "fp_machine": {"batch": "pbs"}}, "deepmd_path"),
            ({"train": [{"machine": {"batch": "slurm"}, "resources": {"numb_node": 1}}]}, "numb_node"),
            ({"model_devi": {"machine": {}, "resources": {"task_per_node": 4}}}, "task_per_node"),
        ],
    )
    def test_files_of_old_versions(self, tmp_path, content, key):
        with pytest.raises(SuiteError, match=f"found {key}, as DP-GEN had it before 0.9, expected"):
            read_site(write(tmp_path, content))

    def test_a_machine_without_resources(self, tmp_path):
        with pytest.raises(SuiteError, match="found a machine alone, expected with resources beside it"):
            read_site(write(tmp_path, {"batch_type": "Slurm", "context_type": "local"}))

    @pytest.mark.parametrize(
        ("resources", "message"),
        [
            ({"envs": {"A B": "x"}}, "envs: found .*, expected variables with texts, numbers or lists"),
            ({"envs": {"A": {"b": 1}}}, "envs: found .*, expected variables with texts"),
            ({"envs": ["A"]}, "envs: found .*, expected variables with texts"),
            ({"append_script": "echo"}, "append_script: found 'echo', expected a list of texts"),
            ({"module_purge": "yes"}, "module_purge: found 'yes', expected true or false"),
            ({"kwargs": [1]}, r"kwargs: found \[1\], expected keys with values"),
            ({"cpu_per_node": "4"}, "cpu_per_node: found '4', expected a positive integer"),
        ],
    )
    def test_values_that_are_not_understood(self, tmp_path, resources, message):
        with pytest.raises(SuiteError, match=message) as caught:
            read(tmp_path, train=entry(**resources))
        assert "\n" not in str(caught.value)

    def test_a_key_that_stands_twice(self, tmp_path):
        """JSON and YAML would forget the first."""
        text = json.dumps({"train": entry()})
        path = tmp_path / "machine.json"
        path.write_text(f'{text[:-1]}, "train": {json.dumps(entry(queue_name="other"))}}}')
        with pytest.raises(SuiteError, match=r"machine\.json: not readable \(found train twice\)"):
            read_site(str(path))
        path = tmp_path / "site.yml"
        path.write_text("name: x\nbatch_type: Slurm\nkinds: {default: {queue: a, queue: b}}\n")
        with pytest.raises(SuiteError, match=r"site\.yml: not readable \(found queue twice"):
            read_site(str(path))
