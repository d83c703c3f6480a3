"""A DP-GEN machine file, or dpdispatcher's pair of `machine` and `resources`, as a site.

What it says is kept, or named in the site's notes as not kept: this suite makes jobs of its own, one for each
stage, with its own commands and nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from jobs.base.errors import SuiteError
from jobs.base.schema import (
    Count,
    Expected,
    Flag,
    Keys,
    Text,
    TextOrNumber,
    Texts,
    Whole,
    checked,
    names,
    read_model,
)
from jobs.running import untried
from jobs.running.site import BATCH_TYPES, Request, Site

# DP-GEN's three kinds of work, and ours.
_PARTS = {
    "train": ("dataset", "kernel", "potential", "train", "train_hdnnp", "parity"),
    "model_devi": ("default",),
    "fp": ("aimd",),
}
_BATCH_TYPES = {known.lower(): known for known in BATCH_TYPES}  # DP-GEN takes either
_LOCAL = ("local", "localcontext", "lazylocal", "lazylocalcontext")
# What dpdispatcher's back ends know of their own, by batch type.
_BACKEND = {
    "Slurm": ("custom_gpu_line",),
    **untried.BACKEND,
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BatchType = Annotated[
    str,
    BeforeValidator(lambda found: _BATCH_TYPES.get(str(found).lower())),
    Expected(f"one of {', '.join(BATCH_TYPES)}"),
]


def _variables(found: Any) -> Any:
    if not (isinstance(found, dict) and all(isinstance(n, str) and _NAME.fullmatch(n) for n in found)):
        raise ValueError("a name that no variable has")
    return found


Variables = Annotated[
    dict[str, TextOrNumber | list[TextOrNumber]],
    BeforeValidator(_variables),
    Expected("variables with texts, numbers or lists of them"),
]


class _Open(Keys):
    """A section of which only these keys are kept; others are named."""

    model_config = ConfigDict(extra="allow")

    @property
    def others(self) -> Mapping[str, Any]:
        """What the section has besides."""
        return self.model_extra or {}


class Machine(_Open):
    """dpdispatcher's `machine`."""

    batch_type: BatchType
    """The scheduler; upper and lower case are one."""
    context_type: Text = "local"
    """Where jobs are submitted from."""


class Resources(_Open):
    """dpdispatcher's `resources`."""

    batch_type: Any = None
    """The machine's, if anything."""
    queue_name: Text = ""
    cpu_per_node: Count = 1
    gpu_per_node: Whole = 0
    custom_flags: Texts = ()
    module_unload_list: Texts = ()
    module_list: Texts = ()
    module_purge: Flag = False
    source_list: Texts = ()
    prepend_script: Texts = ()
    append_script: Texts = ()
    envs: Variables = Field(default={})
    """A list exports its values one after the other."""
    kwargs: Annotated[dict[str, Any], names()] = Field(default={})
    """Of dpdispatcher's back end."""
    strategy: Any = None
    """Of dpdispatcher's groups of tasks."""


class Entry(_Open):
    """A part of DP-GEN's file."""

    machine: Machine
    resources: Resources


# Before version 0.9, in 2021: `train_machine` and the like, or parts with `batch` and `numb_node`.
_OLD = re.compile(
    r"(train|model_devi|fp)_(machine|resources)|deepmd_path|python_path|numb_node|task_per_node"
)


def read_machine_file(path: Path) -> Site:
    """A DP-GEN machine file: `train`, `model_devi` and `fp`, or one pair of `machine` and `resources`.

    Raises:
        SuiteError: another machine's, an old one, several batch systems, or what is not understood.
    """
    content = read_model(path, _Open).others
    _refuse_old(path, content)
    parts = {"model_devi": content} if "machine" in content else content
    kinds: dict[str, Request] = {}
    systems: dict[str, str] = {}
    notes: list[str] = []
    for part, kinds_of_it in _PARTS.items():
        given: Any = parts.get(part)
        if given is None:
            continue
        at = "" if parts is not content else part
        entry = checked(path, given[0] if isinstance(given, list) and given else given, Entry, at=at)
        systems[part] = entry.machine.batch_type
        kinds |= dict.fromkeys(kinds_of_it, _request(path, entry, part))
        lost = [*_not_kept(entry)]
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


def _request(path: Path, entry: Entry, part: str) -> Request:
    machine, resources = entry.machine, entry.resources
    if machine.context_type.lower() not in _LOCAL:
        raise SuiteError(
            f"{path}: {part}: found context_type {machine.context_type}, "
            "expected a local one: run on the cluster's login node"
        )
    said = machine.batch_type if resources.batch_type is None else str(resources.batch_type)
    if said.lower() != machine.batch_type.lower():
        raise SuiteError(
            f"{path}: {part}: found batch_type {said} in resources, expected {machine.batch_type} as "
            "in machine"
        )
    known = _BACKEND.get(machine.batch_type, ())
    exports, environment = _environment(resources.envs)
    return Request(
        queue=resources.queue_name,
        cores=resources.cpu_per_node,
        gpus=resources.gpu_per_node,
        walltime_h=None,
        flags=tuple(resources.custom_flags),
        setup=_setup(resources, exports),
        environment=environment,
        teardown=tuple(resources.append_script),
        backend={key: value for key, value in resources.kwargs.items() if key in known},
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


def _setup(resources: Resources, exports: list[str]) -> tuple[str, ...]:
    """Shell lines before the work, in dpdispatcher's order."""
    lines = ["module purge"] if resources.module_purge else []
    lines += [f"module unload {name}" for name in resources.module_unload_list]
    lines += [f"module load {name}" for name in resources.module_list]
    lines += [f"source {name}" for name in resources.source_list if name.strip()]
    return (*lines, *exports, *resources.prepend_script)


def _not_kept(entry: Entry) -> Iterator[str]:
    """What an entry says that no job here will have, with its value; what says nothing is left out."""
    known = _BACKEND.get(entry.machine.batch_type, ())
    sections = {
        "": entry.others,
        "machine.": entry.machine.others,
        "resources.": entry.resources.others,
        "resources.strategy.": entry.resources.strategy or {},
        "resources.kwargs.": {k: v for k, v in entry.resources.kwargs.items() if k not in known},
    }
    usual = {"number_node": 1, "para_deg": 1, "group_size": 1}
    for section, found in sections.items():
        values = found.items() if isinstance(found, dict) else [("", found)]
        for key, value in values:
            if value and value != usual.get(key):
                text = str(value) if not isinstance(value, dict | list) else "..."
                yield f"{section}{key} ({text})"
