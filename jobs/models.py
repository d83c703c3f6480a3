"""Deposited potentials: `reference/models/<name>/` holds a frozen model and what it came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from jobs.errors import SuiteError
from jobs.files import parse_yaml
from jobs.stage import Stage
from jobs.store import Store, file_sha256

MODELS = Path(__file__).parent.parent / "reference" / "models"
MODEL, RECORD = "model.pb", "model.yml"


def deposited_model(name: str, *, root: Path = MODELS) -> tuple[Path, dict[str, Any]]:
    """The deposited model of a potential, its checksum compared with its record, and that record.

    Raises:
        SuiteError: none was deposited, or the file was changed.
    """
    path = root / name / MODEL
    if not path.is_file():
        raise SuiteError(f"{path}: not found; --start-from potentials needs a deposited {name}")
    record: dict[str, Any] = parse_yaml((root / name / RECORD).read_text())
    if (found := file_sha256(path)) != record["sha256"]:
        raise SuiteError(
            f"{path}: found sha256 {found[:12]}..., expected {record['sha256'][:12]}... of {RECORD}"
        )
    return path, record


def deposit_model(stage: Stage, store: Store, *, name: str, tier: str, root: Path = MODELS) -> Path:
    """Put a trained potential under `reference/models/`, in place of what was there under its name.

    Raises:
        SuiteError: the training is not done or was changed.
    """
    import yaml

    if not store.is_done(stage.name):
        raise SuiteError(f"{store.path(stage.name)}: not found; run the tier that trains {name} first")
    store.verify([stage.name])
    product, manifest = store.path(stage.name), store.manifest(stage.name)
    training: dict[str, Any] = json.loads((product / "train.json").read_text())
    target = root / name
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(product / MODEL, target / MODEL)
    shutil.copyfile(product / "input.json", target / "input.json")
    record = {
        "name": training["name"],
        "sha256": file_sha256(target / MODEL),
        "licence": "CC0-1.0",
        "tier": tier,
        "stage": stage.name,
        "dataset": stage.inputs["dataset"].name,
        "seed": stage.seed,
        "steps": training["steps"],
        "precision": training["precision"],
        "train_frames": training["train_frames"],
        "heldout": training["heldout"]["all"],
        "software": manifest["software"],
        "finished": manifest["finished"],
    }
    (target / RECORD).write_text(yaml.safe_dump(record, sort_keys=False))
    return target
