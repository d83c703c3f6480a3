"""What an extended XYZ comment says of its level of theory, as `functional=PBE`; most say nothing."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.base.errors import SuiteError
from jobs.reference.formats.level import Level

_FUNCTIONAL = (
    "functional", "xc", "xc_functional", "xcfunctional", "dft_functional", "exchange_correlation", "dft_xc",
    "level_of_theory", "theory",
)  # fmt: skip
_DISPERSION = ("dispersion", "dispersion_correction", "vdw", "vdw_corr", "vdw_correction")
_BASIS = ("basis", "basis_set", "encut", "ecutwfc", "cutoff_ev", "cutoff_ry")
_HUBBARD = ("hubbard_u", "plus_u", "dft_u")
_CHARGE = ("charge", "total_charge", "tot_charge")
# Frames of several levels of theory that one model learns from have it.
_HEAD = ("head",)
KEYS = frozenset((*_HEAD, *_FUNCTIONAL, *_DISPERSION, *_BASIS, *_HUBBARD, *_CHARGE))
_NONE = {"none", "no", "f", "false", "0", "0.0", "off", "", "n/a"}
# Names that are written in several ways.
_USUAL = {name.lower(): name for name in ("PBE", "PBEsol", "revPBE", "RPBE", "SCAN", "r2SCAN", "BLYP", "LDA")}


def level_of(info: Mapping[str, str], where: str) -> Level:
    """The level of theory by a comment's keys, which are in small letters.

    Raises:
        SuiteError: two keys that say different things of one part of it.
    """
    functional = _one(info, _FUNCTIONAL, where)
    basis = [
        f"{key} {info[key]}" if key not in ("basis", "basis_set") else info[key]
        for key in _BASIS
        if key in info
    ]
    head = _one(info, _HEAD, where)
    return Level(
        exchange_correlation=None if functional is None else _USUAL.get(functional.lower(), functional),
        dispersion=_one(info, _DISPERSION, where),
        basis=", ".join(basis) or None,
        plus_u=_one(info, _HUBBARD, where),
        charge=_one(info, _CHARGE, where),
        grid={} if head is None else {"head": head},
    )


def _one(info: Mapping[str, str], keys: tuple[str, ...], where: str) -> str | None:
    said = {key: info[key].strip() for key in keys if key in info and info[key].strip().lower() not in _NONE}
    if len({value.lower() for value in said.values()}) > 1:
        found = " and ".join(f"{key}={value}" for key, value in said.items())
        raise SuiteError(f"{where}: found {found}, expected one level of theory")
    return next(iter(said.values()), None)
