"""Mutations of files: bytes, words and lines, drawn from a seeded generator."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

# What a word may become: Fortran's stars, numbers that are none, other numbers, text, nothing.
WORDS = (
    b"", b"*" * 8, b"nan", b"NaN", b"inf", b"-Infinity", b"1e400", b"-1", b"0", b"1", b"3.5", b"1D-3",
    b"1e-3", b"abc", b"\xff\xfe", b"999999999999999999999", b"-0.0", b"T", b"F", b"()", b"=", b"{", b"}",
    b"[1, 2]", b"null", b"true", b"\x00", b"'", b'"', b"1,2", b"--", b"<i>", b"</v>", b"&END", b":", b"- ",
    b"#", b"Si", b"O", b"5.0.1",
)  # fmt: skip
_WORD = re.compile(rb"[^\s]+")


def mutations(content: bytes, number: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """`number` mutated copies, each with what was done to it."""
    rng = np.random.default_rng(seed)
    words = [match.span() for match in _WORD.finditer(content)]
    lines = [match.span() for match in re.finditer(rb"[^\n]*\n", content)]
    kinds = (
        _replace_word, _replace_word, _drop_word, _flip, _insert, _drop_line, _double_line, _swap_lines, _cut
    )  # fmt: skip
    for k in range(number):
        kind = kinds[int(rng.integers(len(kinds)))]
        said, mutated = kind(content, words, lines, rng)
        yield f"seed {seed}, {k}: {said}", mutated


Spans = list[tuple[int, int]]


def _pick(spans: Spans, rng: np.random.Generator) -> tuple[int, int]:
    return spans[int(rng.integers(len(spans)))]


def _replace_word(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    begin, end = _pick(words, rng)
    new = WORDS[int(rng.integers(len(WORDS)))]
    return f"{content[begin:end]!r} at {begin} -> {new!r}", content[:begin] + new + content[end:]


def _drop_word(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    begin, end = _pick(words, rng)
    return f"without {content[begin:end]!r} at {begin}", content[:begin] + content[end:]


def _flip(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    where = int(rng.integers(len(content)))
    new = int(rng.integers(256)) if rng.random() < 0.5 else ord(rng.choice(list("0123456789.-+eE= \n")))
    mutated = content[:where] + bytes([new]) + content[where + 1 :]
    return f"byte {content[where]!r} at {where} -> {new}", mutated


def _insert(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    where = int(rng.integers(len(content)))
    new = WORDS[int(rng.integers(len(WORDS)))]
    return f"{new!r} put in at {where}", content[:where] + new + content[where:]


def _drop_line(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    begin, end = _pick(lines, rng)
    return f"without the line {content[begin:end]!r} at {begin}", content[:begin] + content[end:]


def _double_line(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    begin, end = _pick(lines, rng)
    return f"the line {content[begin:end]!r} at {begin} twice", content[:end] + content[begin:]


def _swap_lines(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    k = int(rng.integers(max(1, len(lines) - 1)))
    (a, b), (c, d) = lines[k], lines[min(k + 1, len(lines) - 1)]
    return f"lines at {a} and {c} exchanged", content[:a] + content[c:d] + content[a:b] + content[d:]


def _cut(content: bytes, words: Spans, lines: Spans, rng: np.random.Generator) -> tuple[str, bytes]:
    where = int(rng.integers(len(content)))
    return f"cut at {where}", content[:where]
