"""Whether an SCF of VASP converged, by the numbers in its output.

VASP leaves its SCF when both the change of the total energy and that of the band energy are below EDIFF, or
after NELM steps. VASP 5 writes `aborting loop because EDIFF is reached` in both cases, so the phrase proves
nothing there; VASP 6 writes `EDIFF was not reached` in the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

REACHED = b"aborting loop because EDIFF is reached"
NOT_REACHED = b"EDIFF was not reached"
# The user ended the SCF by a file STOPCAR.
STOPPED = b"hard stop encountered"
CHANGE = b"total energy-change (2. order) :"
ITERATION = b"- Iteration"
# OUTCAR gives EDIFF with one digit, so it may be half a unit of that above what is printed.
PRINTED_EDIFF = 1.5
_NUMBERS = re.compile(rb"- Iteration\s+(\d+)\(\s*(\d+)\)")


def converged(
    *, steps: int | None, nelm: int | None, changes_eV: tuple[float, ...], ediff_eV: float | None
) -> bool | None:
    """Whether an SCF converged; None where the numbers that would tell are missing.

    Args:
        steps: that it took, at most `nelm`.
        nelm: most steps that it was allowed.
        changes_eV: last changes of the total energy and, where known, of the band energy.
        ediff_eV: what these must be below.
    """
    used_up = steps is not None and nelm is not None and steps >= nelm
    if changes_eV and ediff_eV is not None:
        if steps is not None and nelm is not None and not used_up:
            return abs(changes_eV[0]) < PRINTED_EDIFF * ediff_eV
        return all(abs(change) < ediff_eV for change in changes_eV)
    # It stops before NELM steps for one reason only.
    return True if steps is not None and nelm is not None and not used_up else None


def limits(header: str) -> tuple[int | None, float | None]:
    """NELM and EDIFF (eV) as the head of an OUTCAR has them; the first place is the exact one."""
    nelm = re.search(r"^\s*NELM\s*=\s*(\d+)", header, re.MULTILINE)
    ediff = re.search(r"^\s*EDIFF\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?)", header, re.MULTILINE)
    return (
        int(nelm.group(1)) if nelm else None,
        float(re.sub("[Dd]", "E", ediff.group(1))) if ediff else None,
    )


@dataclass(frozen=True)
class Scf:
    """The last SCF in a piece of an OUTCAR; None for what it does not tell."""

    ionic_step: int | None
    steps: int | None
    converged: bool | None


def outcar_step(text: bytes, *, nelm: int | None, ediff_eV: float | None, end: int | None = None) -> Scf:
    """The last SCF before `end` in a piece of an OUTCAR."""
    where = text.rfind(ITERATION, 0, end)
    tail = text[max(where, 0) : end]
    found = _NUMBERS.match(tail)
    ionic_step, steps = (int(found.group(1)), int(found.group(2))) if found else (None, None)
    changes: tuple[float, ...] = ()
    place = tail.find(CHANGE) if found else tail.rfind(CHANGE)
    if place >= 0:
        line = tail[place + len(CHANGE) : place + len(CHANGE) + 80].split(b"\n", 1)[0]
        words = line.replace(b"(", b" ").replace(b")", b" ").split()
        try:
            changes = tuple(float(word) for word in words)
        except ValueError:  # stars, where a number does not fit
            return Scf(ionic_step, steps, False)
    result = converged(steps=steps, nelm=nelm, changes_eV=changes, ediff_eV=ediff_eV)
    if NOT_REACHED in tail:
        result = False
    elif result and not (changes and ediff_eV) and (REACHED not in tail or STOPPED in tail):
        result = None
    return Scf(ionic_step, steps, result)
