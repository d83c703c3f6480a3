"""Local core slots: which stages share a process, and what becomes of the others when one of them fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.campaign.build import build_campaign
from jobs.running.local import Display, _show_notes, _Slot, run, together
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import Plan


def short(n: int, *, kind: str = "observe", core_seconds: float = 2.0, cores: int = 1) -> list[Stage]:
    return [Stage(kind, f"{kind} {i}", {"i": i}, cores=cores, core_seconds=core_seconds) for i in range(n)]


@pytest.mark.parametrize(
    ("ready", "free", "expected"),
    [
        (short(8), 1, 8),
        (short(8), 2, 4),
        (short(7), 2, 4),
        (short(2), 4, 1),
        (short(40), 1, 10),  # 20 s
        (short(8, core_seconds=15), 1, 1),
        (short(1) + short(5, kind="md"), 1, 1),
        (short(1, cores=4) + short(5), 4, 1),
    ],
)
def test_short_stages_of_one_kind_share_a_process_and_leave_work_to_other_cores(ready, free, expected):
    assert together(ready, free) == ready[:expected]


def test_long_stages_are_not_hidden_behind_a_short_one():
    ready = [*short(1), *short(1, core_seconds=100.0), *short(3)]
    assert together(ready, 1) == ready[:1]


def test_a_note_is_shown_while_its_process_goes_on(tmp_path: Path, capsys):
    """What a potential gives must be seen before the stages that share its process have ended."""
    script = (
        "import sys, time, pathlib\n"
        "print('note: own: quartz -58 eV [per SiO2]', flush=True)\n"
        "pathlib.Path('said').touch()\n"
        "while not pathlib.Path('go').exists(): time.sleep(0.01)\n"
        "print('note: second', flush=True)\n"
    )
    with (tmp_path / "said-by-it").open("w+b") as said:
        process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=said)
        slot = _Slot([], 1, process, said, 0.0)
        display = Display(Plan([], []), 1)
        while not (tmp_path / "said").exists():
            time.sleep(0.01)
        _show_notes(slot, display)
        _show_notes(slot, display)
        assert capsys.readouterr().err.count("note: own: quartz -58 eV [per SiO2]") == 1
        (tmp_path / "go").touch()
        process.wait()
        _show_notes(slot, display)
        assert "note: second" in capsys.readouterr().err
        assert (tmp_path / "said-by-it").read_text().count("note: ") == 2, "nothing was written over"


def test_one_that_fails_takes_none_of_its_process_with_it(tmp_path: Path, capsys):
    observed = build_campaign("overnight", start_from="trajectories").labels["motion-96-nvt"]
    assert len(observed) == 5
    broken = replace(observed[1], parameters={**observed[1].parameters, "sha256": "0" * 64})
    stages = [observed[0], broken, *observed[2:]]
    assert together(stages, 1) == stages, "five that share a process"
    outcome = run(stages, store := Store(tmp_path / "store"), cores=1)
    assert list(outcome.failed) == [broken.name]
    assert "expected 000000000000" in outcome.failed[broken.name]
    assert sorted(outcome.made) == sorted(stage.name for stage in stages if stage is not broken)
    for name in outcome.made:
        store.verify([name])
    said = capsys.readouterr().err
    for stage in stages:
        assert said.count(f"started  {stage.label}") == 1
    assert "[5/5]" in said
    products = [json.loads((store.path(name) / "observe.json").read_text()) for name in outcome.made]
    assert all(product["n_atoms"] == 96 for product in products)
