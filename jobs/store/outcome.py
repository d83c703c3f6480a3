"""How a run begins, whatever makes its stages, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.base.errors import SuiteError
from jobs.store.stage import Stage
from jobs.store.store import Store
from jobs.store.todo import Plan, in_order, plan


@dataclass
class Outcome:
    """What became of a run: failed stages with their one-line reason, what they block, what waits."""

    made: list[str] = field(default_factory=list)
    reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def reason(self, stage: Stage) -> str | None:
        """Why a wanted stage is not there, or None."""
        return self.failed.get(stage.name) or self.blocked.get(stage.name)

    def raise_for_failures(self) -> None:
        """Turn failed stages into one error.

        Raises:
            SuiteError: with the first failure, and how many there were.
        """
        if self.failed:
            first = next(iter(self.failed.values()))
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            raise SuiteError(f"{first}{more}; {len(self.blocked)} stages blocked")


def begin(
    wanted: Sequence[Stage],
    store: Store,
    *,
    say: Callable[[str], None],
    rebuild_stale: bool,
    images: Mapping[str, str] | None = None,
) -> tuple[Plan, Outcome]:
    """What is to do, once what is there was found unchanged; stale products are named, or cleared.

    `images` are today's digests by name, where stages run in images.

    Raises:
        SuiteError: the store cannot be used, or a product that is to be used was changed.
    """
    store.prepare()
    todo = plan(wanted, store, rebuild_stale=rebuild_stale, images=images)
    for stage in in_order(wanted):
        if store.is_done(stage.name):
            store.manifest(stage.name)  # its seal: cheap, and it covers what is not read again
    store.verify(stage.name for stage in todo.done)
    if stale := [stage for stage in todo.done if store.is_stale(stage.name, images)]:
        say(_stale_line(stale, store, images))
    if rebuild_stale:
        for stage in todo.to_do:
            store.delete(stage.name)
    return todo, Outcome(reused=len(todo.done))


def _stale_line(stale: Sequence[Stage], store: Store, images: Mapping[str, str] | None) -> str:
    """What is said of products that other software, or another image, made."""
    found, expected = "other software versions", ""
    if images is not None:
        image, _, digest = store.manifest(stale[0].name)["image"].partition(":")
        found, expected = f"image {image} {digest[:12]}", f" {images[image][:12]}"
    return (
        f"[yellow]STALE[/yellow]    {len(stale)} products: found {found} in "
        f"{stale[0].name}/manifest.json, expected today's{expected}; --rebuild-stale makes them again"
    )
