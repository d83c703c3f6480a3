"""Constants of a frozen TensorFlow graph (`.pb`), read without TensorFlow, whose import takes seconds.

Of TensorFlow's messages (graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto)
these are the fields that constants are made of, by their numbers there; protobuf skips all others.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from jobs.base.errors import SuiteError

_FIELD = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
# Message -> fields: name, number, how many, type.
_MESSAGES: dict[str, tuple[tuple[str, int, Any, Any], ...]] = {
    "Graph": (("node", 1, _MANY, "Node"),),
    "Node": (
        ("name", 1, _ONE, _FIELD.TYPE_STRING),
        ("op", 2, _ONE, _FIELD.TYPE_STRING),
        ("attr", 5, _MANY, "Attr"),
    ),
    "Attr": (("key", 1, _ONE, _FIELD.TYPE_STRING), ("value", 2, _ONE, "Value")),
    "Value": (("tensor", 8, _ONE, "Tensor"),),
    "Tensor": (
        ("dtype", 1, _ONE, _FIELD.TYPE_INT32),
        ("shape", 2, _ONE, "Shape"),
        ("content", 4, _ONE, _FIELD.TYPE_BYTES),
        ("floats", 5, _MANY, _FIELD.TYPE_FLOAT),
        ("doubles", 6, _MANY, _FIELD.TYPE_DOUBLE),
        ("integers", 7, _MANY, _FIELD.TYPE_INT32),
        ("strings", 8, _MANY, _FIELD.TYPE_BYTES),
    ),
    "Shape": (("dim", 2, _MANY, "Dim"),),
    "Dim": (("size", 1, _ONE, _FIELD.TYPE_INT64),),
}
# DataType of types.proto -> numpy, and where single values of it are.
_NUMBERS = {1: ("<f4", "floats"), 2: ("<f8", "doubles"), 3: ("<i4", "integers")}
_STRING = 7


def read_constants(path: Path) -> dict[str, np.ndarray | bytes]:
    """Name -> value of every constant: an array, or the bytes of a single string.

    Raises:
        SuiteError: the file is missing or is no frozen graph.
    """
    graph = _graph_message()()
    try:
        graph.ParseFromString(path.read_bytes())
    except FileNotFoundError:
        raise SuiteError(f"{path}: not found, expected a frozen TensorFlow graph (.pb)") from None
    except DecodeError:
        raise SuiteError(f"{path}: found other bytes, expected a frozen TensorFlow graph (.pb)") from None
    constants: dict[str, np.ndarray | bytes] = {}
    for node in graph.node:
        value = next((entry.value.tensor for entry in node.attr if entry.key == "value"), None)
        if node.op != "Const" or value is None:
            continue
        if value.dtype == _STRING:
            constants[node.name] = value.strings[0] if value.strings else b""
        elif value.dtype in _NUMBERS:
            constants[node.name] = _array(value)
    if not constants:
        raise SuiteError(f"{path}: found no constants, expected a frozen TensorFlow graph (.pb)")
    return constants


def _array(tensor: Any) -> np.ndarray:
    """A tensor: its bytes, or single values of which the last one is repeated."""
    dtype, field = _NUMBERS[tensor.dtype]
    shape = [dim.size for dim in tensor.shape.dim]
    if tensor.content:
        return np.frombuffer(tensor.content, dtype).reshape(shape)
    values = np.array(getattr(tensor, field), dtype)
    missing = int(np.prod(shape)) - len(values)
    return np.append(values, np.repeat(values[-1:], missing)).astype(dtype).reshape(shape)


@cache
def _graph_message() -> Any:
    """The class of a graph, of the fields above."""
    file = descriptor_pb2.FileDescriptorProto(
        name="silica/frozen_graph.proto", package="silica", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            described = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                described.type, described.type_name = _FIELD.TYPE_MESSAGE, f".silica.{kind}"
            else:
                described.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("silica.Graph"))
