"""Small files are written whole; JSON has no NaN."""

import json
from pathlib import Path

import pytest

from jobs.base.errors import SuiteError
from jobs.base.files import finite, write_json
from jobs.engines.process import LogCounter


def test_json_is_written_whole_and_without_nan(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    content = {"mean": 1.5, "text": "\u00c5", "rows": [1, None]}
    write_json(path, content, indent=1)
    assert path.read_text() == json.dumps(content, indent=1) + "\n"
    with pytest.raises(SuiteError, match=r"facts\.json: found a number that is not finite, expected JSON"):
        write_json(path, {"mean": float("nan")})
    assert json.loads(path.read_text()) == content
    assert [file.name for file in tmp_path.iterdir()] == ["facts.json"]


def test_what_is_no_number_is_null() -> None:
    assert [finite(value) for value in (0.0, -2.5, float("nan"), float("inf"))] == [0.0, -2.5, None, None]


def test_a_log_is_counted_as_it_grows(tmp_path: Path) -> None:
    log = tmp_path / "OUTCAR"
    count = LogCounter(log, "TOTAL-FORCE")
    assert count() == 0
    text = "a step\nTOTAL-FORCE (eV/Angst)\n" * 20
    for end in range(0, len(text) + 1, 7):
        log.write_text(text[:end])
        assert count() == text[:end].count("TOTAL-FORCE")
