"""A DP-GEN machine file, or dpdispatcher's pair of `machine` and `resources`, as a site.

What it says is kept, or named in the site's notes as not kept: this suite makes jobs of its own, one for each
stage, with its own commands and nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.schema import ANYTHING, COUNT, FLAG, TEXT, WHOLE, Table, Value, check_keys, list_of, read_keys
from jobs.running import untried
from jobs.running.site import BATCH_TYPES, TEXT_OR_NUMBER, Request, Site

# DP-GEN's three kinds of work, and ours.
_PARTS = {
    "train": ("dataset", "kernel", "potential", "train", "train_hdnnp", "parity"),
    "model_devi": ("default", "melt", "md", "quench", "paired", "observe", "observe_pairs", "cost", "probe"),
    "fp": ("aimd",),
}
_BATCH_TYPES = {known.lower(): known for known in BATCH_TYPES}  # DP-GEN takes either
_LOCAL = ("local", "localcontext", "lazylocal", "lazylocalcontext")
# What dpdispatcher's back ends know of their own, by batch type.
_BACKEND = {
    "Slurm": ("custom_gpu_line",),
    **untried.BACKEND,
}
_LINES = list_of(TEXT, "texts")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENVS = Value(
    "variables with texts, numbers or lists of them",
    lambda v: (
        isinstance(v, dict)
        and all(isinstance(name, str) and _NAME.fullmatch(name) is not None for name in v)
        and all(TEXT_OR_NUMBER.allows(one) for value in v.values() for one in _each(value))
    ),
)
_KEPT = {
    "queue_name": TEXT,
    "cpu_per_node": COUNT,
    "gpu_per_node": WHOLE,
    "custom_flags": _LINES,
    "module_unload_list": _LINES,
    "module_list": _LINES,
    "module_purge": FLAG,
    "source_list": _LINES,
    "prepend_script": _LINES,
    "append_script": _LINES,
    "envs": _ENVS,
}
_ENTRY: Table = {
    "machine": {
        "batch_type": Value(f"one of {', '.join(BATCH_TYPES)}", lambda v: str(v).lower() in _BATCH_TYPES),
        "context_type?": TEXT,
        "*": ANYTHING,
    },
    "resources": {
        **{f"{key}?": value for key, value in _KEPT.items()},
        "kwargs?": {"*": ANYTHING},
        "*": ANYTHING,
    },
    "*": ANYTHING,
}
# Before version 0.9, in 2021: `train_machine` and the like, or parts with `batch` and `numb_node`.
_OLD = re.compile(
    r"(train|model_devi|fp)_(machine|resources)|deepmd_path|python_path|numb_node|task_per_node"
)


def read_machine_file(path: Path) -> Site:
    """A DP-GEN machine file: `train`, `model_devi` and `fp`, or one pair of `machine` and `resources`.

    Raises:
        SuiteError: another machine's, an old one, several batch systems, or what is not understood.
    """
    content = read_keys(path, {"*": ANYTHING})
    _refuse_old(path, content)
    parts = {"model_devi": content} if "machine" in content else content
    kinds: dict[str, Request] = {}
    systems: dict[str, str] = {}
    notes: list[str] = []
    for part, names in _PARTS.items():
        given: Any = parts.get(part)
        if given is None:
            continue
        entry = given[0] if isinstance(given, list) and given else given
        at = "" if parts is not content else part
        check_keys(path, entry, _ENTRY, at=at)
        systems[part] = _BATCH_TYPES[entry["machine"]["batch_type"].lower()]
        kinds |= dict.fromkeys(names, _request(path, entry, part, systems[part]))
        lost = [*_not_kept(entry, systems[part])]
        if isinstance(given, list) and len(given) > 1:
            lost.append(f"{len(given) - 1} more of its machines")
        if lost:
            notes.append(f"{path}: {at + ': ' if at else ''}not kept: {', '.join(lost)}")
    if not kinds:
        expected = "with resources beside it" if "batch_type" in content else "a DP-GEN machine file"
        found = "a machine alone" if "batch_type" in content else f"none of {', '.join(_PARTS)}"
        raise SuiteError(f"{path}: found {found}, expected {expected}")
    if len(set(systems.values())) > 1:
        said = ", ".join(f"{system} for {part}" for part, system in systems.items())
        raise SuiteError(f"{path}: found {said}, expected one batch system: give a file for each")
    others = [key for key in content if key not in (*_PARTS, "machine", "resources", "api_version")]
    if parts is content and others:
        notes.append(f"{path}: not kept: {', '.join(others)}")
    kinds.setdefault("default", next(iter(kinds.values())))
    return Site(
        name=path.stem,
        path=path,
        batch_type=next(iter(systems.values())),
        cores_per_node=max(request.cores for request in kinds.values()),
        images=None,
        binds=(),
        launcher="mpirun",
        launcher_options=(),
        share_namespaces=False,
        host_mpi=None,
        gpu_may_be_absent=False,
        max_jobs=1000,
        kinds=kinds,
        notes=tuple(notes),
    )


def _refuse_old(path: Path, content: Mapping[str, Any]) -> None:
    for where, found in (("", content), *((part, content.get(part)) for part in _PARTS)):
        first = found[0] if isinstance(found, list) and found else found
        keys = list(first) if isinstance(first, dict) else []
        if isinstance(first, dict):
            keys += [key for inner in first.values() if isinstance(inner, dict) for key in inner]
        old = next((key for key in keys if isinstance(key, str) and _OLD.fullmatch(key)), None)
        if old is not None:
            raise SuiteError(
                f"{path}: {where + ': ' if where else ''}found {old}, as DP-GEN had it before 0.9, expected "
                "machine and resources of dpdispatcher"
            )


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _request(path: Path, entry: Mapping[str, Any], part: str, system: str) -> Request:
    machine, resources = entry["machine"], entry["resources"]
    context = machine.get("context_type", "local")
    if context.lower() not in _LOCAL:
        raise SuiteError(
            f"{path}: {part}: found context_type {context}, "
            "expected a local one: run on the cluster's login node"
        )
    if str(resources.get("batch_type", system)).lower() != system.lower():
        raise SuiteError(
            f"{path}: {part}: found batch_type {resources['batch_type']} in resources, expected {system} as "
            "in machine"
        )
    kwargs, known = resources.get("kwargs", {}), _BACKEND.get(system, ())
    exports, environment = _environment(resources.get("envs", {}))
    return Request(
        queue=resources.get("queue_name", ""),
        cores=resources.get("cpu_per_node", 1),
        gpus=resources.get("gpu_per_node", 0),
        walltime_h=None,
        flags=tuple(resources.get("custom_flags", ())),
        setup=_setup(resources, exports),
        environment=environment,
        teardown=tuple(resources.get("append_script", ())),
        backend={key: value for key, value in kwargs.items() if key in known},
    )


def _environment(envs: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Shell lines, for lists and for values that the shell shall expand, and the plain variables.

    A list exports its values one after the other, each in sight of the one before, as in
    LD_LIBRARY_PATH: ["/a:$LD_LIBRARY_PATH", "/b:$LD_LIBRARY_PATH"].
    """
    lines: list[str] = []
    plain: dict[str, str] = {}
    for name, value in envs.items():
        if not isinstance(value, list) and not re.search(r"[$`]", str(value)):
            plain[name] = str(value)
            continue
        for one in _each(value):
            text = str(one).replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'export {name}="{text}"')
    return lines, plain


def _setup(resources: Mapping[str, Any], exports: list[str]) -> tuple[str, ...]:
    """Shell lines before the work, in dpdispatcher's order."""
    lines = ["module purge"] if resources.get("module_purge") else []
    lines += [f"module unload {name}" for name in resources.get("module_unload_list", ())]
    lines += [f"module load {name}" for name in resources.get("module_list", ())]
    lines += [f"source {name}" for name in resources.get("source_list", ()) if name.strip()]
    return (*lines, *exports, *resources.get("prepend_script", ()))


def _not_kept(entry: Mapping[str, Any], system: str) -> Iterator[str]:
    """What an entry says that no job here will have, with its value; what says nothing is left out."""
    sections = {
        "": {key: value for key, value in entry.items() if key not in ("machine", "resources")},
        "machine.": {
            key: value for key, value in entry["machine"].items() if key not in ("batch_type", "context_type")
        },
        "resources.": {
            key: value
            for key, value in entry["resources"].items()
            if key not in (*_KEPT, "batch_type", "kwargs", "strategy")
        },
        "resources.strategy.": entry["resources"].get("strategy") or {},
        "resources.kwargs.": {
            key: value
            for key, value in entry["resources"].get("kwargs", {}).items()
            if key not in _BACKEND.get(system, ())
        },
    }
    usual = {"number_node": 1, "para_deg": 1, "group_size": 1}
    for section, found in sections.items():
        values = found.items() if isinstance(found, dict) else [("", found)]
        for key, value in values:
            if value and value != usual.get(key):
                text = str(value) if not isinstance(value, dict | list) else "..."
                yield f"{section}{key} ({text})"
