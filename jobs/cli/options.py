"""Types of options: what argparse says of a number that makes no sense."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from jobs.base.errors import ERROR_EXIT


class OneLineParser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Leave with the message, without the usage before it."""
        self.exit(ERROR_EXIT, f"error: {self.prog}: {message} (--help lists the options)\n")


def count(text: str) -> int:
    """The type of an option like `--cores`: a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive integer")
    return int(text)


def whole(text: str) -> int:
    """The type of an option like `--gpus`: an integer, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text}, expected an integer, 0 or more")
    return int(text)


def positive(text: str) -> float:
    """The type of an option like `--timestep-fs`: a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"found {text}, expected a positive number")
    return value
