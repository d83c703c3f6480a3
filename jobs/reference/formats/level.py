"""Level of theory: what moves energies and forces at one configuration, as a value that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNNAMED_DISPERSION = "a dispersion correction without a name"


@dataclass(frozen=True)
class Level:
    """How a run describes the electrons; None where its files do not say, or where there is none of it.

    `exchange_correlation` names the functional by all its parts, `exact_exchange` the share of a hybrid and
    how it is cut off, `dispersion` a correction or a functional for van der Waals forces. `basis` is the
    basis set or the plane waves' cut-off. `surroundings` are electric fields, corrections of dipoles and
    solvents, `aspherical` says that PAW spheres have all of the functional (VASP's LASPH). `grid` are an
    engine's numbers that move its energies by meV per atom, and `pseudopotentials` their names, both under
    the names of the engines' `settings.yml`.
    """

    exchange_correlation: str | None = None
    exact_exchange: str | None = None
    dispersion: str | None = None
    basis: str | None = None
    plus_u: str | None = None
    spin: str | None = None
    charge: str | None = None
    surroundings: str | None = None
    aspherical: str | None = None
    pseudopotentials: Mapping[str, str] = field(default_factory=dict)
    grid: Mapping[str, str] = field(default_factory=dict)

    @property
    def functional(self) -> str | None:
        """All of exchange and correlation, as `PBE + 25 % exact exchange + D3(BJ)`."""
        if self.exchange_correlation is None:
            return None
        return " + ".join(filter(None, (self.exchange_correlation, self.exact_exchange, self.dispersion)))

    @property
    def settings(self) -> dict[str, str]:
        """What else moves energies, by name; what is not there (no +U, no spin) has no entry."""
        rest = {
            "plus_U": self.plus_u,
            "spin": self.spin,
            "charge": self.charge,
            "surroundings": self.surroundings,
            "aspherical": self.aspherical,
        }
        said = {name: value for name, value in rest.items() if value is not None}
        return {**self.grid, **self.pseudopotentials, **said}

    def line(self) -> str:
        """The whole level in one line."""
        parts = [self.functional or "not said", self.basis or "not said"]
        return "; ".join([*parts, *(f"{name} {value}" for name, value in self.settings.items())])
