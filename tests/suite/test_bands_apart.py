"""`.ci/bands-apart` on a small history: what it lets through, and what it refuses."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "bands-apart"
DAY = "2026-03-01"


class History:
    """A repository with claims and results."""

    def __init__(self, root: Path):
        self.root = root
        (root / ".ci").mkdir(parents=True)
        shutil.copy(SCRIPT, root / ".ci")
        self.git("init", "-q")

    def git(self, *words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *words], cwd=self.root, check=True, capture_output=True)

    def commit(self, *, band=None, result=None, changes=(), day=DAY):
        if band is not None:
            each = {"pair": ["Si-O", "O-O"]}
            check = {"id": "{pair}/height", "each": each, "band": {"Si-O": [0, band], "O-O": [0, 1]}}
            content = [{"id": "rdf", "checks": [check]}, {"changes": list(changes)}]
            path = self.root / "reference" / "claims.yml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(yaml.safe_dump(content))
        if result is not None:
            path = self.root / "reference" / "models" / "model.yml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "c", f"--date={day}T12:00:00")

    def judged(self):
        return subprocess.run(
            [sys.executable, self.root / ".ci" / "bands-apart"], capture_output=True, text=True
        )


@pytest.fixture
def history(tmp_path):
    return History(tmp_path)


def change(*claims, date=DAY):
    return {"date": date, "claims": list(claims), "change": "wider", "known": "nothing"}


def test_every_place_of_results_that_is_watched_exists():
    watched = runpy.run_path(str(SCRIPT))["RESULTS"]
    assert watched
    assert [place for place in watched if not (SCRIPT.parents[1] / place).exists()] == []


def test_a_band_may_change_before_there_are_results(history):
    history.commit(band=1)
    history.commit(band=2)
    assert history.judged().returncode == 0


def test_after_results_it_must_stand_in_the_list(history):
    history.commit(band=1)
    history.commit(result="one")
    history.commit(band=2)
    found = history.judged()
    assert found.returncode == 1
    assert f"changes has no entry of {DAY} for rdf/Si-O/height" in found.stdout
    assert "O-O" not in found.stdout


@pytest.mark.parametrize(
    ("entry", "passes"),
    [
        (change("rdf"), True),
        (change("rdf/Si-O"), True),
        (change("rdf/Si-O/height"), True),
        (change("rdf/Si"), False),
        (change("rdf", date="2026-03-02"), False),
        (change("badf"), False),
    ],
)
def test_the_entry_is_of_the_day_and_of_the_check(history, entry, passes):
    history.commit(band=1)
    history.commit(result="one")
    history.commit(band=2, changes=[entry])
    assert (history.judged().returncode == 0) is passes


def test_never_together_with_a_result(history):
    history.commit(band=1)
    history.commit(result="one")
    history.commit(band=2, result="two", changes=[change("rdf")])
    assert "together with reference/models/model.yml" in history.judged().stdout
    assert history.judged().returncode == 1


def test_a_new_result_beside_a_new_band_is_no_change(history):
    history.commit(band=1, result="one")
    assert history.judged().returncode == 0
