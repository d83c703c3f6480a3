"""The first-principles programs by name, and their settings by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml, read_mapping
from jobs.engines.first_principles import cp2k, espresso, vasp
from jobs.engines.first_principles.types import Engine

ENGINES = ("cp2k", "espresso", "vasp")
SETTINGS_FILE = Path(__file__).parent / "settings.yml"


def load_engine(name: str) -> Engine:
    """The engine of this name.

    Raises:
        SuiteError: there is none.
    """
    engines: dict[str, Engine] = {"cp2k": cp2k, "espresso": espresso, "vasp": vasp}
    if name not in engines:
        raise SuiteError(f"found engine {name!r}, expected one of {', '.join(ENGINES)}")
    return engines[name]


def named_settings(engine: str, name: str) -> dict[str, Any]:
    """Settings by their name in `settings.yml`, or those in a YAML file of the user's.

    Raises:
        SuiteError: no such name or file, or values that the engine refuses.
    """
    path = Path(name)
    if path.suffix in (".yml", ".yaml"):
        if not path.is_file():
            raise SuiteError(f"{path}: found no such file, expected settings of {engine}")
        values = read_mapping(path)
        if not (isinstance(values, dict) and all(isinstance(name, str) for name in values)):
            raise SuiteError(f"{path}: found no keys with values, expected settings of {engine}")
        try:
            load_engine(engine).read_settings(values)
        except SuiteError as error:
            raise SuiteError(f"{path}: {error}") from None
    else:
        known = parse_yaml(SETTINGS_FILE.read_text())[engine]
        if name not in known:
            raise SuiteError(
                f"settings of {engine}: found {name!r}, expected {', '.join(known)} or a .yml file's path"
            )
        values = known[name]
        load_engine(engine).read_settings(values)
    return dict(values)
