"""A file of LAMMPS commands for silica: read, and refused where it could be another potential than it seems.

Types are 1 = Si and 2 = O everywhere in this suite. A many-body potential says which of its elements is which
type; Coulomb styles need the charges, which a comment gives. What a file cannot say (units, the order of
numbers for pairs) is seen by what it computes: `jobs.stages.potentials.first_look`.
"""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.base.files import read_text

EXPECTED = (
    "a TensorFlow .pb model (dp convert-backend makes one), a folder with n2p2's input.nn, or a file of "
    "LAMMPS commands"
)
COMMANDS = ("pair_style", "pair_coeff", "pair_modify", "kspace_style", "kspace_modify")
_ELEMENTS = ("Si", "O")
_NUMBERS = {"14": "Si", "8": "O"}  # some styles name elements so
# Styles that have their elements in an order of their own if pair_coeff does not name them.
_NAMED = (
    "deepmd", "tersoff", "sw", "vashishta", "eam", "meam", "adp", "snap", "mliap", "pace", "quip", "bop",
    "edip", "extep", "nequip", "allegro", "mace", "flare", "pod", "uf3", "nep", "aenet", "polymorphic", "gw",
    "hdnnp", "nnp", "metatomic", "metatensor", "chgnet", "m3gnet", "gap", "grace", "e3gnn", "symmetrix",
    "kim", "ani", "torchmd", "sevennet", "dispersion", "rann",
)  # fmt: skip
# Styles whose pair_coeff names elements by their atomic numbers.
_NUMBERED = ("quip", "metatomic", "metatensor", "gap")
# Their charges change with the atoms, by a fix that such a file may not contain.
_MOVING_CHARGES = ("comb", "reaxff", "reax", "smtbq", "streitz")
_COULOMB = re.compile(r"(^|[/_])(coul|tip4p|born/coul|msm|ewald|pppm)")
_CHARGES = re.compile(r"charges\s+(\S+)\s+(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class Snippet:
    """Commands, each in one line and with the words of its file, and the charges of Si and O or None."""

    commands: tuple[tuple[str, ...], ...]
    charges: tuple[float, float] | None


def read_snippet(path: Path) -> Snippet:
    """A file of LAMMPS commands.

    Raises:
        SuiteError: other commands, charges that are missing or do not parse, or elements in another order.
    """
    commands: list[tuple[str, ...]] = []
    charges: tuple[float, float] | None = None
    numbered = False
    for number, code, comment in _lines(path):
        if re.match(r"charges?\b", comment, re.IGNORECASE):
            found = _charges(comment, f"{path}:{number}")
            if charges is not None and charges != found:
                raise SuiteError(f"{path}:{number}: found charges a second time, expected them once")
            charges = found
        words = code.split()
        if not words:
            continue
        if words[0] not in COMMANDS:
            raise SuiteError(
                f"{path}:{number}: found command {words[0][:40]!r}, expected {', '.join(COMMANDS)}"
            )
        commands.append(tuple(words))
        _check_style(words, f"{path}:{number}")
        numbered |= words[0] == "pair_style" and any(_family(word) in _NUMBERED for word in words[1:])
        _check_order(words, f"{path}:{number}", numbered=numbered, zbl=_is_zbl(words, commands))
    styles = [word for words in commands if words[0] == "pair_style" for word in words[1:]]
    if not styles:
        raise SuiteError(
            f"{path}: found no pair_style line, expected a LAMMPS potential for Si (1) and O (2)"
        )
    _check_names(commands, styles, path)
    of_styles = (word for words in commands if words[0] in ("pair_style", "kspace_style") for word in words)
    coulomb = next((word for word in of_styles if "." not in word and _COULOMB.search(word.lower())), None)
    if coulomb is not None and charges is None:
        raise SuiteError(
            f"{path}: found {coulomb} and no charges, expected them in a comment as '# charges 2.4 -1.2'"
        )
    return Snippet(tuple(commands), charges)


def files_of(word: str, beside: Path) -> list[Path]:
    """The file of a folder that a word names, and its parts, which go on after its name and a dot.

    A GAP's `gap.xml` names `gap.xml.sparseX...`; no command does. Empty where the word names no file.
    """
    file = beside / word
    # Not pathlib's is_file, which raises where a word is too long for a file's name.
    if not os.path.isfile(file):
        return []
    return [file, *(one for one in sorted(file.parent.glob(f"{glob.escape(file.name)}.*")) if one.is_file())]


def _lines(path: Path) -> list[tuple[int, str, str]]:
    """(number, command, comment) of each line; `&` at the end of one carries it on into the next."""
    found: list[tuple[int, str, str]] = []
    begun = ""
    for number, line in enumerate(read_text(path, expected=EXPECTED).splitlines(), start=1):
        code, _, comment = line.partition("#")
        if code.rstrip().endswith("&"):
            begun += f"{code.rstrip()[:-1]} "
            continue
        found.append((number, begun + code, comment.strip()))
        begun = ""
    if begun:
        raise SuiteError(f"{path}: found '&' at its end, expected the line that the command goes on in")
    return found


def _charges(comment: str, where: str) -> tuple[float, float]:
    match = _CHARGES.fullmatch(comment)
    try:
        if match is None:
            raise ValueError
        silicon, oxygen = float(match[1]), float(match[2])
    except ValueError:
        raise SuiteError(
            f"{where}: found '# {comment}', expected two numbers, as '# charges 2.4 -1.2' (of Si and O)"
        ) from None
    if not math.isfinite(silicon + oxygen) or abs(silicon + 2 * oxygen) > 1e-6:
        raise SuiteError(
            f"{where}: found charges {silicon:g} of Si and {oxygen:g} of O, expected SiO2 to be neutral"
        )
    return silicon, oxygen


def _check_style(words: Sequence[str], where: str) -> None:
    if words[0] != "pair_style":
        return
    for word in words[1:]:
        if set(word.lower().split("/")) & set(_MOVING_CHARGES):
            raise SuiteError(
                f"{where}: found {word}, whose charges move by a fix, expected a style without one"
            )


def _family(style: str) -> str:
    """What a style is called before the names of its variants."""
    return style.lower().split("/")[0]


def _check_order(words: Sequence[str], where: str, *, numbered: bool, zbl: bool) -> None:
    """Refuse elements other than types 1 = Si, 2 = O, where a command or its files name them."""
    if words[0] == "pair_style":
        found = _numbered_pairs(words)
    elif words[0] != "pair_coeff":
        return
    elif _takes_ranges(words):
        found = _elements(words[3:], numbered=numbered)
    else:
        _check_pair(words, where, zbl=zbl)
        return
    if found and found not in (["Si", "O"], ["Si", "NULL"], ["NULL", "O"]):
        raise SuiteError(f"{where}: found elements {' '.join(found)}, expected Si O: types are 1 = Si, 2 = O")


def _check_pair(words: Sequence[str], where: str, *, zbl: bool) -> None:
    """Refuse other elements than those of one pair of types, whatever names them."""
    own = {_ELEMENTS[int(word) - 1] for word in words[1:3] if word in ("1", "2")}
    named = [element for word in words[3:] for element in _named_by(word)]
    if zbl:  # its parameters are atomic numbers
        named += [_NUMBERS[word] for word in words[3:] if word in _NUMBERS]
    if own and (strange := sorted(set(named) - own)):
        raise SuiteError(
            f"{where}: found {', '.join(strange)} for types {words[1]} and {words[2]}, expected "
            f"{' and '.join(sorted(own))}: types are 1 = Si, 2 = O"
        )


def _is_zbl(words: Sequence[str], commands: Sequence[Sequence[str]]) -> bool:
    """Whether a pair_coeff is of ZBL's style, by itself or named among a hybrid's."""
    styles = [word for command in commands if command[0] == "pair_style" for word in command[1:]]
    return styles[:1] == ["zbl"] or (len(words) > 3 and words[3] == "zbl")


def _takes_ranges(words: Sequence[str]) -> bool:
    """Whether a pair_coeff is for several types at once, as `* *` or `1*2 1*2`."""
    return any("*" in word for word in words[1:3])


def _named_by(word: str) -> list[str]:
    """Elements that a word is made of, as O, Si-O or O.eam; none where other words are in it."""
    plain = word.strip("\"'")
    if re.fullmatch(r"(Si|O){2}", plain):  # a keyword in a table
        return re.findall("Si|O", plain)
    parts = [part for part in re.split(r"[._-]", Path(plain).stem) if part]
    found = [next((name for name in _ELEMENTS if part == name), None) for part in parts]
    return [element for element in found if element is not None] if None not in found else []


def _numbered_pairs(words: Sequence[str]) -> list[str]:
    """Elements of `1:Si,2:O`, as n2p2 maps types to them, in the order of the types."""
    pairs = re.findall(r"\b(\d+):([A-Za-z]{1,2})\b", " ".join(words))
    return [element.capitalize() for _, element in sorted(pairs)]


def _elements(words: Sequence[str], *, numbered: bool) -> list[str]:
    """The elements that the last words of a pair_coeff name, or its files do, one for each type.

    `Si O`, `14 8` where they are `numbered`, `1:Si,2:O` and `Si.nn O.nn` all name them.
    """
    if pairs := _numbered_pairs(words):
        return pairs
    named: list[str] = []
    for word in reversed(words):
        known = _element(word, numbered=numbered)
        if known is None:
            break
        named.insert(0, known)
    if named:
        return named
    files = [_element(re.split(r"[._-]", Path(word.strip("\"'")).name)[0], numbered=False) for word in words]
    in_files = [element for element in files if element is not None]
    return in_files if len(in_files) > 1 else []


def _element(word: str, *, numbered: bool) -> str | None:
    plain = word.strip("\"'")
    if plain.upper() == "NULL":
        return "NULL"
    if numbered and plain in _NUMBERS:
        return _NUMBERS[plain]
    known = next((name for name in _ELEMENTS if plain.lower() == name.lower()), None)
    return plain if known is None and plain in _symbols() else known


@cache
def _symbols() -> frozenset[str]:
    """All chemical symbols."""
    from ase.data import chemical_symbols

    return frozenset(chemical_symbols)


def _check_names(commands: Sequence[Sequence[str]], styles: Sequence[str], path: Path) -> None:
    """A style that has its elements in an order of its own needs their names."""
    named = {style for style in styles if _family(style) in _NAMED}
    if _numbered_pairs(styles):
        named = {style for style in named if _family(style) not in ("hdnnp", "nnp")}
    numbered = any(_family(style) in _NUMBERED for style in styles)
    for style in sorted(named):
        # One pair of types at a time needs no names.
        coefficients = [words for words in commands if words[0] == "pair_coeff" and _takes_ranges(words)]
        own = [words for words in coefficients if style in words[3:]] if len(styles) > 1 else coefficients
        for words in own or coefficients:
            if not _elements(words[3:], numbered=numbered):
                raise SuiteError(
                    f"{path}: found {' '.join(words)!r} of {style} without elements, expected Si O at its "
                    "end: they stand in the potential in an order of its own"
                )
    _check_empty(commands, styles, path)


def _check_empty(commands: Sequence[Sequence[str]], styles: Sequence[str], path: Path) -> None:
    """A style without any number for pairs has its elements in an order of its own, whatever it is called."""
    for words in commands:
        if words[0] != "pair_coeff" or not _takes_ranges(words):
            continue
        own = next((style for style in styles if style in words[3:]), styles[0])
        rest = [word for word in words[3:] if word != own]
        if _family(own) in ("zero", "none", "list") or _COULOMB.search(own.lower()):
            continue
        if not any(re.match(r"[-+.]?\d", word) for word in rest) and not _elements(words[3:], numbered=False):
            raise SuiteError(
                f"{path}: found {' '.join(words)!r} of {own} without elements, expected Si O at its end: "
                "they stand in the potential in an order of its own"
            )
