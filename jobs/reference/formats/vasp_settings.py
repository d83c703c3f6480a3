"""What VASP's settings mean, for both of its output files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jobs.reference.formats import Source
from jobs.reference.formats.level import Level

# Two-letter names of VASP's POTCAR files and of its tag GGA (VASP manual, GGA).
_FUNCTIONALS = {
    "CA": "LDA",
    "PZ": "LDA",
    "91": "PW91",
    "PE": "PBE",
    "RP": "RPBE",
    "RE": "revPBE",
    "PS": "PBEsol",
    "AM": "AM05",
    "B3": "B3 (VWN3)",
    "B5": "B3 (VWN5)",
    "BF": "BEEF",
    "OR": "optPBE",
    "BO": "optB88",
    "MK": "optB86b",
}
# VASP manual, IVDW; LVDW is what D2 was called before 5.3.
_DISPERSION = {
    1: "D2",
    10: "D2",
    11: "D3",
    12: "D3(BJ)",
    13: "D4",
    2: "TS",
    20: "TS",
    21: "TS/HI",
    202: "MBD",
    4: "dDsC",
}
UNNAMED_DISPERSION = "a dispersion correction without a name"
_NOTHING = ("", "F", "T", ".FALSE.", ".F.", "--", "NONE")
_THERMOSTATS = {1: "Andersen", 2: "Nose-Hoover", 3: "Langevin", 4: "Nose-Hoover chain", 5: "CSVR"}
# A ramp gives each step a target of its own; the steps within this of each other count as one temperature.
RAMP_STEP_K = 100.0

Tags = Callable[[str], "str | None"]
"""The value of a tag, None if the file does not have it."""


def is_true(value: str | None) -> bool:
    """Whether a logical is true; a user's INCAR writes it in many ways."""
    return (value or "F").strip().strip(".").upper().startswith("T")


def number(value: str | None, default: float) -> float:
    """The number that a tag begins with."""
    try:
        return float((value or "").split()[0].rstrip(";").replace("D", "E").replace("d", "e"))
    except (ValueError, IndexError):
        return default


def whole(value: str | None, default: int) -> int:
    """The whole number that a tag begins with."""
    found = number(value, default)
    return int(found) if math.isfinite(found) else default


def level(tags: Tags, *, potcar_exchange: str | None, pseudopotentials: tuple[str, ...]) -> Level:
    """The level of theory that a run's tags say."""
    encut_eV = number(tags("ENMAX"), number(tags("ENCUT"), math.nan))
    return Level(
        exchange_correlation=_exchange_correlation(tags, potcar_exchange),
        exact_exchange=_exact_exchange(tags),
        dispersion=_dispersion(tags),
        basis=None if math.isnan(encut_eV) else f"PAW, {encut_eV:g} eV",
        plus_u=_plus_u(tags),
        spin=_spin(tags),
        pseudopotentials={"potcar": ", ".join(pseudopotentials)} if pseudopotentials else {},
    )


def _exchange_correlation(tags: Tags, potcar_exchange: str | None) -> str | None:
    meta = (tags("METAGGA") or "").strip().upper()
    if meta not in _NOTHING:
        name: str | None = meta
    else:
        gga = (tags("GGA") or "").strip().upper()
        letters = potcar_exchange if gga in _NOTHING else gga
        name = _FUNCTIONALS.get(letters.upper(), letters) if letters else None
        if letters == "LI":
            name = f"libxc {' '.join(filter(None, (tags('LIBXC1'), tags('LIBXC2'))))}".strip()
    if name is None:
        return None
    hybrid, nonlocal_part = is_true(tags("LHFCALC")), is_true(tags("LUSE_VDW"))
    aexx = number(tags("AEXX"), 0.25) if hybrid else 0.0
    usual = {"ALDAX": 1 - aexx, "AGGAX": 1 - aexx, "ALDAC": 1.0, "AGGAC": 0.0 if nonlocal_part else 1.0}
    unusual = [
        f"{tag} {found:g}"
        for tag, default in usual.items()
        if abs((found := number(tags(tag), default)) - default) > 1e-6
    ]
    return f"{name} with {', '.join(unusual)}" if unusual else name


def _exact_exchange(tags: Tags) -> str | None:
    if not is_true(tags("LHFCALC")):
        return None
    share = number(tags("AEXX"), math.nan)
    text = "exact exchange" if math.isnan(share) else f"{100 * share:g} % exact exchange"
    screening = number(tags("HFSCREEN"), 0.0)
    return f"{text} screened at {screening:g}/A" if screening else text


def _dispersion(tags: Tags) -> str | None:
    parts = []
    if is_true(tags("LUSE_VDW")):
        numbers = [
            f"{tag} {number(tags(tag), math.nan):g}" for tag in ("Zab_VDW", "PARAM1", "PARAM2") if tags(tag)
        ]
        parts.append(f"vdW-DF ({', '.join(numbers)})" if numbers else "vdW-DF")
    kind = whole(tags("IVDW"), 0)
    if kind:
        parts.append(_DISPERSION.get(kind, f"IVDW {kind}"))
    elif is_true(tags("LVDW")):
        parts.append("D2")
    elif tags("Edisp (eV)"):
        parts.append(UNNAMED_DISPERSION)
    return " + ".join(parts) or None


def _plus_u(tags: Tags) -> str | None:
    said = tags("LDAU")
    if not is_true(said) and (said is not None or tags("LDAUTYPE") is None):
        return None
    values = [
        f"{tag} {_numbers(value)}" for tag in ("LDAUTYPE", "LDAUL", "LDAUU", "LDAUJ") if (value := tags(tag))
    ]
    return ", ".join(values) or "of unknown size"


def _numbers(text: str) -> str:
    """Numbers as short as they can be written: both files have them, with other decimals."""
    return " ".join(f"{number(word, math.nan):g}" for word in text.split())


def _spin(tags: Tags) -> str | None:
    if is_true(tags("LSORBIT")):
        return "spin-orbit"
    if is_true(tags("LNONCOLLINEAR")):
        return "noncollinear"
    return "polarised" if whole(tags("ISPIN"), 1) == 2 else None


@dataclass(frozen=True)
class Settings:
    """Tags of a run's ions, named after VASP's; NaN or None where the file does not say."""

    version: str | None
    level: Level
    nelm: int | None
    ediff_eV: float | None
    ibrion: int
    nsw: int
    isif: int
    potim_fs: float
    tebeg_K: float
    teend_K: float
    smass: float
    mdalgo: int

    @property
    def cell_moves(self) -> bool:
        """Whether steps have cells of their own."""
        return self.isif >= 3 and self.nsw > 0

    @property
    def thermostat(self) -> str:
        """Of a molecular dynamics run; `none` is NVE."""
        if self.mdalgo in (1, 3, 4, 5):
            return _THERMOSTATS[self.mdalgo]
        if self.smass >= 0:
            return _THERMOSTATS[2]
        return "none" if self.smass == -3 else "velocity scaling"

    def target_kelvin(self, step: int) -> float:
        """The thermostat's temperature at an ionic step, NaN if this is no molecular dynamics."""
        if self.ibrion != 0:
            return float("nan")
        if self.tebeg_K == self.teend_K or self.nsw == 0:
            return self.tebeg_K
        now = self.tebeg_K + (self.teend_K - self.tebeg_K) * min(step, self.nsw) / self.nsw
        return round(now / RAMP_STEP_K) * RAMP_STEP_K if math.isfinite(now) else float("nan")

    def describe(self, source: Source) -> None:
        """Write what a report says into a source."""
        source.engine, source.engine_version, source.level = "VASP", self.version, self.level
        if self.ibrion == 0:
            source.timestep_fs = None if math.isnan(self.potim_fs) else self.potim_fs
            source.thermostat = self.thermostat
            if self.tebeg_K != self.teend_K:
                source.remarks.append(
                    f"a ramp from {self.tebeg_K:g} to {self.teend_K:g} K: targets are rounded to "
                    f"{RAMP_STEP_K:g} K"
                )
