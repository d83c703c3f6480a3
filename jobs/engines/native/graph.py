"""Constants of a frozen TensorFlow graph (`.pb`), read without TensorFlow, whose import takes seconds.

A GraphDef is a protocol buffer: fields of a number and a wire type, the lengths in front. The field numbers are
those of TensorFlow's graph.proto, node_def.proto, attr_value.proto and tensor.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jobs.errors import SuiteError

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
# DataType of types.proto -> numpy, and the field of TensorProto that holds single values of it.
_NUMBERS = {1: (np.dtype("<f4"), 5), 2: (np.dtype("<f8"), 6), 3: (np.dtype("<i4"), 7)}
_STRING = 7
_STRING_FIELD = 8


def read_constants(path: Path) -> dict[str, np.ndarray | bytes]:
    """Name -> value of every constant: an array, or the bytes of a single string.

    Raises:
        SuiteError: the file is missing or is no frozen graph.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SuiteError(f"{path}: not found, expected a frozen TensorFlow graph (.pb)") from None
    try:
        constants = {}
        for field, node in _fields(data):
            if field != 1:
                continue
            parts = list(_fields(node))
            if b"Const" in (value for number, value in parts if number == 2):
                name = next(value for number, value in parts if number == 1).decode()
                value = _tensor([value for number, value in parts if number == 5])
                if value is not None:
                    constants[name] = value
    except (IndexError, ValueError, StopIteration, TypeError):
        raise SuiteError(f"{path}: found other bytes, expected a frozen TensorFlow graph (.pb)") from None
    if not constants:
        raise SuiteError(f"{path}: found no constants, expected a frozen TensorFlow graph (.pb)")
    return constants


def _tensor(attributes: list[bytes]) -> np.ndarray | bytes | None:
    """The value of a Const node, None for types that no deep potential has."""
    for entry in map(dict, map(_fields, attributes)):
        if entry[1] != b"value":
            continue
        tensor = next(value for number, value in _fields(entry[2]) if number == 8)
        parts = list(_fields(tensor))
        kind = next(value for number, value in parts if number == 1)
        if kind == _STRING:
            return next((value for number, value in parts if number == _STRING_FIELD), b"")
        if kind not in _NUMBERS:
            return None
        dtype, field = _NUMBERS[kind]
        sizes = [
            dict(_fields(size)).get(1, 0)
            for n, shape in parts
            if n == 2
            for d, size in _fields(shape)
            if d == 2
        ]
        content = b"".join(value for number, value in parts if number == 4)
        if content:
            values = np.frombuffer(content, dtype)
        else:  # single values, the last one repeated
            values = np.array(
                [one for n, value in parts if n == field for one in _values(value, dtype)], dtype
            )
            count = int(np.prod(sizes))
            if len(values) < count:
                values = np.append(values, np.repeat(values[-1:], count - len(values)))
        return values.reshape(sizes)
    return None


def _values(value: bytes | int, dtype: np.dtype) -> list[float]:
    """Single values: one, or many packed."""
    if isinstance(value, bytes) and dtype.kind == "f":
        return np.frombuffer(value, dtype).tolist()
    found = [value] if isinstance(value, int) else []
    position = 0
    while isinstance(value, bytes) and position < len(value):
        one, position = _varint(value, position)
        found.append(one)
    return [one - 2**64 if one >= 2**63 else one for one in found]  # negative ones are written in 64 bits


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, value) of a message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _LENGTH:
            length, position = _varint(data, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > len(data):
            raise ValueError("cut short")
        yield number, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
