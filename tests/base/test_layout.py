"""Who may import whom: import-linter's contracts in pyproject.toml hold and catch a planted edge."""

import os
import shutil
import subprocess
import sys

import pytest

from jobs.base.paths import ROOT
from jobs.stages.kinds import ROOMS

PACKAGES = [
    "base",
    "campaign",
    "cli",
    "cost",
    "engines",
    "observables",
    "reference",
    "running",
    "stages",
    "store",
]


def lint_imports(folder):
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(cache_dir=None))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


def test_contracts_hold():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("jobs/base/units.py", "import jobs.cli.options", "A package imports only packages below it"),
        ("jobs/campaign/plan.py", "import jobs.campaign.build", "No circles"),
        ("suite/judging/verdict.py", "import jobs.engines.process", "What judges knows no engine"),
    ],
)
def test_a_planted_edge_is_caught(file, line, contract, tmp_path):
    for folder in ("jobs", "suite"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


@pytest.mark.parametrize(
    ("command", "code"),
    [(["-m", "jobs", "graph"], 2), (["-m", "pytest", "suite/", "--tier", "smoke", "--dry-run"], 4)],
)
def test_an_installed_copy_without_reference_data_says_so(command, code, tmp_path):
    for folder in ("jobs", "suite"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "conftest.py", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code
    line = f"{tmp_path}/reference: found no such folder, expected a checkout: pip install -e ."
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_rooms_of_jobs():
    found = sorted(path.name for path in (ROOT / "jobs").iterdir() if path.is_dir() and path.name[0] != "_")
    assert found == sorted(PACKAGES)


def test_every_kind_of_stage_is_in_the_list_and_every_level_can_be_looked_over():
    files = [
        path for path in (ROOT / "jobs" / "stages").rglob("*.py") if "\nCODE_VERSION" in path.read_text()
    ]
    assert {path.stem: path.parent.name.removeprefix("stages") for path in files} == ROOMS
    crowded = {}
    for folder in [ROOT / "jobs", *(ROOT / "jobs").rglob("*/")]:
        names = [path.name for path in folder.iterdir() if not path.name.startswith("__")]
        if folder.is_dir() and len(names) > 10 and folder.name != "__pycache__":
            crowded[folder] = sorted(names)
    assert not crowded
