"""Small text files: written whole or not at all; read as text or refused, YAML by its fast parser."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError


def write_whole(path: Path, text: str) -> None:
    """Write a text in one step: a reader never sees half of it, also after a kill.

    Raises:
        SuiteError: a full disk, no such folder, no permission.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise SuiteError(f"{path}: cannot be written ({error.strerror})") from None


def put_folder(made: Path, target: Path) -> None:
    """Put a whole folder under its name, in place of what was there.

    Two renames: whoever is killed between them, or before what was there is gone, is helped by
    `restore_folder`.
    """
    restore_folder(target)
    if target.exists():
        os.replace(target, _replaced(target))
    os.replace(made, target)
    shutil.rmtree(_replaced(target), ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Mend what a killed `put_folder` left: without a new folder the old one is back, else it goes."""
    if not _replaced(target).is_dir():
        return
    if target.exists():
        shutil.rmtree(_replaced(target))
    else:
        os.replace(_replaced(target), target)


def _replaced(target: Path) -> Path:
    """Where a folder waits while another takes its place."""
    return target.with_name(f"{target.name}.old")


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:
    """The same for a JSON value.

    Raises:
        SuiteError: a number is not finite; JSON has none such (`finite` makes it null).
    """
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError as error:
        raise SuiteError(f"{path}: found a number that is not finite, expected JSON ({error})") from None
    write_whole(path, text + "\n")


def finite(value: float) -> float | None:
    """A number as JSON has it: NaN and infinities are null."""
    return value if math.isfinite(value) else None


def read_text(path: Path, *, expected: str) -> str:
    """The text of a file that the user named; `expected` says what should be in it.

    Raises:
        SuiteError: it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SuiteError(f"{path}: found no text (UTF-8), expected {expected}") from None


def read_mapping(path: Path) -> Any:
    """The content of a YAML file, or a JSON one by its suffix, none of whose keys stands twice.

    Raises:
        SuiteError: it is not readable.
    """
    import yaml

    text = read_text(path, expected="JSON" if path.suffix == ".json" else "YAML")
    try:
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=_once)
        return parse_yaml(text, unique=True)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise SuiteError(f"{path}: not readable ({' '.join(str(error).split())})") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object none of whose keys is there twice: the first would be forgotten."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"found {next(name for name in names if names.count(name) > 1)} twice")
    return found


def parse_yaml(text: str | bytes, *, unique: bool = False) -> Any:
    """The value of a YAML text; ten times faster than `yaml.safe_load` where libyaml is there.

    Raises:
        yaml.YAMLError: it is not YAML, or, with `unique`, a key stands twice in a mapping, of which YAML
            would forget the first.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=_unique(loader) if unique else loader)


def _unique(loader: Any) -> Any:
    """A loader that refuses a key that stands twice."""
    import yaml

    class Unique(loader):
        """The same loader, stricter."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            """See yaml's; what `<<` merges in may be given again."""
            names = [(key.tag, str(key.value)) for key, _ in node.value if not key.tag.endswith(":merge")]
            if len(set(names)) < len(names):
                _, name = next(found for found in names if names.count(found) > 1)
                raise yaml.constructor.ConstructorError(None, None, f"found {name} twice", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    return Unique


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_sha256(path: Path, expected: str, *, record: str) -> None:
    """Compare a deposited file with its record (the name of that file).

    Raises:
        SuiteError: it was changed.
    """
    if (found := file_sha256(path)) != expected:
        raise SuiteError(f"{path}: found sha256 {found[:12]}..., expected {expected[:12]}... of {record}")
