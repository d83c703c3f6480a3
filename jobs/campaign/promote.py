"""Put the MD that a tier observes under `reference/trajectories/`, thinned."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, parse_yaml, put_folder, restore_folder
from jobs.base.trajectory import open_trajectory
from jobs.campaign.plan import Campaign
from jobs.campaign.sections import Moving
from jobs.reference.trajectories import (
    OBSERVE_PAIRS,
    PAIRED,
    RECORD,
    TRAJECTORIES,
    ThinTrajectory,
    protocol_of,
    thin_trajectories,
    write_thin,
)
from jobs.store.stage import Stage
from jobs.store.store import Store

MAX_BYTES = 130_000_000


def deposit_trajectories(
    campaign: Campaign,
    store: Store,
    *,
    paired: bool = False,
    replace: bool = False,
    root: Path = TRAJECTORIES,
) -> Path:
    """Put the MD that a tier observes under `reference/trajectories/`.

    These are its own runs, or with `paired` the runs that start from frames of AIMD, used by every tier. What
    was deposited of a run stays if the tier would still make the same, so a tier of many hours is deposited
    in parts; with `replace` a run that is done here takes its place. Runs that neither has are printed.

    Raises:
        SuiteError: the potentials are not the deposited ones, no run is there or one was changed, an atom
            leaps, or it is more than 130 MB.
    """
    if campaign.start_from != "potentials":
        raise SuiteError(
            f"--trajectories: found a start from {campaign.start_from}, expected --start-from potentials: "
            "trajectories stand beside the potentials that made them"
        )
    kind = OBSERVE_PAIRS if paired else "observe"
    observed = [stage for stages in campaign.labels.values() for stage in stages if stage.kind == kind]
    runs = {run.label: run for one in observed for run in one.inputs.values()}
    name = PAIRED if paired else campaign.tier
    target, part = root / name, root / f"{name}.part"
    restore_folder(target)
    before = thin_trajectories(name, needed=False, root=root)
    done = {label: run for label, run in runs.items() if store.is_done(run.name)}
    kept = {
        label: thin
        for label, thin in before.items()
        if label in runs and thin.stage == runs[label].name and not (replace and label in done)
    }
    made = {label: run for label, run in done.items() if label not in kept}
    missing = [label for label in runs if label not in made and label not in kept]
    if not done:
        raise SuiteError(
            f"{store.root}: found none of the {len(runs)} runs of tier {campaign.tier}, expected some: "
            f"python -m jobs run --tier {campaign.tier} --start-from potentials makes them"
        )
    store.verify(run.name for run in made.values())
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        written, software = _write(made, campaign, store, part)
        for thin in kept.values():
            shutil.copy2(thin.path, part / thin.path.name)
        _require_small(part)
        software += [one for one in _software(target) if kept and one not in software]
        deposited = {**written, **kept}
        _write_record(
            part, {label: deposited[label].entry() for label in runs if label in deposited}, software
        )
    except BaseException:
        shutil.rmtree(part)
        raise
    put_folder(part, target)
    print(f"{len(made)} runs made here, {len(kept)} as they were, {len(missing)} missing")
    if missing:
        numbers = Counter(label.split(" #")[0] for label in missing)
        print(f"missing: {', '.join(f'{run} ({number})' for run, number in numbers.items())}")
    return target


def _write(
    runs: Mapping[str, Stage], campaign: Campaign, store: Store, directory: Path
) -> tuple[dict[str, ThinTrajectory], list[Any]]:
    """The files of some runs, and the software that made them."""
    written: dict[str, ThinTrajectory] = {}
    software: list[Any] = []
    for label, run in runs.items():
        path = directory / f"{label.replace(' #', '-')}.npz"
        spacing_fs = 0.0 if run.kind == PAIRED else _spacing_fs(campaign, label)
        write_thin(path, open_trajectory(store.path(run.name)), spacing_fs=spacing_fs)
        manifest = store.manifest(run.name)
        written[label] = ThinTrajectory(
            path,
            sha256=file_sha256(path),
            stage=run.name,
            finished=manifest["finished"],
            protocol=protocol_of(run),
        )
        if manifest["software"] not in software:
            software.append(manifest["software"])
        _require_small(directory)
        print(f"{label}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return written, software


def _spacing_fs(campaign: Campaign, label: str) -> float:
    run = campaign.about.runs[label.split(" #")[0]]
    assert isinstance(run, Moving)  # `again` observes a run under that run's own name
    return run.deposit_every_fs


def _require_small(directory: Path) -> None:
    size = sum(path.stat().st_size for path in directory.iterdir())
    if size > MAX_BYTES:
        raise SuiteError(
            f"{directory}: found {size / 1e6:.0f} MB of trajectories, expected at most {MAX_BYTES / 1e6:.0f} "
            "(deposit_every_fs in the tier thins them)"
        )


def _software(directory: Path) -> list[Any]:
    """What an earlier record says made its trajectories."""
    record = directory / RECORD
    return list(parse_yaml(record.read_text())["software"]) if record.is_file() else []


def _write_record(directory: Path, entries: Mapping[str, Any], software: list[Any]) -> None:
    import yaml

    content = {"licence": "CC0-1.0", "software": software, "trajectories": entries}
    # By way of JSON, since YAML writes an object that occurs twice as an alias.
    text = yaml.safe_dump(
        json.loads(json.dumps(content)), sort_keys=False, default_flow_style=None, width=118
    )
    (directory / RECORD).write_text(text)
