"""What VASP's settings mean, for both of its output files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.base.errors import SuiteError
from jobs.reference.formats import Source
from jobs.reference.formats.level import UNNAMED_DISPERSION, Level

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
# VASP manual, DFT-D3 and DFT-D2: numbers that VASP takes by itself, of the functionals that it has them for.
_DAMPING_TAGS = (
    "VDW_S6", "VDW_S8", "VDW_SR", "VDW_A1", "VDW_A2", "VDW_S9", "VDW_D", "VDW_RADIUS", "VDW_CNRADIUS",
    "VDW_ABC", "VDW_C6", "VDW_R0", "VDW_ALPHA", "LVDW_EWALD", "LVDWSCS", "LTSSURF",
)  # fmt: skip
_SWITCHES = ("LVDW_EWALD", "LVDWSCS", "LTSSURF", "VDW_ABC")
_RADII_A = {
    **{name: {"VDW_RADIUS": 50.0} for name in ("D2", "TS", "MBD")},
    "D3": {"VDW_RADIUS": 50.2, "VDW_CNRADIUS": 21.167},
    "D3(BJ)": {"VDW_RADIUS": 50.2, "VDW_CNRADIUS": 21.167},
}
_DAMPING = {
    ("D2", "PBE"): {"VDW_S6": 0.75, "VDW_SR": 1.0, "VDW_D": 20.0},
    ("TS", "PBE"): {"VDW_S6": 1.0, "VDW_SR": 0.94, "VDW_D": 20.0},
    ("MBD", "PBE"): {"VDW_S6": 1.0, "VDW_SR": 0.83, "VDW_D": 6.0},
    **{
        ("D3", name): {"VDW_S6": 1.0, "VDW_S8": s8, "VDW_SR": sr}
        for name, s8, sr in (
            ("PBE", 0.722, 1.217),
            ("RPBE", 0.514, 0.872),
            ("revPBE", 1.010, 0.923),
            ("PBEsol", 0.612, 1.345),
        )
    },
    **{
        ("D3(BJ)", name): {"VDW_S6": 1.0, "VDW_S8": s8, "VDW_A1": a1, "VDW_A2": a2}
        for name, s8, a1, a2 in (
            ("PBE", 0.7875, 0.4289, 4.4407),
            ("RPBE", 0.8318, 0.1820, 4.0094),
            ("revPBE", 2.3550, 0.5238, 3.5016),
            ("PBEsol", 2.9491, 0.4466, 6.1742),
        )
    },
}
_LIBXC_PARAMETERS = tuple(f"LIBXC{k}_P{n}" for k in (1, 2) for n in range(10))
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


@dataclass(frozen=True)
class Potcar:
    """A POTCAR of a run: its title with its date, its valence electrons, and how many atoms it is for."""

    title: str
    valence: float = math.nan
    atoms: int = 0

    @property
    def element(self) -> str:
        """The element that its title names, as O of `PAW_PBE O_s 07Sep2000`."""
        return (self.title.split()[1:2] or [""])[0].partition("_")[0]


def level(tags: Tags, *, potcar_exchange: str | None, potcars: Sequence[Potcar]) -> Level:
    """The level of theory that a run's tags say; POTCARs in whatever order are the same ones."""
    encut_eV = number(tags("ENMAX"), number(tags("ENCUT"), math.nan))
    order = sorted(range(len(potcars)), key=lambda k: (potcars[k].element, potcars[k].title), reverse=True)
    titles = dict.fromkeys(potcars[k].title for k in order)
    functional, exact = _exchange_correlation(tags, potcar_exchange), _exact_exchange(tags)
    return Level(
        exchange_correlation=functional,
        exact_exchange=exact,
        dispersion=_dispersion(tags, None if exact else functional, order),
        basis=None if math.isnan(encut_eV) else f"PAW, {encut_eV:g} eV",
        plus_u=_plus_u(tags, order),
        spin=_spin(tags),
        charge=_charge(tags, potcars),
        surroundings=_surroundings(tags),
        aspherical="LASPH" if is_true(tags("LASPH")) else None,
        pseudopotentials={"potcar": ", ".join(titles)} if titles else {},
    )


def _exchange_correlation(tags: Tags, potcar_exchange: str | None) -> str | None:
    meta = (tags("METAGGA") or "").strip().upper()
    name: str | None = meta
    if meta == "LIBXC":
        name = _libxc(tags)
    elif meta in _NOTHING:
        gga = (tags("GGA") or "").strip().upper()
        letters = potcar_exchange if gga in _NOTHING else gga
        name = _FUNCTIONALS.get(letters.upper(), letters) if letters else None
        if (letters or "").upper() == "LI":
            name = _libxc(tags)
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


def _libxc(tags: Tags) -> str | None:
    """Which functionals of libxc, with their parameters; None if the file does not say."""
    parts = [value for tag in ("LIBXC1", "LIBXC2") if (value := tags(tag))]
    if not parts:
        return None
    parameters = [f"{tag} {value}" for tag in _LIBXC_PARAMETERS if (value := tags(tag))]
    name = f"libxc {' '.join(parts)}"
    return f"{name} ({', '.join(parameters)})" if parameters else name


def _exact_exchange(tags: Tags) -> str | None:
    if not is_true(tags("LHFCALC")):
        return None
    share = number(tags("AEXX"), math.nan)
    text = "exact exchange" if math.isnan(share) else f"{100 * share:g} % exact exchange"
    for tag, words in (("HFSCREEN", "screened at {:g}/A"), ("HFRCUT", "cut off at {:g} A")):
        if value := number(tags(tag), 0.0):
            text = f"{text} {words.format(value)}"
    kinds = [tag for tag in ("LTHOMAS", "LMODELHF", "LRHFCALC") if is_true(tags(tag))]
    return " ".join([text, *kinds])


def _dispersion(tags: Tags, functional: str | None, order: Sequence[int]) -> str | None:
    parts = []
    if is_true(tags("LUSE_VDW")):
        numbers = [
            f"{tag} {number(tags(tag), math.nan):g}"
            for tag in ("Zab_VDW", "PARAM1", "PARAM2", "BPARAM", "CPARAM")
            if tags(tag)
        ]
        parts.append(f"vdW-DF ({', '.join(numbers)})" if numbers else "vdW-DF")
    kind = whole(tags("IVDW"), 1 if is_true(tags("LVDW")) else 0)
    if kind:
        name = _DISPERSION.get(kind, f"IVDW {kind}")
        numbers = _damping(tags, name, functional, order)
        parts.append(f"{name} with {', '.join(numbers)}" if numbers else name)
    elif tags("Edisp (eV)"):
        parts.append(UNNAMED_DISPERSION)
    return " + ".join(parts) or None


def _damping(tags: Tags, name: str, functional: str | None, order: Sequence[int]) -> list[str]:
    """Numbers of a correction that are not VASP's own for its functional: an OUTCAR lists them all."""
    usual = {**_RADII_A.get(name, {}), **_DAMPING.get((name, functional or ""), {})}
    found: list[str] = []
    for tag in _DAMPING_TAGS:
        if (value := tags(tag)) is None:
            continue
        # D2 takes C6 and R0 of each POTCAR.
        if tag in _SWITCHES:
            found += [tag] if is_true(value) else []
        # Radii are rounded in many ways; damping is printed with four decimals.
        elif abs(number(value, math.nan) - usual.get(tag, math.inf)) > (0.05 if "RADIUS" in tag else 5e-5):
            found.append(f"{tag} {_numbers(_in_order(value, order))}")
    return found


def _in_order(values: str, order: Sequence[int]) -> str:
    """Values of each POTCAR in another order of these; anything else as it is."""
    words = values.split()
    return " ".join(words[k] for k in order) if len(words) == len(order) else values


def _charge(tags: Tags, potcars: Sequence[Potcar]) -> str | None:
    """The cell's charge, if it has one: the valence electrons of its POTCARs less NELECT."""
    valence = sum(potcar.valence * potcar.atoms for potcar in potcars)
    charge = valence - number(tags("NELECT"), math.nan)
    return f"{charge:+g}" if abs(charge) > 1e-3 else None


def _surroundings(tags: Tags) -> str | None:
    """Electric fields, corrections of dipoles and monopoles, and a solvent."""
    parts = [tag for tag in ("LDIPOL", "LMONO", "LSOL") if is_true(tags(tag))]
    parts += [f"IDIPOL {kind}" for kind in [whole(tags("IDIPOL"), 0)] if kind]
    for tag in ("EFIELD", "EFIELD_PEAD"):
        if (value := tags(tag)) and any(number(word, 0.0) for word in value.split()):
            parts.append(f"{tag} {_numbers(value)}")
    return ", ".join(parts) or None


def _plus_u(tags: Tags, order: Sequence[int]) -> str | None:
    said = tags("LDAU")
    if not is_true(said) and (said is not None or tags("LDAUTYPE") is None):
        return None
    values = [
        f"{tag} {_numbers(_in_order(value, order))}"
        for tag in ("LDAUTYPE", "LDAUL", "LDAUU", "LDAUJ")
        if (value := tags(tag))
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
    if whole(tags("ISPIN"), 1) != 2:
        return None
    fixed = number(tags("NUPDOWN"), -1.0)
    return "polarised" if fixed < 0 else f"polarised, NUPDOWN {fixed:g}"


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
    icharg: int

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
        """Write what a report says into a source.

        Raises:
            SuiteError: a run at a fixed density, whose energies and forces are not those of its positions.
        """
        if self.icharg >= 10:
            raise SuiteError(
                f"{source.path}: found ICHARG {self.icharg}, the density held fixed, expected a "
                "self-consistent one"
            )
        source.engine, source.engine_version, source.level = "VASP", self.version, self.level
        if self.ibrion == 0:
            source.timestep_fs = None if math.isnan(self.potim_fs) else self.potim_fs
            source.thermostat = self.thermostat
            if self.tebeg_K != self.teend_K:
                source.remarks.append(
                    f"a ramp from {self.tebeg_K:g} to {self.teend_K:g} K: targets are rounded to "
                    f"{RAMP_STEP_K:g} K"
                )
