"""Which stages a run needs, in which order, and what of them is still to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.store.stage import Stage
from jobs.store.store import Store


def in_order(wanted: Iterable[Stage]) -> list[Stage]:
    """All stages that the wanted ones need, each once, inputs first."""
    stages: dict[str, Stage] = {}
    for stage in wanted:
        for needed in stage.walk():
            stages.setdefault(needed.identity, needed)
    return list(stages.values())


@dataclass(frozen=True)
class Plan:
    """What is to do for the wanted stages, inputs first, and what is done already."""

    to_do: list[Stage]
    done: list[Stage]

    @property
    def core_seconds(self) -> float:
        """Estimated cost of what is to do."""
        return sum(stage.core_seconds for stage in self.to_do)


def plan(
    wanted: Iterable[Stage],
    store: Store,
    *,
    rebuild_stale: bool = False,
    images: Mapping[str, str] | None = None,
) -> Plan:
    """Compare the wanted stages with the store.

    The inputs of a stage whose product is there are not needed: they may have been deleted. With
    `rebuild_stale`, products of other software versions count as missing, and so does what was made
    from them, by way of cleared ones too. `images` are today's digests by name, where stages run in images.
    """
    outdated: dict[str, bool] = {}

    def is_outdated(stage: Stage) -> bool:
        if stage.identity not in outdated:
            inputs = [is_outdated(needed) for needed in stage.inputs.values()]
            stale = store.is_done(stage.name) and store.is_stale(stage.name, images)
            outdated[stage.identity] = stale or any(inputs)
        return outdated[stage.identity]

    to_do: dict[str, Stage] = {}
    done: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.identity in to_do or stage.identity in done:
            return
        if store.is_done(stage.name) and not (rebuild_stale and is_outdated(stage)):
            done[stage.identity] = stage
            return
        for needed in stage.inputs.values():
            visit(needed)
        to_do[stage.identity] = stage

    for stage in wanted:
        visit(stage)
    return Plan(to_do=list(to_do.values()), done=list(done.values()))


def urgency(stages: list[Stage]) -> dict[str, float]:
    """Seconds of the longest chain that starts with each stage: what to start first."""
    chain = {stage.identity: stage.core_seconds / stage.cores for stage in stages}
    for stage in reversed(stages):
        for needed in stage.inputs.values():
            if needed.identity in chain:
                own = needed.core_seconds / needed.cores
                chain[needed.identity] = max(chain[needed.identity], own + chain[stage.identity])
    return chain
