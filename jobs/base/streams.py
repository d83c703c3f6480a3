"""Large text files read as they come: packed or not, cut off or not, a block at a time."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from jobs.base.errors import SuiteError

CHUNK_BYTES = 1 << 22
LONGEST_BLOCK_BYTES = 1 << 29


def open_binary(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked if it is a .gz, .xz or .bz2.

    Raises:
        SuiteError: it cannot be opened.
    """
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    try:
        return cast(IO[bytes], openers.get(path.suffix, open)(path, "rb"))
    except OSError as error:
        raise SuiteError(f"{path}: cannot be opened ({error.strerror}), expected a readable file") from None


def head(path: Path, n_bytes: int = 8192) -> bytes:
    """The first bytes of a file, unpacked; nothing if it cannot be unpacked."""
    with open_binary(path) as stream:
        return read_bytes(stream, n_bytes)


def read_bytes(stream: IO[bytes], n_bytes: int) -> bytes:
    """Like `read`; a compressed file that was cut off ends where it was cut."""
    parts: list[bytes] = []
    size = 0
    try:
        # One large read of a cut file would raise and lose what it had unpacked before.
        while size < n_bytes and (part := stream.read1(n_bytes - size)):  # type: ignore[attr-defined]
            parts.append(part)
            size += len(part)
    except (EOFError, OSError, lzma.LZMAError):
        pass
    return b"".join(parts)


def content_sha256(path: Path) -> str:
    """The digest of what a file holds, whether it is packed or not."""
    digest = hashlib.sha256()
    with open_binary(path) as stream:
        while chunk := read_bytes(stream, CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of an open file; a compressed file that was cut off ends where it was cut."""
    try:
        yield from stream
    except (EOFError, OSError, lzma.LZMAError):
        return


def blocks(path: Path, marker: bytes) -> Iterator[tuple[bytes, bool]]:
    """A file cut after each line that contains `marker`; the rest comes last, with False.

    Searching whole blocks for a few markers, at the speed of memory, is several times faster than looking
    at every line; one block is in memory at a time.

    Raises:
        SuiteError: half a gigabyte without the marker.
    """
    with open_binary(path) as stream:
        waiting, searched = b"", 0
        while chunk := read_bytes(stream, CHUNK_BYTES):
            waiting += chunk
            start = 0
            while True:
                found = waiting.find(marker, max(start, searched))
                end = waiting.find(b"\n", found) if found >= 0 else -1
                if end < 0:
                    break
                yield waiting[start : end + 1], True
                start = searched = end + 1
            waiting = waiting[start:]
            searched = max(0, len(waiting) - len(marker) - 200) if found < 0 else 0
            if len(waiting) > LONGEST_BLOCK_BYTES:
                raise SuiteError(
                    f"{path}: found {len(waiting) >> 20} MB without {marker.decode()!r}, expected one a step"
                )
        yield waiting, False
