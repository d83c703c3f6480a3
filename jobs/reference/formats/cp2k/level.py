"""Level of theory of a CP2K run: from its log, or from a restart file, which is the whole input.

A log of print level LOW lacks it. Both are put into the same words, so that runs of both can share a set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.base.units import BOHR_ANGSTROM, HARTREE_EV
from jobs.reference.formats.level import UNNAMED_DISPERSION, Level

# Names of functionals that have several parts.
_USUAL = {
    ("BECKE88", "LYP"): "BLYP",
    ("BECKE88", "LYP", "VWN", "XALPHA"): "B3LYP",
    ("LYP", "OPTX"): "OLYP",
    ("BECKE88", "P86C"): "BP86",
    ("GGA_C_PBE", "GGA_X_PBE"): "PBE",
    ("GGA_C_PBE_SOL", "GGA_X_PBE_SOL"): "PBEsol",
    ("MGGA_C_SCAN", "MGGA_X_SCAN"): "SCAN",
    ("MGGA_C_R2SCAN", "MGGA_X_R2SCAN"): "r2SCAN",
}
# Damping that CP2K has for a REFERENCE_FUNCTIONAL: sr6 and s8; with BJ's a1, s8 and a2. A log has only these.
_ZERO_DAMPING: Mapping[str, tuple[float, ...]] = {
    "PBE": (1.217, 0.722),
    "revPBE": (0.923, 1.010),
    "RPBE": (0.872, 0.514),
    "PBEsol": (1.345, 0.612),
    "PBE0": (1.287, 0.928),
    "BLYP": (1.094, 1.682),
    "B3LYP": (1.261, 1.703),
    "BP86": (1.139, 1.683),
    "TPSS": (1.166, 1.105),
}
_BJ_DAMPING: Mapping[str, tuple[float, ...]] = {
    "PBE": (0.4289, 0.7875, 4.4407),
    "revPBE": (0.5238, 2.3550, 3.5016),
    "PBEsol": (0.4466, 2.9491, 6.1742),
    "PBE0": (0.4145, 1.2177, 4.8593),
    "BLYP": (0.4298, 2.6996, 4.2359),
    "B3LYP": (0.3981, 1.9889, 4.4211),
    "BP86": (0.3946, 3.2822, 4.8516),
    "TPSS": (0.4535, 1.9435, 4.4752),
}
# Methods of Quickstep that no functional describes.
_WITHOUT_FUNCTIONAL = ("XTB", "DFTB", "AM1", "MNDO", "MNDOD", "PM3", "PM6", "PM6-FM", "PDG", "PNNL", "RM1")
_CUTOFF_A = 20.0 * BOHR_ANGSTROM
_PARAMETRISATIONS = {"REVPBE": "revPBE", "PBESOL": "PBEsol", "RPBE": "RPBE"}
_NUMBER = r"([-+\d.Ee]+)"


def functional(parts: dict[str, str]) -> str | None:
    """The name of a functional from its parts: CP2K's name of each, and what its scale factors are."""
    if not parts:
        return None
    names = tuple(sorted(parts))
    name = _USUAL.get(names, "+".join(names))
    scales = [
        f"{part} {scale}" if len(parts) > 1 else scale for part, scale in sorted(parts.items()) if scale
    ]
    # Those of B3LYP are its definition, and a log does not have them.
    return f"{name} scaled ({', '.join(scales)})" if scales and name != "B3LYP" else name


@dataclass
class Dispersion:
    """A dispersion correction: its kind, and of a D3 what it is damped for and how far it reaches.

    `numbers` are s6, sr6 (BJ: a1), s8 (and a2), where they are known; `of` is the functional that they are
    for, where that is.
    """

    kind: str
    numbers: list[float] = field(default_factory=list)
    of: str | None = None
    cutoff_A: float | None = None
    three_bodies: bool = False

    def text(self, functional: str | None) -> str:
        """All of it; what is the functional's own goes without saying."""
        words = [self.kind]
        tables = {"D3": _ZERO_DAMPING, "D3(BJ)": _BJ_DAMPING}
        table = tables.get(self.kind, {})
        of = self.of
        if self.numbers:
            s6, *damping = self.numbers
            same = (name for name, usual in table.items() if s6 == 1.0 and list(usual) == damping)
            of = next(same, None)
            if of is None:
                words.append(f"damped by {' '.join(f'{value:g}' for value in self.numbers)}")
        if of is not None and of.upper() != (functional or "").upper():
            words.append(f"of {next((name for name in table if name.upper() == of.upper()), of)}")
        if self.cutoff_A is not None and abs(self.cutoff_A - _CUTOFF_A) > 0.01:
            words.append(f"to {self.cutoff_A:.3g} A")
        if self.three_bodies:
            words.append("with C9")
        return " ".join(words)


@dataclass
class LevelOfLog:
    """What a log says of its level of theory, line by line."""

    parts: dict[str, str] = field(default_factory=dict)
    basis: list[str] = field(default_factory=list)
    potentials: list[str] = field(default_factory=list)
    method: str | None = None
    cutoff_Ry: float | None = None
    share: float | None = None
    interaction: dict[str, float | str] = field(default_factory=dict)
    dispersion: Dispersion | None = None
    hubbard: list[str] = field(default_factory=list)
    spin: str | None = None
    charge: int = 0
    field_numbers: dict[str, list[float]] = field(default_factory=dict)
    solvent: bool = False
    _texts: dict[str, str] = field(default_factory=dict)
    _part: str = ""

    def read(self, line: str) -> None:
        """Take note of a line; ValueError or IndexError if it is cut off."""
        words = line.split()
        if line.startswith(" FUNCTIONAL|"):
            self._read_functional(words, line)
        elif line.startswith(" vdW POTENTIAL|"):
            self._read_dispersion(line)
        elif line.startswith("  HFX_INFO|"):
            self._read_exact_exchange(words)
        elif line.startswith(" QS| Method:"):
            self.method = words[-1]
        elif line.startswith(" QS| Density cutoff [a.u.]:"):
            self.cutoff_Ry = 2 * float(words[-1])
        elif line.startswith(" DFT| Charge"):
            self.charge = int(words[-1])
        elif line.startswith(" DFT| Spin unrestricted"):
            self.spin = "polarised"
        elif line.startswith(" DFT| Spin restricted open"):
            self.spin = "restricted open shell"
        elif found := re.match(r" ((?:PERIODIC_)?EFIELD)\|", line):
            self.field_numbers.setdefault(found.group(1), []).append(float(words[-1]))
        elif line.startswith(" SCCS|"):
            self.solvent = True
        elif "Orbital Basis Set" in line:
            self.basis.append(words[-1])
        elif "Potential information for" in line:
            self.potentials.append(words[-1])
        elif "Angular quantum momentum number L:" in line:
            self.hubbard.append(f"L {words[-1]}")
        elif "U(eff) = (U - J) value in [eV]:" in line:
            self.hubbard.append(f"U {float(words[-1]):g} eV")

    def _read_functional(self, words: list[str], line: str) -> None:
        if len(words) == 2 and words[-1].endswith(":"):
            self._part = words[-1].rstrip(":")
            self._texts[self._part] = ""
        elif self._part:
            # Lines are as wide as they are: words go on in the next one.
            self._texts[self._part] += line[13:].rstrip("\n")

    def _read_dispersion(self, line: str) -> None:
        words = line.split()
        if found := re.search(r"(\w+) Functional:", line):
            self.dispersion = Dispersion(f"{found.group(1)} non-local")
        elif found := re.search(r"DFT-(D\d)", line):
            self.dispersion = Dispersion(found.group(1))
        elif self.dispersion is None:
            self.dispersion = Dispersion(UNNAMED_DISPERSION)
        elif "BJ Damping" in line:
            self.dispersion.kind += "(BJ)"
        elif re.search(r"(s6|sr6|s8) Scaling Factor:|a[12] Damping Factor:", line):
            self.dispersion.numbers.append(float(words[-1]))
        elif "Cutoff Radius [Bohr]:" in line:
            self.dispersion.cutoff_A = float(words[-1]) * BOHR_ANGSTROM

    def _read_exact_exchange(self, words: list[str]) -> None:
        if "FRACTION:" in words:
            self.share = float(words[-1])
        elif "Potential:" in words:
            self.interaction["potential"] = words[-1]
        elif "Radius" in words and "[angstrom]:" in words:
            self.interaction["radius"] = float(words[-1])
        elif words[1].upper().rstrip(":") == "OMEGA":
            self.interaction["omega"] = float(words[-1])

    def level(self) -> Level:
        """All of it."""
        parts: dict[str, str] = {}
        for name, text in self._texts.items():
            variant = next((known for known in ("revPBE", "PBEsol", "RPBE") if text.startswith(known)), None)
            # A section of libxc's functionals, as up to CP2K 8, says in its text which they are.
            plain = name.removeprefix("XC_") if name != "LIBXC" else f"LIBXC {' '.join(text.split())}".strip()
            parts[variant or plain] = _scales_of_text(text)
        return _level(
            parts or self.parts,
            share=self.share,
            interaction=self.interaction,
            dispersion=self.dispersion,
            basis=self.basis,
            potentials=self.potentials,
            method=self.method,
            cutoff_Ry=self.cutoff_Ry,
            hubbard=self.hubbard,
            spin=self.spin,
            charge=self.charge,
            surroundings=_surroundings(self.field_numbers, solvent=self.solvent),
        )


def _surroundings(fields: dict[str, list[float]], *, solvent: bool) -> str | None:
    """Fields by their direction and intensity (a.u.), and a solvent."""
    parts = [
        f"{name} {' '.join(f'{number:g}' for number in numbers)}" for name, numbers in sorted(fields.items())
    ]
    return ", ".join([*parts, *(["SCCS"] if solvent else [])]) or None


def _scales_of_text(text: str) -> str:
    found = dict(re.findall(r"(sx|sc|scale)=\s*(\d*\.\d+)", text))
    said = {"x": found.get("sx"), "c": found.get("sc"), "": found.get("scale")}
    return _scales({key: float(value) for key, value in said.items() if value})


def _scales(values: dict[str, float]) -> str:
    return " ".join(
        f"{key}{' ' if key else ''}{value:g}" for key, value in values.items() if abs(value - 1) > 5e-4
    )


def _level(
    parts: dict[str, str],
    *,
    share: float | None,
    interaction: dict[str, float | str],
    dispersion: Dispersion | None,
    basis: list[str],
    potentials: list[str],
    method: str | None,
    cutoff_Ry: float | None,
    hubbard: list[str],
    spin: str | None,
    charge: int,
    surroundings: str | None,
) -> Level:
    grid = {}
    name = functional(parts)
    if method is not None and method.upper() in _WITHOUT_FUNCTIONAL:
        name = method
    if method is not None and cutoff_Ry is not None:
        grid = {"method": method, "cutoff_Ry": f"{cutoff_Ry:g}"}
    unusual = sorted({name for name in potentials if not name.upper().startswith("GTH-PBE")})
    return Level(
        exchange_correlation=name,
        exact_exchange=_exact_exchange(share, interaction),
        dispersion=None if dispersion is None else dispersion.text(name),
        basis=", ".join(dict.fromkeys(basis)) or None,
        plus_u=", ".join(hubbard) or None,
        spin=spin,
        charge=f"{charge:+d}" if charge else None,
        surroundings=surroundings,
        grid=grid,
        # Those of PBE go without saying.
        pseudopotentials={"pseudopotentials": ", ".join(unusual)} if unusual else {},
    )


def _exact_exchange(share: float | None, interaction: dict[str, float | str]) -> str | None:
    if share is None:
        return None
    text = f"{100 * share:g} % exact exchange"
    kind = str(interaction.get("potential", "COULOMB")).upper()
    if kind != "COULOMB":
        text += f" of a {kind.lower()} potential"
    if "radius" in interaction and kind != "COULOMB":
        text += f" to {float(interaction['radius']):g} A"
    if "omega" in interaction and kind != "COULOMB":
        text += f", omega {float(interaction['omega']):g}"
    return text


# Restart files ------------------------------------------------------------------------------------


def level_of_input(text: str) -> Level:
    """The level of theory of a restart file, where every keyword stands on a line of its own."""
    xc = _section(text, "XC")
    share = re.search(rf"^\s*FRACTION\s+{_NUMBER}", _section(xc, "HF"), re.M)
    kinds = re.findall(r"^\s*&KIND\s+\S+.*?^\s*&END KIND", text, re.M | re.S)
    orbital = [
        name for kind in kinds for name in re.findall(r"^\s*BASIS_SET\s+(?:ORB\s+)?(\S+)\s*$", kind, re.M)
    ]
    potentials = [name for kind in kinds for name in re.findall(r"^\s*POTENTIAL\s+(\S+)\s*$", kind, re.M)]
    hubbard = [_hubbard(section) for kind in kinds if (section := _section(kind, "DFT_PLUS_U"))]
    cutoff = re.search(rf"^\s*CUTOFF\s+{_NUMBER}\s*$", _section(text, "MGRID"), re.M)
    method = re.search(r"^\s*METHOD\s+(\S+)", _section(text, "QS"), re.M)
    dft = text.partition("&DFT\n")[2] or text
    spins = {
        "polarised": "UKS|LSD|SPIN_POLARIZED|UNRESTRICTED_KOHN_SHAM",
        "restricted open shell": "ROKS|RESTRICTED_OPEN_KOHN_SHAM",
    }
    spin = (name for name, words in spins.items() if re.search(rf"^\s*(?:{words})\s+T\s*$", dft, re.M))
    charge = re.search(r"^\s*CHARGE\s+(-?\d+)\s*$", dft.partition("&SUBSYS")[0], re.M)
    return _level(
        _functional_parts(_section(xc, "XC_FUNCTIONAL")),
        share=float(share.group(1)) if share else None,
        interaction=_interaction(_section(_section(xc, "HF"), "INTERACTION_POTENTIAL")),
        dispersion=_dispersion(_section(xc, "VDW_POTENTIAL")),
        basis=orbital,
        potentials=potentials,
        # GPW is CP2K's default.
        method=method.group(1) if method else "GPW",
        cutoff_Ry=float(cutoff.group(1)) if cutoff else None,
        hubbard=[part for parts in hubbard for part in parts],
        spin=next(spin, None),
        charge=int(charge.group(1)) if charge else 0,
        surroundings=_surroundings(_fields(dft), solvent=bool(re.search(r"^\s*&SCCS\b", dft, re.M))),
    )


def has_three_bodies(text: str) -> bool:
    """Whether an input asks for D3's three-body terms, which a log does not say."""
    return bool(re.search(r"^\s*CALCULATE_C9_TERM(?:\s+(?:T|TRUE|\.TRUE\.|YES|ON))?\s*$", text, re.M | re.I))


def _fields(text: str) -> dict[str, list[float]]:
    found = {}
    for name in ("EFIELD", "PERIODIC_EFIELD"):
        if section := _section(text, name):
            lines = re.findall(r"^\s*(?:POLARISATION|INTENSITY)\s+(.+)$", section, re.M)
            # As a log has them, the direction comes first.
            ordered = sorted((line.split() for line in lines), key=len, reverse=True)
            found[name] = [float(word) for words in ordered for word in words]
    return found


def _section(text: str, name: str) -> str:
    """What stands in the first section of a name; nothing if there is none."""
    match = re.search(rf"^\s*&{name}\b(.*?)^\s*&END {name}\b", text, re.M | re.S)
    return match.group(1) if match else ""


def _functional_parts(section: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name, inner in re.findall(r"^\s*&(\w+)\b(?: +T)?[ \t]*\n(.*?)^\s*&END \1", section, re.M | re.S):
        keywords = dict(re.findall(r"^\s*(\w+)\s+(\S+)\s*$", inner, re.M))
        if name == "LIBXC":
            parts |= _parts_of_libxc(inner)
            continue
        variant = _PARAMETRISATIONS.get(keywords.get("PARAMETRIZATION", ""), name)
        scales = {"x": "SCALE_X", "c": "SCALE_C", "": "SCALE"}
        parts[variant] = _scales(
            {key: float(keywords[word]) for key, word in scales.items() if word in keywords}
        )
    if not parts and (shortcut := section.split()) and not shortcut[0].startswith(("&", "NO_SHORTCUT")):
        parts[shortcut[0]] = ""
    return parts


def _parts_of_libxc(section: str) -> dict[str, str]:
    """Functionals that a LIBXC section of CP2K up to 8 lists, with the scale of each."""
    names = " ".join(re.findall(r"^\s*FUNCTIONAL\s+(.+)$", section, re.M)).split()
    scales = " ".join(re.findall(r"^\s*SCALE\s+(.+)$", section, re.M)).split()
    found = scales if len(scales) == len(names) else ["1"] * len(names)
    parts = zip(names, found, strict=True)
    return {name.removeprefix("XC_"): _scales({"": float(scale)}) for name, scale in parts}


def _interaction(section: str) -> dict[str, float | str]:
    keywords = dict(re.findall(r"^\s*(\w+)\s+(\S+)\s*$", section, re.M))
    found: dict[str, float | str] = {}
    if "POTENTIAL_TYPE" in keywords:
        found["potential"] = keywords["POTENTIAL_TYPE"]
    if "CUTOFF_RADIUS" in keywords:
        found["radius"] = round(float(keywords["CUTOFF_RADIUS"]), 8)
    if "OMEGA" in keywords:
        found["omega"] = float(keywords["OMEGA"])
    return found


def _dispersion(section: str) -> Dispersion | None:
    if not section:
        return None
    kind = re.search(r"^\s*TYPE\s+(\S+)", section, re.M)
    if kind is None:
        return Dispersion(UNNAMED_DISPERSION)
    if "NON_LOCAL" in section.split():
        return Dispersion(f"{kind.group(1)} non-local")
    found = Dispersion(kind.group(1).upper().removeprefix("DFT"), three_bodies=has_three_bodies(section))
    scaling = re.search(r"^\s*D3(?:BJ)?_SCALING\s+(.+)$", section, re.M)
    reference = re.search(r"^\s*REFERENCE_FUNCTIONAL\s+(\S+)", section, re.M)
    cutoff = re.search(rf"^\s*R_CUTOFF\s+{_NUMBER}\s*$", section, re.M)
    found.numbers = [float(word) for word in scaling.group(1).split()] if scaling else []
    found.of = reference.group(1) if reference else None
    found.cutoff_A = float(cutoff.group(1)) if cutoff else None
    return found


def _hubbard(section: str) -> list[str]:
    momentum = re.search(r"^\s*L\s+(\d+)", section, re.M)
    energy = re.search(rf"^\s*U_MINUS_J\s+{_NUMBER}", section, re.M)
    return [
        f"L {momentum.group(1)}" if momentum else "L not said",
        f"U {float(energy.group(1)) * HARTREE_EV:.4g} eV" if energy else "U not said",
    ]
