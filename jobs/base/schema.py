"""A file that a person edits: a table says which keys and values it may have; anything else is one line.

In a table a key ending in `?` may be left out, and `*` stands for any name. Behind it is a `Value`, the table
of a section, or several tables, one for each form that a section may have, known by its first key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from jobs.base.errors import SuiteError
from jobs.base.files import parse_yaml, read_text


@dataclass(frozen=True)
class Value:
    """What may stand behind a key: in words, and as a test."""

    expected: str
    allows: Callable[[Any], bool]


Table: TypeAlias = "Mapping[str, Rule]"
Rule: TypeAlias = "Value | Table | tuple[Table, ...]"

# bool is an int to isinstance.
COUNT = Value("a positive integer", lambda value: type(value) is int and value > 0)
WHOLE = Value("an integer, 0 or more", lambda value: type(value) is int and value >= 0)
# YAML reads 1e-3, without a point, as text.
POSITIVE = Value(
    "a positive number, as 2 or 1.0e-3",
    lambda value: type(value) in (int, float) and math.isfinite(value) and value > 0,
)
FLAG = Value("true or false", lambda value: isinstance(value, bool))
TEXT = Value("text", lambda value: isinstance(value, str))
ANYTHING = Value("anything", lambda value: True)


def one_of(*known: str) -> Value:
    """One of these words."""
    return Value(f"one of {', '.join(known)}", lambda value: value in known)


def or_null(value: Value) -> Value:
    """The same, or null."""
    return Value(f"{value.expected}, or null", lambda found: found is None or value.allows(found))


def list_of(value: Value, called: str, *, least: int = 0) -> Value:
    """A list of such values; `called` is their name."""
    return Value(
        f"a list of {called}",
        lambda found: isinstance(found, list) and len(found) >= least and all(map(value.allows, found)),
    )


def read_keys(path: Path, table: Table) -> dict[str, Any]:
    """The content of a YAML file, or a JSON one by its suffix.

    Raises:
        SuiteError: not readable, or not as the table says.
    """
    import yaml

    text = read_text(path, expected="JSON" if path.suffix == ".json" else "YAML")
    try:
        content: dict[str, Any] = (
            json.loads(text, object_pairs_hook=_once)
            if path.suffix == ".json"
            else parse_yaml(text, unique=True)
        )
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: not readable ({' '.join(str(error).split())})") from None
    check_keys(path, content, table)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose keys is there twice: the first would be forgotten."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"found {next(name for name in names if names.count(name) > 1)} twice")
    return found


def check_keys(path: Path, found: Any, rule: Rule, *, at: str = "") -> None:
    """Refuse what is not as the table says; `at` is where in the file it stands, as `runs.liquid`.

    Raises:
        SuiteError: a key that is missing or unknown, or a value that is not what it should be.
    """

    def wrong(what: str, expected: str) -> SuiteError:
        return SuiteError(f"{path}: {at}{': ' if at else ''}found {what}, expected {expected}")

    if isinstance(rule, Value):
        if not rule.allows(found):
            raise wrong(_shown(found), rule.expected)
        return
    if not isinstance(found, dict):
        raise wrong(_shown(found), "keys with values")
    if isinstance(rule, tuple):
        forms = {next(iter(form)): form for form in rule}
        first = next((key for key in forms if key in found), None)
        if first is None:
            raise wrong(f"none of {', '.join(forms)}", "one of them")
        rule = forms[first]
    rules = {key.removesuffix("?"): inner for key, inner in rule.items()}
    for key in found:
        if not isinstance(key, str):
            raise wrong(f"{key!r} as a name", "text")
        if key not in rules and "*" not in rules:
            raise wrong(key, f"only {', '.join(rules)}")
    needed = [key for key in rule if key != "*" and not key.endswith("?")]
    if missing := [key for key in needed if key not in found]:
        raise wrong(f"no {', '.join(missing)}", ", ".join(needed))
    for key, value in found.items():
        check_keys(path, value, rules[key if key in rules else "*"], at=f"{at}.{key}" if at else key)


def _shown(found: Any) -> str:
    text = "nothing" if found is None else repr(found)
    return text if len(text) <= 60 else f"{text[:57]}..."
