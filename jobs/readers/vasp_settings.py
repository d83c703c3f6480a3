"""What VASP's settings mean, for both of its output files."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.readers import Source

# Two-letter names of VASP's POTCAR files and of its tag GGA (VASP manual, GGA).
_FUNCTIONALS = {
    "CA": "LDA",
    "91": "PW91",
    "PE": "PBE",
    "RP": "RPBE",
    "RE": "revPBE",
    "PS": "PBEsol",
    "AM": "AM05",
}
_THERMOSTATS = {1: "Andersen", 2: "Nose-Hoover", 3: "Langevin", 4: "Nose-Hoover chain", 5: "CSVR"}
# A ramp gives each step a target of its own; the steps within this of each other count as one temperature.
RAMP_STEP_K = 100.0


@dataclass(frozen=True)
class Settings:
    """Tags of a run, named after VASP's; NaN or None where the file does not say."""

    version: str | None
    potcar_exchange: str | None
    gga: str | None
    metagga: str | None
    hybrid: bool
    ivdw: int
    encut_eV: float
    ibrion: int
    nsw: int
    potim_fs: float
    tebeg_K: float
    teend_K: float
    smass: float
    mdalgo: int
    pseudopotentials: tuple[str, ...]

    @property
    def functional(self) -> str | None:
        """The functional's usual name; None if the files do not tell."""
        if self.metagga and self.metagga not in ("F", "T", "--"):
            return self.metagga
        letters = self.gga if self.gga and self.gga != "--" else self.potcar_exchange
        name = _FUNCTIONALS.get(letters.upper(), letters) if letters else None
        if self.hybrid:
            name = f"hybrid of {name}"
        return f"{name}, IVDW {self.ivdw}" if self.ivdw else name

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
        return round(now / RAMP_STEP_K) * RAMP_STEP_K

    def describe(self, source: Source) -> None:
        """Write what a report says into a source."""
        source.engine, source.engine_version, source.functional = "VASP", self.version, self.functional
        source.basis = f"PAW, {self.encut_eV:g} eV"
        if self.ibrion == 0:
            source.timestep_fs, source.thermostat = self.potim_fs, self.thermostat
            if self.tebeg_K != self.teend_K:
                source.remarks.append(
                    f"a ramp from {self.tebeg_K:g} to {self.teend_K:g} K: targets are rounded to "
                    f"{RAMP_STEP_K:g} K"
                )
        if self.pseudopotentials:
            source.settings = {"potcar": ", ".join(self.pseudopotentials)}
