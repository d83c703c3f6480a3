"""DeePMD-kit's data: a folder (or an HDF5 group) with `type.raw`, `type_map.raw` and `set.*/*.npy`.

Coordinates A, energies eV, forces eV/A. The format has no word on steps, temperatures, functional or
convergence: who wrote it must have left out what did not converge. A system with a file `nopbc` is not
periodic: its frames are counted and left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.base.errors import SuiteError
from jobs.base.files import read_text
from jobs.reference.formats import NOT_PERIODIC, UNREADABLE, Batch, Source, frames_per_batch

_HDF5 = b"\x89HDF"
# What h5py raises of a file that is broken, depending on where.
_BROKEN = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, UnicodeError, MemoryError)
_ARRAYS = ("coord", "energy", "force", "box")


def recognises(path: Path) -> bool:
    """Whether this is a system's folder or an HDF5 file."""
    if path.is_dir():
        return (path / "type.raw").is_file()
    with path.open("rb") as stream:
        return stream.read(4) == _HDF5


def open_source(path: Path) -> Source:
    """A system that lies in a folder.

    Raises:
        SuiteError: a file is missing, or holds other numbers of frames or atoms than the others.
    """
    words = read_text(path / "type.raw", expected="the numbers of types").split()
    if wrong := [word for word in words if not word.isdigit()]:
        raise SuiteError(f"{path}/type.raw: found {wrong[0]}, expected the numbers of types from 0 on")
    types = [int(word) for word in words]
    names = path / "type_map.raw"
    species = _species(types, _names(names) if names.is_file() else None, str(path))
    sets = sorted((folder for folder in path.glob("set.*") if folder.is_dir()), key=_number_of_set)
    if (path / "nopbc").exists():
        return _not_periodic(path, "DeePMD npy", [_opened(folder, ["coord"])["coord"] for folder in sets])
    arrays = []
    for folder in sets:
        if (folder / "real_atom_types.npy").is_file():
            raise SuiteError(f"{folder}/real_atom_types.npy: found mixed types, expected one composition")
        names_here = [*_ARRAYS, *(["virial"] if (folder / "virial.npy").is_file() else [])]
        arrays.append(_opened(folder, names_here))
    used = [path / "type.raw", *([names] if names.is_file() else [])]
    used += [file for folder in sets for file in sorted(folder.glob("*.npy"))]
    return _source(path, str(path), "DeePMD npy", species, arrays, used)


def _names(path: Path) -> list[str]:
    return read_text(path, expected="the names of types").split()


def _opened(folder: Path, names: Sequence[str]) -> dict[str, _Npy]:
    """Arrays of a set by name.

    Raises:
        SuiteError: a file is missing, cut, or no array of numbers.
    """
    found = {}
    for name in names:
        file = folder / f"{name}.npy"
        if not file.is_file():
            raise SuiteError(f"{file}: found no such file, expected {', '.join(names)}")
        try:
            found[name] = _Npy(file)
        except (*_BROKEN, EOFError, SyntaxError, TokenError) as error:
            said = " ".join(str(error).split())
            raise SuiteError(f"{folder}: found a cut or unreadable array ({said}), expected .npy") from None
    return found


def open_hdf5(path: Path) -> list[Source]:
    """Every system in an HDF5 file; needs h5py, which DeePMD-kit brings along.

    Raises:
        SuiteError: h5py is missing, no system in the file, or one that is not whole.
    """
    try:
        import h5py
    except ImportError:
        raise SuiteError(
            f"{path}: found no h5py to read it, expected it installed (pip install h5py)"
        ) from None
    try:
        return _systems(path, h5py.File(path, "r"))
    except _BROKEN as error:
        said = " ".join(str(error).split())
        raise SuiteError(f"{path}: found a cut or unreadable file ({said}), expected HDF5") from None


def _systems(path: Path, file: Any) -> list[Source]:
    import h5py

    groups: list[Any] = [file] if "type.raw" in file else []
    file.visititems(
        lambda _, node: groups.append(node) if isinstance(node, h5py.Group) and "type.raw" in node else None
    )
    if not groups:
        raise SuiteError(f"{path}: found no group with type.raw, expected DeePMD-kit's HDF5")
    sources = []
    for group in groups:
        where = f"{path}{'' if group.name == '/' else '#' + group.name}"
        names = [name.decode() for name in group["type_map.raw"][:]] if "type_map.raw" in group else None
        species = _species([int(t) for t in group["type.raw"][:]], names, where)
        arrays = []
        sets = sorted((key for key in group if key.startswith("set.")), key=_number_of_set)
        if "nopbc" in group:
            coordinates = [group[key]["coord.npy"] for key in sets]
            sources.append(_not_periodic(path, "DeePMD HDF5", coordinates))
            continue
        for key in sets:
            found = {
                name: group[key][f"{name}.npy"]
                for name in (*_ARRAYS, "virial")
                if f"{name}.npy" in group[key]
            }
            if missing := [name for name in _ARRAYS if name not in found]:
                raise SuiteError(f"{where}/{key}: found no {missing[0]}.npy, expected {', '.join(_ARRAYS)}")
            arrays.append(found)
        sources.append(_source(path, where, "DeePMD HDF5", species, arrays, [path]))
    return sources


class _Npy:
    """Rows of an .npy file, read as they are asked for.

    A memory map would do the same, but its pages count as memory of the process until somebody needs them.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            major, _ = np.lib.format.read_magic(stream)
            read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            self.shape, fortran_order, self.dtype = read_header[major](stream)
            self.offset = stream.tell()
        self.path = path
        self.size = math.prod(self.shape)
        self.width = math.prod(self.shape[1:])
        self.columns_first = fortran_order and len(self.shape) > 1
        found, needed = path.stat().st_size - self.offset, self.size * self.dtype.itemsize
        if not self.shape or found != needed or self.dtype.kind not in "fiu":
            raise ValueError(f"{path.name} has {found} bytes of data for shape {self.shape}")

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, part: slice) -> NDArray[Any]:
        first, last, _ = part.indices(len(self))
        if self.columns_first:  # rare: rows lie scattered over the file
            whole = np.memmap(
                self.path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape, order="F"
            )
            return np.array(whole[first:last], order="C")
        offset = self.offset + first * self.width * self.dtype.itemsize
        rows = np.fromfile(self.path, dtype=self.dtype, count=(last - first) * self.width, offset=offset)
        return rows.reshape(last - first, *self.shape[1:])


def _number_of_set(folder: Path | str) -> tuple[int, str]:
    """Sets in the order of their numbers: set.1000 comes after set.999."""
    name = folder if isinstance(folder, str) else folder.name
    number = name.rpartition(".")[2]
    return (int(number) if number.isdigit() else -1, name)


def _not_periodic(path: Path, form: str, coordinates: list[Any]) -> Source:
    source = Source(path, form, convergence_known=False, files=[path / "type.raw" if path.is_dir() else path])
    source.refused[NOT_PERIODIC] += sum(len(found) for found in coordinates)
    return source


def _species(types: list[int], names: list[str] | None, where: str) -> tuple[str, ...]:
    if names is None:
        raise SuiteError(f"{where}: found no type_map.raw, expected one: the types have no names without it")
    if doubled := sorted(name for name, number in Counter(names).items() if number > 1):
        raise SuiteError(f"{where}: found {doubled[0]} twice in type_map.raw, expected a name for each type")
    if not types or max(types) >= len(names):
        raise SuiteError(f"{where}: found types up to {max(types, default=-1)}, expected {len(names)} names")
    return tuple(names[index] for index in types)


def _source(
    path: Path,
    where: str,
    form: str,
    species: tuple[str, ...],
    arrays: list[dict[str, Any]],
    files: list[Path],
) -> Source:
    if not arrays:
        raise SuiteError(f"{where}: found no set.*, expected at least set.000")
    n_atoms = len(species)
    for index, found in enumerate(arrays):
        frames = len(found["energy"])
        rows = {"coord": (n_atoms, 3), "force": (n_atoms, 3), "box": (3, 3), "energy": (1, 1)}
        for name, (n, m) in rows.items():
            if found[name].dtype.kind != "f" or found[name].dtype.itemsize < 4:
                kind = found[name].dtype
                raise SuiteError(f"{where}: set {index}: found {name} of {kind}, expected float64 or float32")
            # As many numbers in another shape are those of other atoms or frames.
            shapes = [(frames, n * m), (frames, n, m), *([(frames,)] if name == "energy" else [])]
            if found[name].shape not in shapes:
                raise SuiteError(
                    f"{where}: set {index}: found {name} of {found[name].shape}, expected ({frames}, {n * m})"
                )
    source = Source(path, form, convergence_known=False, files=files)
    largest = max(float(np.abs(found["energy"][:1]).max(initial=0.0)) for found in arrays)
    if any(found["energy"].dtype == np.float32 for found in arrays):
        source.remarks.append(
            f"energies in single precision: to {np.spacing(np.float32(largest)) * 1e3:.2g} meV a cell"
        )
    source.batches = _batches(species, arrays, source)
    return source


def _batches(species: tuple[str, ...], arrays: list[dict[str, Any]], source: Source) -> Iterator[Batch]:
    n_atoms, step = len(species), 0
    size = frames_per_batch(n_atoms)
    for found in arrays:
        total = len(found["energy"])
        for first in range(0, total, size):
            part = slice(first, min(first + size, total))
            n = part.stop - part.start
            try:
                energies = np.asarray(found["energy"][part], dtype=np.float64).reshape(n)
                positions = np.asarray(found["coord"][part], dtype=np.float64).reshape(n, n_atoms, 3)
                forces = np.asarray(found["force"][part], dtype=np.float64).reshape(n, n_atoms, 3)
                cells = np.asarray(found["box"][part], dtype=np.float64).reshape(n, 3, 3)
            except _BROKEN as error:
                said = " ".join(str(error).split())
                raise SuiteError(f"{source.path}: found a broken array ({said}), expected numbers") from None
            steps = np.arange(step, step + n)
            step += n
            # A sum is finite if all its terms are.
            good = np.isfinite(
                energies + positions.sum(axis=(1, 2)) + forces.sum(axis=(1, 2)) + cells.sum(axis=(1, 2))
            )
            if not good.all():
                source.refused[UNREADABLE] += int((~good).sum())
                energies, positions, forces = energies[good], positions[good], forces[good]
                cells, steps = cells[good], steps[good]
            unknown = np.full(len(energies), np.nan)
            if len(energies):
                yield Batch(
                    species=species,
                    positions=positions,
                    cells=cells,
                    energies_eV=energies,
                    forces=forces,
                    velocities=None,
                    steps=steps,
                    target_K=unknown,
                    kinetic_K=unknown,
                    stress=np.full(len(energies), "virial" in found),
                )
