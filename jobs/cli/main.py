"""`python -m jobs`: which commands there are, what each is for, and how one of them is run.

A command is a module with `HELP` (one line), `DESCRIPTION`, `EXAMPLES` (command lines and what they do),
`add_arguments(parser)` and `main(arguments)`, which returns the exit code. Only the module of the command
that is run is imported: a campaign starts dozens of `make`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from jobs.base.errors import ERROR_EXIT, SuiteError
from jobs.base.paths import require_checkout
from jobs.cli.options import OneLineParser

COMMANDS: Mapping[str, Mapping[str, str]] = {
    "Run a tier": {
        "run": "campaign.run",
        "status": "campaign.status",
        "cancel": "campaign.cancel",
        "make": "campaign.make",
    },
    "Look, and change nothing": {
        "graph": "look.graph",
        "check": "look.check",
        "compare": "look.compare",
    },
    "Bring data in": {
        "import": "data.import_data",
        "deposit": "data.deposit",
        "promote": "data.promote",
    },
    "Compute from first principles": {
        "starts": "first_principles.starts",
        "aimd": "first_principles.aimd",
        "recheck": "first_principles.recheck",
    },
    "Measure speed": {
        "tune": "speed.tune",
        "cost": "speed.cost",
    },
    "Keep house": {
        "gc": "housekeeping.gc",
        "images": "housekeeping.images",
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, module in group.items()}

ABOUT = (
    "Make what the claims of the silica paper rest on: first-principles data, potentials, trajectories, "
    "costs. Each product is made once, kept in ./store under a name that says what it was made from, and "
    "never made again while that is unchanged. `pytest suite/` calls `run` for you and judges what comes out."
)
FIRST_STEPS = (
    ("run --tier smoke --dry-run", "what would be made, and for how long; nothing runs"),
    ("run --tier smoke", "the smallest campaign, from end to end"),
    ("status --tier smoke", "what is there; killed, the same `run` goes on"),
    ("import OUTCAR", "your own data: what is in them; nothing is written"),
)
EXIT_CODES = "0 done; 1 a comparison found something; 2 wrong input or a failed stage; 130 interrupted"


def command(name: str) -> Any:
    """The module of a command."""
    return import_module(f"jobs.cli.{MODULES[name]}")


def manual() -> str:
    """What `python -m jobs --help` prints."""
    lines = ["usage: python -m jobs COMMAND [OPTIONS]", "", *_wrapped(ABOUT)]
    for title, group in COMMANDS.items():
        lines += ["", f"{title}:", *(f"  {name:<9} {command(name).HELP}" for name in group)]
    lines += ["", "First steps:", *(f"  python -m jobs {words:<27} {does}" for words, does in FIRST_STEPS)]
    lines += ["", "Options and examples of a command: python -m jobs COMMAND --help"]
    lines += [f"Exit codes: {EXIT_CODES}"]
    return "\n".join(lines)


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, whose help ends with its examples."""
    module = command(name)
    examples = [f"  python -m jobs {words}\n      {does}" for words, does in module.EXAMPLES]
    parser = OneLineParser(
        prog=f"python -m jobs {name}",
        description="\n\n".join("\n".join(_wrapped(part)) for part in module.DESCRIPTION.split("\n\n")),
        epilog="\n".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.usage = " ".join([parser.prog, *_needed(parser), "[OPTIONS]"])
    return parser


def _needed(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What must be said, for the first line of the help: argparse would list every option there."""
    for action in parser._actions:
        name = str(action.metavar or action.dest.upper())
        if not action.option_strings:
            yield {"?": f"[{name}]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name)
        elif action.required:
            yield f"{action.option_strings[-1]} {name}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=min(shutil.get_terminal_size().columns, 100) - 2, break_on_hyphens=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; one line and exit code 2 for wrong input.

    Raises:
        SystemExit: help was asked for, or there is no such command or option, as argparse does.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]):
        print(manual())
        raise SystemExit(0)
    name = words[0] if words else ""
    if name not in MODULES:
        said = f"found command {name!r}" if words else "found no command"
        known = f"expected one of {', '.join(MODULES)}; python -m jobs --help tells them apart"
        print(f"error: {said}, {known}", file=sys.stderr)
        raise SystemExit(ERROR_EXIT)
    arguments = parser_of(name).parse_args(words[1:])
    # What runs `make` shows its last line as the reason, and wants to see the fault of a code.
    made_by_machine = name == "make"
    try:
        require_checkout()
        code: int = command(name).main(arguments)
        return code
    except SuiteError as error:
        print(str(error) if made_by_machine else f"error: {error}", file=sys.stderr)
        return ERROR_EXIT
    except OSError as error:
        # A full disk, a folder that is not there: no fault of the code, unless a stage met it.
        if made_by_machine or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return ERROR_EXIT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
