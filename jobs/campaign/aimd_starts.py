"""The file of starts that `python -m jobs aimd` computes from: extended XYZ whose comment lines say whose."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.base.files import read_text
from jobs.base.frames import comment_values
from jobs.stages.data.aimd import start_of


@dataclass(frozen=True)
class GivenStart:
    """One start of the file, as text, and what its comment line says."""

    text: str
    n_atoms: int
    replica: int
    temperature_K: float | None
    source: str | None


def read_starts(path: Path) -> Iterator[GivenStart]:
    """The starts of a file, in its order.

    Raises:
        SuiteError: no such file, no start in it, or one that could not be used.
    """
    if not path.is_file():
        raise SuiteError(f"{path}: found no such file, expected an extended XYZ file of starts")
    lines = iter(read_text(path, expected="an extended XYZ file of starts").splitlines(keepends=True))
    number = 0
    # Files that were joined may have an empty line between them.
    for number, line in enumerate(filter(str.strip, lines), start=1):
        where = f"{path}: frame {number}"
        if not line.strip().isdigit():
            raise SuiteError(f"{where}: found {line.strip()[:40]!r}, expected the number of atoms")
        n_atoms = int(line)
        block = [line, *islice(lines, n_atoms + 1)]
        if len(block) != n_atoms + 2:
            raise SuiteError(f"{where}: found {len(block) - 2} atoms, expected {n_atoms}: truncated")
        info = comment_values(block[1])
        if "replica" not in info or not info["replica"].isdigit():
            raise SuiteError(
                f"{where}: found replica={info.get('replica')}, expected a number in its comment line"
            )
        try:
            kelvin = float(info["temperature_K"]) if "temperature_K" in info else None
        except ValueError:
            raise SuiteError(
                f"{where}: found temperature_K={info['temperature_K']}, expected a number"
            ) from None
        text = "".join(block)
        text = text if text.endswith("\n") else text + "\n"
        _check_start(text, where)
        yield GivenStart(
            text,
            n_atoms,
            int(info["replica"]),
            kelvin,
            info.get("source"),
        )
    if number == 0:
        raise SuiteError(f"{path}: found no start, expected at least one")


def _check_start(text: str, where: str) -> None:
    """Refuse what the stage could not use, before anything runs: one bad start would take others with it."""
    from ase.io import iread

    try:
        atoms = next(iread(io.StringIO(text), format="extxyz"))
    except Exception as error:  # whatever ASE says of text that is none
        raise SuiteError(
            f"{where}: found no extended XYZ ({error}), expected species and positions"
        ) from None
    start_of(atoms, where, density=None)
