"""Products on disk: a stage is done when its products and their hashed manifest are there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.base.errors import SuiteError
from jobs.base.files import file_sha256, write_json
from jobs.base.machine import (
    IMAGE_VARIABLE,
    NATIVE_KERNEL,
    hardware,
    native_kernel,
    software_versions,
    suite_commit,
)
from jobs.store.stage import Stage
from jobs.store.workspace import CHECKPOINTS, PROGRESS_FILE, Workspace

MANIFEST = "manifest.json"
# What a file system answers that cannot lock.
_CANNOT_LOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@dataclass(frozen=True)
class Recipe:
    """What a stage process needs to know of its stage, as JSON in the store."""

    name: str
    kind: str
    label: str
    code_version: int
    parameters: dict[str, Any]
    seed: int
    inputs: dict[str, str]
    cores: int
    ranks: int | None = None
    wanted_kernel: str | None = None

    @classmethod
    def of(cls, stage: Stage, *, cores: int | None = None, ranks: int | None = None) -> Recipe:
        """The recipe of a planned stage; `cores` and MPI `ranks` where it gets others than it asked for."""
        return cls(
            name=stage.name,
            kind=stage.kind,
            label=stage.label,
            code_version=stage.module.CODE_VERSION,
            parameters=dict(stage.parameters),
            seed=stage.seed,
            inputs={role: needed.name for role, needed in stage.inputs.items()},
            cores=cores or stage.cores,
            ranks=ranks,
            wanted_kernel=stage.wanted_kernel,
        )


def _seal(manifest: dict[str, Any]) -> str:
    body = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _not_done(folder: Path) -> SuiteError:
    return SuiteError(f"{folder / MANIFEST}: not found; the stage is not done")


class Store:
    """A folder with one subfolder per finished stage, `<kind>-<identity>`; unfinished ones end in `.part`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def path(self, name: str) -> Path:
        """Folder of a finished stage."""
        return self.root / name

    def part(self, name: str) -> Path:
        """Folder of an unfinished stage."""
        return self.root / f"{name}.part"

    def prepare(self) -> None:
        """Make the store's folders.

        Raises:
            SuiteError: the folder cannot be made or written.
        """
        try:
            (self.root / "recipes").mkdir(parents=True, exist_ok=True)
            (self.root / "locks").mkdir(exist_ok=True)
            (self.root / "plans").mkdir(exist_ok=True)
        except OSError as error:
            raise SuiteError(f"{self.root}: cannot be used as a store ({error.strerror})") from None

    def is_done(self, name: str) -> bool:
        """Whether the stage's manifest is there (its folder appears only when whole)."""
        return (self.path(name) / MANIFEST).is_file()

    def manifest(self, name: str) -> dict[str, Any]:
        """The manifest of a finished stage.

        Raises:
            SuiteError: it is missing, unreadable or was changed.
        """
        path = self.path(name) / MANIFEST
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            raise _not_done(self.path(name)) from None
        except ValueError as error:
            raise SuiteError(f"{path}: not a manifest ({error})") from None
        if manifest.get("seal") != _seal(manifest):
            raise SuiteError(
                f"{path}: its content does not match its seal; it was changed after it was written"
            )
        return manifest

    def is_stale(self, name: str, images: Mapping[str, str] | None = None) -> bool:
        """Whether a finished stage was made by other software than today's.

        What was made in an image is compared with today's digest of that image, where `images` (digest by
        name) says it; anything else with the packages of this Python, unless work is done in images. What ran
        the native kernel is compared with today's sources of it as well.
        """
        manifest = self.manifest(name)
        if manifest["software"].get(NATIVE_KERNEL) not in (None, native_kernel()):
            return True
        if manifest.get("image") is not None:
            image, _, digest = manifest["image"].partition(":")
            return images is not None and images.get(image, digest) != digest
        made, now = manifest["software"], software_versions()
        # A package of which one side does not speak was not looked at then, or is not installed now.
        return images is None and any(made[package] != now[package] for package in made.keys() & now.keys())

    def delete(self, folder: str) -> None:
        """Delete a stage's folder, finished or `.part`, if there is one; a kill leaves nothing half deleted.

        Raises:
            SuiteError: a process works on the stage.
        """
        from filelock import Timeout

        trash = self.root / "trash" / folder
        try:
            with self.lock(folder.removesuffix(".part"), patience_s=0):
                shutil.rmtree(trash, ignore_errors=True)  # an earlier deletion was killed
                if (self.root / folder).is_dir():
                    trash.parent.mkdir(exist_ok=True)
                    os.rename(self.root / folder, trash)
                    shutil.rmtree(trash)
        except Timeout:
            raise SuiteError(f"{self.root / folder}: not deleted, a run works on it") from None

    def problems(self, name: str) -> list[str]:
        """One line for each product of a finished stage that is not what its manifest says."""
        try:
            manifest = self.manifest(name)
        except SuiteError as error:
            return [str(error)]
        found = []
        for relative, expected in manifest["files"].items():
            path = self.path(name) / relative
            if not path.is_file():
                found.append(f"{path}: missing, expected {expected['bytes']} bytes")
            elif path.stat().st_size != expected["bytes"]:
                found.append(f"{path}: found {path.stat().st_size} bytes, expected {expected['bytes']}")
            elif (digest := file_sha256(path)) != expected["sha256"]:
                found.append(f"{path}: found sha256 {digest[:12]}..., expected {expected['sha256'][:12]}...")
        return found

    def verify(self, names: Iterable[str]) -> None:
        """Refuse products that are not there, or were changed after they were made.

        Raises:
            SuiteError: naming the first missing or changed file, and of a changed one the cure.
        """
        for name in names:
            if not self.is_done(name):
                raise _not_done(self.path(name))
            if found := self.problems(name):
                cure = f"delete {self.path(name)} to have it made again"
                raise SuiteError(f"{found[0]}; the product was changed and is not used: {cure}")

    def finished(self) -> Iterator[str]:
        """Names of all finished stages."""
        if self.root.is_dir():
            yield from sorted(
                path.parent.name for path in self.root.glob(f"*/{MANIFEST}") if path.parent.suffix != ".part"
            )

    def write_recipe(self, recipe: Recipe) -> Path:
        """Put a stage's recipe where its process finds it."""
        path = self.root / "recipes" / f"{recipe.name}.json"
        write_json(path, vars(recipe), indent=1)
        return path

    def remember(self, plan: str, names: Iterable[str]) -> None:
        """Keep the names of all stages of a plan, in place of what it was before; `gc` keeps those."""
        self.prepare()
        write_json(self.root / "plans" / f"{plan}.json", sorted(names))

    def plans(self) -> dict[str, set[str]]:
        """Names of the stages of each plan that was run in this store.

        Raises:
            SuiteError: a plan was changed.
        """
        files = sorted((self.root / "plans").glob("*.json"))
        try:
            return {path.stem: set(json.loads(path.read_text())) for path in files}
        except ValueError as error:
            raise SuiteError(f"{self.root / 'plans'}: found a plan that is not JSON ({error})") from None

    def read_recipe(self, name: str) -> Recipe:
        """The recipe of a planned stage."""
        path = self.root / "recipes" / f"{name}.json"
        try:
            return Recipe(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise SuiteError(f"{path}: no such stage was planned in this store") from None
        except (ValueError, TypeError) as error:
            raise SuiteError(f"{path}: found no recipe of this version ({error}), plan again") from None

    @contextmanager
    def lock(self, name: str, *, patience_s: float = -1) -> Iterator[None]:
        """Hold a stage for this process; the kernel frees it when the process dies.

        `patience_s` is how long to wait for another process, below 0 for ever.

        Raises:
            SuiteError: the file system cannot lock.
            filelock.Timeout: another process has it.
        """
        from filelock import FileLock

        folder = self.root / "locks"
        # Without the fallback: a marker file would outlive a killed process, and block the next one for ever.
        lock = FileLock(folder / f"{name}.lock", timeout=patience_s, fallback_to_soft=False)
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            raise SuiteError(
                f"{folder}: found no file locks ({error.strerror}), expected a file system with flock "
                "(Lustre: mounted with -o flock)"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def progress(self, name: str) -> tuple[float, str]:
        """How far an unfinished stage says it is: fraction and text."""
        try:
            said = json.loads((self.part(name) / CHECKPOINTS / PROGRESS_FILE).read_text())
            return float(said["fraction"]), str(said["text"])
        except (OSError, ValueError, KeyError):
            return 0.0, ""

    def finish(self, recipe: Recipe, workspace: Workspace, *, wall_seconds: float, attempts: int = 1) -> None:
        """Seal a stage's products: hash, write the manifest, rename into place.

        `wall_seconds` is the time of all `attempts` that it took.
        """
        part = workspace.directory
        files = {}
        for path in sorted(part.rglob("*")):
            if not path.is_file() or path == part / MANIFEST or part / CHECKPOINTS in path.parents:
                continue
            if path.suffix == ".tmp":  # an attempt was killed while it wrote a file
                path.unlink()
                continue
            files[str(path.relative_to(part))] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        manifest: dict[str, Any] = {
            "schema": 1,
            **vars(recipe),
            "files": files,
            "commit": suite_commit(),
            "software": software_versions() | workspace.software,
            "image": os.environ.get(IMAGE_VARIABLE),
            "hardware": hardware(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_s": round(wall_seconds, 2),
            "core_s": round(wall_seconds * recipe.cores, 2),
            "attempts": attempts,
            "facts": workspace.facts,
        }
        manifest["seal"] = _seal(manifest)
        with (part / MANIFEST).open("w") as stream:
            json.dump(manifest, stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        # Checkpoints go last: killed before the rename, the stage can still resume from them.
        os.rename(part, self.path(recipe.name))
        shutil.rmtree(self.path(recipe.name) / CHECKPOINTS, ignore_errors=True)
