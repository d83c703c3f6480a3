"""The docs hold: links, paths and commands in every Markdown file are of this repository as it is."""

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.paths import ROOT
from jobs.cli import main as command_line

PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part[0] in "._" or part in ("store", "results") for part in path.relative_to(ROOT).parts)
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LONGEST = {"README.md": 120, "ARCHITECTURE.md": 80}

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
IN_TICKS = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A file or folder of a room of the repository; `*`, braces and `...` stand for several.
ROOMS = "jobs|suite|reference|docs|tests|benchmarks|containers|\\.ci"
PATH = re.compile(rf"(?:{ROOMS})/[\w./-]*")
COMMAND = re.compile(r"python -m jobs [^|#;&`]*|pytest suite/[^|#;&`]*")
# Values that stand in a command for what a reader has.
SAMPLES = {"N": "1", "DIR": "there", "K": "3000"}


def prose(text):
    """Text without its blocks of code."""
    return FENCE.sub("", text)


def anchors(page):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


def broken_links(page, text):
    """Relative links of a text of a page whose file or anchor is not there."""
    for target in LINK.findall(prose(text)):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            yield target


def missing_paths(text):
    """Paths in backticks that look like files of the repository and are not there."""
    for words in IN_TICKS.findall(prose(text)):
        if re.search(r"[*<>{}$]|\.\.\.|NAME", words):
            continue
        for path in PATH.findall(words) if words.split("/")[0] in ROOMS.replace("\\", "").split("|") else ():
            if not (ROOT / path).exists():
                yield path


def commands(text):
    """Every command of ours in a page, in blocks of code and in backticks, without its comment."""
    blocks = [re.sub(r"\\\n\s*", "", block) for _, block in FENCE.findall(text)]
    in_line = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose(text))]
    for line in [*(line for block in blocks for line in block.splitlines()), *in_line]:
        for command in COMMAND.findall(re.split(r"\s{2,}(?=\S)|\s#", line)[0]):
            yield command.strip()


class Parsed(Exception):  # noqa: N818 - it says that all is well
    """The command was understood; nothing of it was run."""


@pytest.fixture
def parse(monkeypatch):
    """Parse a command with the real parsers, without running it; SystemExit where they refuse."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_only(self, *given, **named):
        raise Parsed(parse_args(self, *given, **named))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)

    def parse(command):
        words = [SAMPLES.get(word, word.strip("[]")) for word in shlex.split(command)]
        if words[0] == "pytest":
            from _pytest.config import get_config

            config = get_config(words[1:])
            config.pluginmanager.import_plugin("suite.plugin")
            config._parser.parse(words[1:])
        elif len(words) == 4:  # the name of a command, in a sentence
            with pytest.raises(SystemExit, match="0"):
                command_line.main([words[3], "--help"])
        else:
            with pytest.raises(Parsed):
                command_line.main(words[3:])

    return parse


def test_there_are_pages():
    assert {"README.md", "ARCHITECTURE.md", "docs/index.md", "reference/README.md"} <= set(NAMES)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    assert list(broken_links(page, page.read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_are_there(page):
    assert list(missing_paths(page.read_text())) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(page, parse, capsys):
    for command in commands(page.read_text()):
        try:
            parse(command)
        except (SystemExit, Exception) as refused:
            pytest.fail(f"{command}: {type(refused).__name__} {refused} {capsys.readouterr().err}")


@pytest.mark.parametrize(
    "command", ["pytest suite/ --teir smoke", "python -m jobs run --onyl x", "python -m jobs nothing"]
)
def test_a_wrong_command_is_caught(command, parse):
    assert list(commands(f"```bash\n{command}    # why\n```")) == [command]
    with pytest.raises((SystemExit, pytest.UsageError, AssertionError)):
        parse(command)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_programs_are_there(page):
    """What is started as `python FILE` or `python -m MODULE` exists."""
    text = page.read_text()
    files = set(re.findall(r"\bpython ([\w/]+\.py)", text))
    modules = set(re.findall(r"\bpython -m ((?:jobs|suite|benchmarks)[\w.]*)", text))
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []
    assert [name for name in sorted(modules) if importlib.util.find_spec(name.rstrip(".")) is None] == []


def test_wrong_links_and_paths_are_caught():
    page = ROOT / "docs" / "run.md"
    assert list(broken_links(page, "[a](nothing.md) [b](run.md#nowhere) [c](run.md#exit-codes)")) == [
        "nothing.md",
        "run.md#nowhere",
    ]
    assert list(missing_paths("`jobs/nothing.py` and `jobs/base/files.py`")) == ["jobs/nothing.py"]


@pytest.mark.parametrize(("name", "lines"), LONGEST.items())
def test_what_is_read_first_is_short(name, lines):
    assert len((ROOT / name).read_text().splitlines()) <= lines


def test_site_builds(tmp_path):
    """Sphinx with -W: a broken link or reference fails."""
    pytest.importorskip("myst_parser", reason="needs the extra `docs`")
    pytest.importorskip("furo", reason="needs the extra `docs`")
    words = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path / "site")]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert (Path(tmp_path) / "site" / "architecture.html").is_file()
