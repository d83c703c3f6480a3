"""A stage: what is to be made, from what, and the name that this gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any


@dataclass(frozen=True, eq=False)
class Stage:
    """One unit of work.

    `kind` names the module (`jobs.stages.kinds`); `parameters` are JSON values; `inputs` maps a role
    (`"potential"`, `"start"`, ...) to the stage that makes it. `label` is a title for people. `cores`,
    `core_seconds` (an estimate) and `wanted_kernel` (what must run an NNP's MD, None: the fastest) are
    resources. Neither titles nor resources enter the identity.
    """

    kind: str
    label: str
    parameters: Mapping[str, Any]
    seed: int = 0
    inputs: Mapping[str, Stage] = field(default_factory=dict)
    cores: int = 1
    core_seconds: float = 1.0
    wanted_kernel: str | None = None

    @cached_property
    def identity(self) -> str:
        """Hash of kind, code version, parameters, seed and the identities of the inputs."""
        # A given file or deposit is known by the sha256 beside it; where it lies is no part of what is
        # computed.
        parameters = {key: value for key, value in self.parameters.items() if key not in ("file", "deposit")}
        recipe = json.dumps(
            {
                "kind": self.kind,
                "code_version": self.module.CODE_VERSION,
                "parameters": parameters,
                "seed": self.seed,
                "inputs": {role: stage.identity for role, stage in self.inputs.items()},
            },
            sort_keys=True,
            allow_nan=False,
        )
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """Directory name in the store: kind and identity."""
        return f"{self.kind}-{self.identity}"

    @property
    def module(self) -> ModuleType:
        """The module that runs this kind."""
        # By its name, since stages lie above the store.
        return import_module("jobs.stages.kinds").stage_module(self.kind)

    def walk(self) -> Iterator[Stage]:
        """This stage after everything it needs, each once."""
        seen: set[str] = set()

        def visit(stage: Stage) -> Iterator[Stage]:
            if stage.identity in seen:
                return
            seen.add(stage.identity)
            for needed in stage.inputs.values():
                yield from visit(needed)
            yield stage

        yield from visit(self)
