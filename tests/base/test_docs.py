"""The docs hold: links, paths and commands in every Markdown file are of this repository as it is."""

import argparse
import importlib.util
import pkgutil
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
COMMANDS_RUN = ROOT / "docs" / "notes" / "commands-run.md"
LONGEST = {"README.md": 120, "ARCHITECTURE.md": 80}

LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
IN_TICKS = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A file or folder of a room of the repository; `*`, braces and `...` stand for several.
ROOMS = "jobs|suite|reference|docs|tests|benchmarks|containers|\\.ci"
PATH = re.compile(rf"(?:{ROOMS})/[\w./-]*")
# A module of ours, or what is in it; and names said to be in a folder, in a sentence or down a table.
MODULE = re.compile(r"(?:jobs|suite|benchmarks)(?:\.\w+)+")
FILES_IN = re.compile(rf"((?:`[\w./-]+`(?:, | and ))*`[\w./-]+`) in `((?:{ROOMS})/[\w./-]*/)`")
TABLE_OF = re.compile(rf"^\| file in `((?:{ROOMS})/[\w./-]*)` \|.*\n\|[-| ]+\n((?:\|.*\n)+)", re.MULTILINE)
COMMAND = re.compile(r"python -m jobs [^|#;&`]*|pytest suite/[^|#;&`]*")
# Words that start a program; and the name of a command, which stands in a sentence for what it does.
PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:python|pytest|asv|sbatch|pip install|\.ci/\w+|lint-imports)(?: |$)"
)
NAMED = re.compile(r"python|pytest|asv|python -m jobs(?: [a-z]+)?|pytest (?:suite|tests)/")
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


def misplaced_files(text):
    """Files that a sentence or a table puts into a folder where they are not."""
    listed = [(folder, names) for names, folder in FILES_IN.findall(text)]
    for folder, rows in TABLE_OF.findall(text):
        listed += [(folder, row.split("|")[1]) for row in rows.splitlines()]
    for folder, names in listed:
        yield from (folder + name for name in IN_TICKS.findall(names) if not (ROOT / folder / name).exists())


def missing_modules(text):
    """Dotted names in backticks that are neither modules of ours nor in one."""
    for words in in_ticks(text):
        if MODULE.fullmatch(words):
            try:
                pkgutil.resolve_name(words)
            except (ImportError, AttributeError):
                yield words


def lines_of_code(text):
    """Lines of the blocks of code of a page with their block's language, each without its comment."""
    for language, block in FENCE.findall(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            yield language, re.split(r"\s{2,}(?=\S)|\s#", line)[0].strip()


def in_ticks(text):
    """What stands in backticks in a page's sentences and tables, also across lines."""
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose(text))]


def commands(text):
    """Every command of ours in a page, in blocks of code and in backticks, without its comment."""
    for line in [*(line for _, line in lines_of_code(text)), *in_ticks(text)]:
        for command in COMMAND.findall(re.split(r"\s{2,}(?=\S)|\s#", line)[0]):
            yield command.strip()


def shown(text):
    """Every line that a reader could type: of blocks for a shell, and what starts a program elsewhere."""
    for language, line in lines_of_code(text):
        if line and (language == "bash" or (not language and PROGRAM.match(line))):
            yield line
    for words in in_ticks(text):
        if PROGRAM.match(words) and not NAMED.fullmatch(words):
            yield words


def results(text):
    """Command and result of each row of the table of commands."""
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \| \d{4}-\d\d-\d\d \|", text, re.MULTILINE))


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
    assert [*missing_paths(page.read_text()), *misplaced_files(page.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_modules_are_there(page):
    assert list(missing_modules(page.read_text())) == []


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


def test_every_command_was_run_or_says_why_not():
    """A new or changed command is run, and its row says how that ended."""
    there = {command for page in PAGES if page != COMMANDS_RUN for command in shown(page.read_text())}
    rows = results(COMMANDS_RUN.read_text())
    assert sorted(there - set(rows)) == []
    assert sorted(set(rows) - there) == []
    assert [row for row in rows.items() if not re.fullmatch(r"run|begun|not run: .+", row[1])] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_says_what_was_not_run(page):
    text, rows = page.read_text(), results(COMMANDS_RUN.read_text())
    unrun = [command for command in shown(text) if rows.get(command, "").startswith("not run")]
    assert unrun == [] or re.search(r"not (been )?run|never ran", text, re.IGNORECASE), unrun


def test_commands_of_a_page_are_found():
    text = (
        "`jobs gc`, `python -m jobs gc` and `python -m jobs\ngc --yes`\n```bash\nmake \\\n  it    # so\n```\n"
    )
    assert list(shown(text)) == ["make it", "python -m jobs gc --yes"]
    assert results("| `make it` | not run: no make | 2026-11-29 | |") == {"make it": "not run: no make"}


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
    table = "| file in `jobs/base/` | |\n|---|---|\n| `no.py`, `files.py` | |\n"
    text = f"{table}\n`a.py` and `units.py` in `jobs/base/`\n"
    assert list(misplaced_files(text)) == ["jobs/base/a.py", "jobs/base/no.py"]
    text = (
        "`jobs.campaign.parts.pairs`, `jobs.campaign.pairs`, `jobs.base.paths.ROOT` and `jobs.base.paths.NO`"
    )
    assert list(missing_modules(text)) == ["jobs.campaign.pairs", "jobs.base.paths.NO"]


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
