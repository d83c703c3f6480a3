"""One deep potential in another precision: the same weights, so that only speed is compared.

Run as a program (`python -m jobs.engines.deepmd.precision IN.pb OUT.pb float64`): TensorFlow is imported in a
process of its own, whose chatter goes to a log.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.paths import ROOT
from jobs.engines.process import run_program, thread_environment

PRECISIONS = ("float32", "float64")
# Where a compressed model's table begins if the model does not say: no two atoms of silica come closer.
SHORTEST_DISTANCE_ANGSTROM = 1.0


def in_precision(model: Path, out: Path, *, precision: str, directory: Path) -> None:
    """Write a frozen TensorFlow model with its networks computed in `precision`; `directory` is scratch.

    The copy also says the shortest distance of its training data, without which it cannot be compressed.

    Raises:
        SuiteError: unknown precision.
        EngineError: the model cannot be taken apart.
    """
    if precision not in PRECISIONS:
        raise SuiteError(f"precision: found {precision!r}, expected {' or '.join(PRECISIONS)}")
    temporary = directory / "precision.tmp.pb"
    run_program(
        [sys.executable, "-m", __name__, str(model.resolve()), str(temporary.resolve()), precision],
        directory=ROOT,
        log=directory / "precision.log",
        environment=thread_environment(1),
    )
    os.replace(temporary, out)


def _with_precision(part: Any, precision: str) -> Any:
    """A serialised model whose every `precision` is another one."""
    if isinstance(part, dict):
        return {
            key: precision if key == "precision" else _with_precision(value, precision)
            for key, value in part.items()
        }
    return [_with_precision(value, precision) for value in part] if isinstance(part, list) else part


def _convert(model: str, out: str, precision: str) -> None:
    from deepmd.tf.env import tf
    from deepmd.tf.utils.serialization import deserialize_to_file, serialize_from_file

    script = json.loads(_constant(_graph(tf, model), "train_attr/training_script").string_val[0])
    content = _with_precision(serialize_from_file(model), precision)
    variables = content.setdefault("@variables", {})
    variables.setdefault("min_nbor_dist", np.float64(SHORTEST_DISTANCE_ANGSTROM))
    deserialize_to_file(out, content)
    # DeePMD-kit keeps only the model's part of the script; compressing needs the rest of it too.
    graph = _graph(tf, out)
    text = json.dumps(_with_precision(script, precision))
    _constant(graph, "train_attr/training_script").string_val[0] = text.encode()
    Path(out).write_bytes(graph.SerializeToString())


def _graph(tf: Any, path: str) -> Any:
    graph = tf.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    return graph


def _constant(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if node.name == name).attr["value"].tensor


if __name__ == "__main__":
    _convert(*sys.argv[1:])
