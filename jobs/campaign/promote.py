"""Put the MD that a tier observes under `reference/trajectories/`, thinned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, put_folder, restore_folder
from jobs.base.trajectory import open_trajectory
from jobs.campaign.plan import Campaign
from jobs.reference.trajectories import (
    OBSERVE_PAIRS,
    PAIRED,
    RECORD,
    SPACING_FS,
    TRAJECTORIES,
    protocol_of,
    write_thin,
)
from jobs.store.stage import Stage
from jobs.store.store import Store

MAX_BYTES = 60_000_000


def deposit_trajectories(
    campaign: Campaign, store: Store, *, paired: bool = False, root: Path = TRAJECTORIES
) -> Path:
    """Put the MD that a tier observes under `reference/trajectories/`, replacing what was there.

    These are its own runs, or with `paired` the runs that start from frames of AIMD, used by every tier.

    Raises:
        SuiteError: the potentials are not the deposited ones, a run is not there or was changed, an atom
            leaps, or it is more than 60 MB.
    """
    if campaign.start_from != "potentials":
        raise SuiteError(
            f"--trajectories: found a start from {campaign.start_from}, expected --start-from potentials: "
            "trajectories stand beside the potentials that made them"
        )
    kind = OBSERVE_PAIRS if paired else "observe"
    observed = [stage for stages in campaign.labels.values() for stage in stages if stage.kind == kind]
    runs = {run.label: (run, one) for one in observed for run in one.inputs.values()}
    if not runs:
        raise SuiteError(f"tier {campaign.tier}: found no such runs, expected some to deposit")
    for run, observation in runs.values():
        if not store.is_done(run.name):
            raise SuiteError(
                f"{store.path(run.name)}: not found, expected {run.label}: python -m jobs run --tier "
                f"{campaign.tier} --start-from potentials makes it (after gc --trajectories only where "
                f"{store.path(observation.name)} is deleted)"
            )
    store.verify(run.name for run, _ in runs.values())
    name = PAIRED if paired else campaign.tier
    target, part = root / name, root / f"{name}.part"
    restore_folder(target)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write_all({label: run for label, (run, _) in runs.items()}, store, part)
    except BaseException:
        shutil.rmtree(part)
        raise
    put_folder(part, target)
    return target


def _write_all(runs: Mapping[str, Stage], store: Store, directory: Path) -> None:
    """The files of a deposit, and their record."""
    entries, software, size = {}, [], 0
    for label, run in runs.items():
        path = directory / f"{label.replace(' #', '-')}.npz"
        spacing_fs = 0.0 if run.kind == PAIRED else SPACING_FS
        write_thin(path, open_trajectory(store.path(run.name)), spacing_fs=spacing_fs)
        manifest = store.manifest(run.name)
        entries[label] = {
            "file": path.name,
            "sha256": file_sha256(path),
            "stage": run.name,
            "finished": manifest["finished"],
            "protocol": protocol_of(run),
        }
        if manifest["software"] not in software:
            software.append(manifest["software"])
        size += path.stat().st_size
        if size > MAX_BYTES:
            raise SuiteError(
                f"{label}: found {size / 1e6:.0f} MB of trajectories with it, expected at most "
                f"{MAX_BYTES / 1e6:.0f}"
            )
        print(f"{label}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    import yaml

    content = {"licence": "CC0-1.0", "software": software, "trajectories": entries}
    # By way of JSON, since YAML writes an object that occurs twice as an alias.
    text = yaml.safe_dump(
        json.loads(json.dumps(content)), sort_keys=False, default_flow_style=None, width=118
    )
    (directory / RECORD).write_text(text)
