"""Level of theory of a CP2K run: from its log, or from a restart file, which is the whole input.

A log of print level LOW lacks it. Both are put into the same words, so that runs of both can share a set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jobs.base.units import HARTREE_EV
from jobs.reference.formats.level import Level

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
_PARAMETRISATIONS = {"REVPBE": "revPBE", "PBESOL": "PBEsol", "RPBE": "RPBE"}
_NUMBER = r"([-+\d.Ee]+)"
UNNAMED_DISPERSION = "a dispersion correction without a name"


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
class LevelOfLog:
    """What a log says of its level of theory, line by line."""

    parts: dict[str, str] = field(default_factory=dict)
    basis: list[str] = field(default_factory=list)
    potentials: list[str] = field(default_factory=list)
    method: str | None = None
    cutoff_Ry: float | None = None
    share: float | None = None
    interaction: dict[str, float | str] = field(default_factory=dict)
    dispersion: str | None = None
    hubbard: list[str] = field(default_factory=list)
    spin: str | None = None
    charge: int = 0
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
        if found := re.search(r"(\w+) Functional:", line):
            self.dispersion = f"{found.group(1)} non-local"
        elif found := re.search(r"DFT-(D\d)", line):
            self.dispersion = found.group(1)
        elif "BJ Damping" in line and self.dispersion:
            self.dispersion += "(BJ)"
        elif self.dispersion is None:
            self.dispersion = UNNAMED_DISPERSION

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
            parts[variant or name] = _scales_of_text(text)
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
        )


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
    dispersion: str | None,
    basis: list[str],
    potentials: list[str],
    method: str | None,
    cutoff_Ry: float | None,
    hubbard: list[str],
    spin: str | None,
    charge: int,
) -> Level:
    grid = {}
    if method is not None and cutoff_Ry is not None:
        grid = {"method": method, "cutoff_Ry": f"{cutoff_Ry:g}"}
    unusual = sorted({name for name in potentials if not name.upper().startswith("GTH-PBE")})
    return Level(
        exchange_correlation=functional(parts),
        exact_exchange=_exact_exchange(share, interaction),
        dispersion=dispersion,
        basis=", ".join(dict.fromkeys(basis)) or None,
        plus_u=", ".join(hubbard) or None,
        spin=spin,
        charge=f"{charge:+d}" if charge else None,
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
    unrestricted = re.search(r"^\s*(?:UKS|LSD|SPIN_POLARIZED|UNRESTRICTED_KOHN_SHAM)\s+T\s*$", dft, re.M)
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
        spin="polarised" if unrestricted else None,
        charge=int(charge.group(1)) if charge else 0,
    )


def _section(text: str, name: str) -> str:
    """What stands in the first section of a name; nothing if there is none."""
    match = re.search(rf"^\s*&{name}\b(.*?)^\s*&END {name}\b", text, re.M | re.S)
    return match.group(1) if match else ""


def _functional_parts(section: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for name, inner in re.findall(r"^\s*&(\w+)\b(?: +T)?[ \t]*\n(.*?)^\s*&END \1", section, re.M | re.S):
        keywords = dict(re.findall(r"^\s*(\w+)\s+(\S+)\s*$", inner, re.M))
        variant = _PARAMETRISATIONS.get(keywords.get("PARAMETRIZATION", ""), name)
        scales = {"x": "SCALE_X", "c": "SCALE_C", "": "SCALE"}
        parts[variant] = _scales(
            {key: float(keywords[word]) for key, word in scales.items() if word in keywords}
        )
    if not parts and (shortcut := section.split()) and not shortcut[0].startswith(("&", "NO_SHORTCUT")):
        parts[shortcut[0]] = ""
    return parts


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


def _dispersion(section: str) -> str | None:
    if not section:
        return None
    kind = re.search(r"^\s*TYPE\s+(\S+)", section, re.M)
    if kind is None:
        return UNNAMED_DISPERSION
    if "NON_LOCAL" in section.split():
        return f"{kind.group(1)} non-local"
    return kind.group(1).upper().removeprefix("DFT")


def _hubbard(section: str) -> list[str]:
    momentum = re.search(r"^\s*L\s+(\d+)", section, re.M)
    energy = re.search(rf"^\s*U_MINUS_J\s+{_NUMBER}", section, re.M)
    return [
        f"L {momentum.group(1)}" if momentum else "L not said",
        f"U {float(energy.group(1)) * HARTREE_EV:.4g} eV" if energy else "U not said",
    ]
