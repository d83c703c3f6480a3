"""Given potentials: deposited ones, in `reference/models/<name>/` with what they came from, and others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, parse_yaml, read_text
from jobs.base.paths import REFERENCE
from jobs.engines.hdnnp.n2p2_files import FOLDER, is_n2p2_folder, potential_files
from jobs.engines.lammps.snippets import EXPECTED, files_of, read_snippet
from jobs.store.stage import Stage
from jobs.store.store import Store

MODELS = REFERENCE / "models"
MODEL, INPUT, RECORD = "model.pb", "input.json", "model.yml"
# Folders of what is being deposited: first incomplete, then whole and only to be moved to its places.
_PART, _READY = ".part", ".ready"


def deposited_model(name: str, *, root: Path = MODELS) -> tuple[Path, dict[str, Any]]:
    """The deposited model of a potential, its checksum compared with its record, and that record.

    Raises:
        SuiteError: none was deposited, the file was changed, or a deposit was killed half-way.
    """
    if (root / _READY).is_dir():
        raise SuiteError(
            f"{root / _READY}: found potentials on their way to their places, expected none: a deposit was "
            "killed, and the same command (python -m jobs promote ...) finishes it"
        )
    folder = root / name
    path = folder if is_n2p2_folder(folder) else folder / MODEL
    if not path.exists():
        raise SuiteError(f"{path}: not found; --start-from potentials needs a deposited {name}")
    record: dict[str, Any] = parse_yaml((folder / RECORD).read_text())
    if (found := potential_sha256(path)) != record["sha256"]:
        expected = record["sha256"][:12]
        raise SuiteError(f"{path}: found sha256 {found[:12]}..., expected {expected}... of {RECORD}")
    return path, record


def potential_sha256(path: Path) -> str:
    """The sha256 of a given potential; of a folder of n2p2's, of a list of its files' names and sha256.

    Raises:
        SuiteError: it is neither a file nor such a folder.
    """
    if is_n2p2_folder(path):
        lines = [f"{file.name} {file_sha256(file)}\n" for file in potential_files(path)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    if path.is_dir():
        raise SuiteError(
            f"{path}: found a folder without input.nn, expected one with n2p2's input.nn, scaling.data, "
            "weights.008.data and weights.014.data, or a file"
        )
    if not path.is_file():
        raise SuiteError(f"{path}: not found, expected {EXPECTED}")
    return file_sha256(path)


def changed_models(*, root: Path = MODELS) -> Iterator[str]:
    """A line for each deposited potential that is not what its record says."""
    for record in sorted(root.glob(f"*/{RECORD}")):
        try:
            deposited_model(record.parent.name, root=root)
        except SuiteError as error:
            yield str(error)


def deposit_models(
    trained: Mapping[str, Stage], store: Store, *, tier: str, replace: bool = False, root: Path = MODELS
) -> list[Path]:
    """Put trained potentials under `reference/models/`, in place of what was there: all of them, or none.

    They are made ready beside the models and then moved. Whoever is killed before that has changed nothing;
    killed while they are moved, no model is read until the next call has moved the rest.
    What was trained for more steps is only replaced with `replace`.

    Raises:
        SuiteError: a training is not done or was changed, or what is there was trained for more steps.
    """
    _move_ready(root)
    for name, stage in trained.items():
        if not store.is_done(stage.name):
            raise SuiteError(f"{store.path(stage.name)}: not found; run the tier that trains {name} first")
    store.verify(stage.name for stage in trained.values())
    for name, stage in trained.items():
        if not (root / name / RECORD).is_file() or replace:
            continue
        _, there = deposited_model(name, root=root)
        steps = json.loads((store.path(stage.name) / "train.json").read_text())["steps"]
        if there["steps"] > steps:
            raise SuiteError(
                f"{root / name}: found a model of {there['steps']} training steps, expected none of more "
                f"than the {steps} of tier {tier}; --replace puts them in its place"
            )
    shutil.rmtree(root / _PART, ignore_errors=True)
    for name, stage in trained.items():
        _prepare(stage, store, tier=tier, folder=root / _PART / name)
    os.replace(root / _PART, root / _READY)
    _move_ready(root)
    return [root / name for name in trained]


def _move_ready(root: Path) -> None:
    """Move what is ready to its places; called again, what an earlier call did not come to."""
    if not (root / _READY).is_dir():
        return
    for file in sorted((root / _READY).glob("*/*")):
        target = root / file.parent.name
        target.mkdir(exist_ok=True)
        os.replace(file, target / file.name)
    shutil.rmtree(root / _READY)


def _prepare(stage: Stage, store: Store, *, tier: str, folder: Path) -> None:
    """Put the files of a potential into a folder."""
    import yaml

    product, manifest = store.path(stage.name), store.manifest(stage.name)
    training: dict[str, Any] = json.loads((product / "train.json").read_text())
    folder.mkdir(parents=True)
    if is_n2p2_folder(product / FOLDER):
        potential, files = product / FOLDER, potential_files(product / FOLDER)
    else:
        potential, files = product / MODEL, [product / MODEL, product / INPUT]
    for file in files:
        shutil.copyfile(file, folder / file.name)
    record = {
        "name": training["name"],
        "sha256": potential_sha256(potential),
        "licence": "CC0-1.0",
        "tier": tier,
        "stage": stage.name,
        "dataset": stage.inputs["dataset"].name,
        "seed": stage.seed,
        "steps": training["steps"],
        "precision": training["precision"],
        "train_frames": training["train_frames"],
        "heldout": (training["heldout"] or {}).get("all"),
        "software": manifest["software"],
        "finished": manifest["finished"],
    }
    (folder / RECORD).write_text(yaml.safe_dump(record, sort_keys=False))


def imported_potential(path: Path, name: str) -> Stage:
    """The stage that makes a given potential (`jobs.engines.lammps.snippets.EXPECTED`) ready for LAMMPS.

    Raises:
        SuiteError: commands that are refused (see `jobs.engines.lammps.snippets`).
    """
    digest = potential_sha256(path)
    family = "hdnnp" if is_n2p2_folder(path) else "deepmd" if path.suffix == ".pb" else "lammps"
    if family == "lammps":
        read_snippet(path)
    parameters = {
        "name": name,
        "file": str(path.resolve()),
        "sha256": digest,
        "family": family,
        "beside": files_named_in(path) if family == "lammps" else {},
    }
    return Stage("potential", f"potential {name}", parameters, core_seconds=10)


def files_named_in(commands: Path) -> dict[str, str]:
    """The sha256 of every file beside a file of LAMMPS commands that these name, and of such files' parts."""
    lines = read_text(commands, expected=EXPECTED).splitlines()
    words = {word for line in lines for word in line.split("#")[0].split()}
    beside = {word: files_of(word, commands.parent) for word in sorted(words)}
    return {
        word + file.name.removeprefix(files[0].name): file_sha256(file)
        for word, files in beside.items()
        for file in files
    }
