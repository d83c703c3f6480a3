"""n2p2's files of one potential: `input.nn`, `scaling.data` and `weights.<atomic number>.data`.

Read are those keywords of `input.nn` that change energies; what stands for something else than
`jobs.engines.hdnnp.network` can do is refused. Keywords of training and of output are passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.files import write_whole
from jobs.engines.hdnnp.network import (
    ATOMIC_NUMBERS,
    SCALINGS,
    Angular,
    Array,
    ElementNetwork,
    Function,
    Network,
    Radial,
    in_order,
)

FOLDER = "n2p2"  # of the files in a potential's product
INPUT_FILE, SCALING_FILE = "input.nn", "scaling.data"
LETTERS = {"tanh": "t", "softplus": "p"}
# Keywords that change energies in a way that is not written here.
_CANNOT = (
    "normalize_nodes",
    "mean_energy",
    "conv_energy",
    "conv_length",
    "element_nodes_short",
    "element_activation_short",
    "element_symfunction_short",
    "global_symfunction_short",
)
_TYPES = ("2G", "2G-HDNNP")  # without long-range charges, n2p2's default
_FIXED = {"cutoff_alpha": 0.0, "scale_min_short": 0.0, "scale_max_short": 1.0}


def weights_file(symbol: str) -> str:
    """Name of an element's weights."""
    return f"weights.{ATOMIC_NUMBERS[symbol]:03d}.data"


def is_n2p2_folder(path: Path) -> bool:
    """Whether a folder holds an `input.nn`."""
    return (path / INPUT_FILE).is_file()


def potential_files(folder: Path) -> list[Path]:
    """The files of a potential that n2p2 reads, in a fixed order, of those that are there."""
    names = [INPUT_FILE, SCALING_FILE, *map(weights_file, ATOMIC_NUMBERS)]
    return [folder / name for name in names if (folder / name).is_file()]


# -- reading ----------------------------------------------------------------------------------------


def read_network(folder: Path) -> Network:
    """The potential in a folder.

    Raises:
        SuiteError: a file is missing or damaged, elements other than O and Si or in another order, functions
            or settings that this project cannot do, or weights that do not fit.
    """
    path = folder / INPUT_FILE
    lines = list(_keywords(path))
    settings = {words[0]: words[1:] for _, words in lines}
    for number, words in lines:
        if words[0] in _CANNOT or (words[0] == "nnp_type" and words[1:] not in ([name] for name in _TYPES)):
            raise SuiteError(f"{path}:{number}: found {words[0]}, expected a potential without it")
        if (fixed := _FIXED.get(words[0])) is not None and _number(path, number, words, 1) != fixed:
            raise SuiteError(f"{path}:{number}: found {' '.join(words)}, expected {words[0]} {fixed:g}")
    symbols = _elements(path, settings)
    if (kind := settings.get("cutoff_type", ["1"])[:1]) != ["1"]:
        raise SuiteError(f"{path}: found cutoff_type {''.join(kind)}, expected 1 (cosine)")
    functions: dict[str, list[Function]] = {symbol: [] for symbol in symbols}
    atom_energies = dict.fromkeys(symbols, 0.0)
    for number, words in lines:
        if words[0] == "symfunction_short":
            centre, function = _function(path, number, words, symbols)
            functions[centre].append(function)
        elif words[0] == "atom_energy":
            atom_energies[_symbol(path, number, words, 1, symbols)] = _number(path, number, words, 2)
    for symbol in symbols:
        if not functions[symbol]:
            raise SuiteError(f"{path}: found no symfunction_short of {symbol}, expected at least one")
    nodes, activation = _layers(path, settings)
    scaling = _scaling(path, settings)
    ordered = {symbol: in_order(functions[symbol]) for symbol in symbols}
    table = _read_scaling(folder / SCALING_FILE, {symbol: len(ordered[symbol]) for symbol in symbols})
    elements = {}
    for symbol in symbols:
        weights, biases = _read_weights(folder / weights_file(symbol), [len(ordered[symbol]), *nodes, 1])
        minimum, maximum, mean, sigma = table[symbol].T
        elements[symbol] = ElementNetwork(
            ordered[symbol], minimum, maximum, mean, sigma, weights, biases, activation, scaling
        )
    return Network(elements, atom_energies)


def _keywords(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that says something."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: found {type(error).__name__}, expected a file of n2p2") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if words := line.split("#")[0].split():
            yield number, words


def _elements(path: Path, settings: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """O and Si: the order of atomic numbers is that of scaling.data, whatever is written here."""
    found = settings.get("elements", [])
    expected = sorted(ATOMIC_NUMBERS, key=lambda symbol: ATOMIC_NUMBERS[symbol])
    if list(found) != expected:
        raise SuiteError(
            f"{path}: found elements {' '.join(found) or '(none)'}, expected {' '.join(expected)}, "
            "in the order of atomic numbers"
        )
    return tuple(expected)


def _layers(path: Path, settings: Mapping[str, Sequence[str]]) -> tuple[list[int], str]:
    """Nodes of the hidden layers and their activation."""
    words = settings.get("global_nodes_short", [])
    hidden = settings.get("global_hidden_layers_short", [])
    if not words or not all(word.isdigit() and int(word) for word in words) or hidden != [str(len(words))]:
        raise SuiteError(
            f"{path}: found global_hidden_layers_short {' '.join(hidden)} and global_nodes_short "
            f"{' '.join(words)}, expected the number of hidden layers and the nodes of each"
        )
    letters = list(settings.get("global_activation_short", []))
    for activation, letter in LETTERS.items():
        if letters == [letter] * len(words) + ["l"]:
            return [int(word) for word in words], activation
    raise SuiteError(
        f"{path}: found global_activation_short {' '.join(letters)}, expected {'t ' * len(words)}l "
        "(tanh; or p, softplus, in place of every t)"
    )


def _scaling(path: Path, settings: Mapping[str, Any]) -> str:
    known = frozenset[str]().union(*SCALINGS.values())
    found = known & settings.keys()
    for scaling, keywords in SCALINGS.items():
        if found == keywords:
            return scaling
    raise SuiteError(f"{path}: found {' and '.join(sorted(found))}, expected one way of scaling")


def _number(path: Path, number: int, words: Sequence[str], index: int) -> float:
    try:
        value = float(words[index])
    except (IndexError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        found = " ".join(words)
        raise SuiteError(f"{path}:{number}: found {found!r}, expected a number as word {index + 1}")
    return value


def _symbol(path: Path, number: int, words: Sequence[str], index: int, symbols: Sequence[str]) -> str:
    found = words[index] if len(words) > index else ""
    if found not in symbols:
        raise SuiteError(
            f"{path}:{number}: found {' '.join(words)!r}, expected {' or '.join(symbols)} as word {index + 1}"
        )
    return found


def _function(
    path: Path, number: int, words: Sequence[str], symbols: Sequence[str]
) -> tuple[str, Radial | Angular]:
    """Element at the centre and the function of one `symfunction_short` line."""

    def value(index: int) -> float:
        return _number(path, number, words, index)

    centre = _symbol(path, number, words, 1, symbols)
    kind = words[2] if len(words) > 2 else ""
    if kind == "2" and len(words) == 7:
        return centre, Radial(_symbol(path, number, words, 3, symbols), value(4), value(5), value(6))
    if kind == "3" and len(words) in (9, 10):
        pair = sorted((_symbol(path, number, words, index, symbols) for index in (3, 4)), key=symbols.index)
        sign, zeta, shift = value(6), value(7), value(9) if len(words) == 10 else 0.0
        if abs(sign) != 1 or zeta != round(zeta) or not 1 <= zeta <= 16 or shift != 0:
            raise SuiteError(
                f"{path}:{number}: found lambda {sign:g}, zeta {zeta:g}, rs {shift:g}, expected lambda 1 or "
                "-1, a whole zeta from 1 to 16 and rs 0"
            )
        return centre, Angular((pair[0], pair[1]), value(5), int(sign), int(zeta), value(8))
    raise SuiteError(
        f"{path}:{number}: found {' '.join(words)!r}, expected a function of type 2 (element, eta, rs, rc) "
        "or 3 (two elements, eta, lambda, zeta, rc)"
    )


def _read_scaling(path: Path, functions: Mapping[str, int]) -> dict[str, Array]:
    """Minimum, maximum, mean and sigma of each function (n, 4), by element."""
    rows: dict[str, list[list[float]]] = {symbol: [] for symbol in functions}
    expected = [(n + 1, k + 1) for n, symbol in enumerate(functions) for k in range(functions[symbol])]
    wanted = iter(expected)
    for number, words in _keywords(path):
        if len(words) < 5:
            continue  # the energies' and forces' own statistics, behind the functions
        found = (_number(path, number, words, 0), _number(path, number, words, 1))
        if found != (next_one := next(wanted, None)):
            raise SuiteError(
                f"{path}:{number}: found element and function {found[0]:g} {found[1]:g}, expected "
                f"{'no more' if next_one is None else f'{next_one[0]} {next_one[1]}'}: "
                f"1 is {' and 2 is '.join(functions)}, with "
                f"{' and '.join(map(str, functions.values()))} functions in input.nn"
            )
        row = [_number(path, number, words, index) for index in range(2, 6)]
        rows[list(functions)[int(found[0]) - 1]].append(row)
    if (missing := next(wanted, None)) is not None:
        raise SuiteError(f"{path}: found no line of element and function {missing[0]} {missing[1]}")
    return {symbol: np.array(found) for symbol, found in rows.items()}


def _read_weights(path: Path, nodes: Sequence[int]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    values = [_number(path, number, words, 0) for number, words in _keywords(path)]
    expected = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(nodes))
    if len(values) != expected:
        raise SuiteError(
            f"{path}: found {len(values)} weights, expected {expected} for a network of "
            f"{'-'.join(map(str, nodes))}"
        )
    return unflatten(np.array(values), nodes)


def unflatten(values: Array, nodes: Sequence[int]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Weights (inputs, outputs) and biases of each layer from one vector in n2p2's order.

    That order: layer by layer, the weights input by input, then the biases.
    """
    weights, biases, start = [], [], 0
    for inputs, outputs in itertools.pairwise(nodes):
        weights.append(values[start : start + inputs * outputs].reshape(inputs, outputs))
        start += inputs * outputs
        biases.append(values[start : start + outputs])
        start += outputs
    return tuple(weights), tuple(biases)


def flatten(weights: Sequence[Array], biases: Sequence[Array]) -> Array:
    """The inverse of `unflatten`."""
    parts = [part.ravel() for pair in zip(weights, biases, strict=True) for part in pair]
    return np.concatenate(parts)


# -- writing ----------------------------------------------------------------------------------------


def write_network(network: Network, folder: Path, *, comment: str) -> None:
    """Write all files of a potential; `comment` (one line) heads `input.nn`."""
    for symbol, one in network.elements.items():
        write_whole(folder / weights_file(symbol), _weights_text(one))
    write_whole(folder / SCALING_FILE, _scaling_text(network))
    write_whole(folder / INPUT_FILE, _input_text(network, comment))


def _input_text(network: Network, comment: str) -> str:
    first = next(iter(network.elements.values()))
    hidden = [len(bias) for bias in first.biases[:-1]]
    lines = [
        f"# {comment}",
        "# Lengths are bohr, energies hartree (LAMMPS: cflength 1.8897261246 cfenergy 0.0367493222).",
        f"number_of_elements {len(network.symbols)}",
        f"elements {' '.join(network.symbols)}",
        # CP2K adds the atoms' energies only where remove_atom_energies stands.
        "remove_atom_energies",
        *(f"atom_energy {symbol} {energy:.12g}" for symbol, energy in network.atom_energies.items()),
        "cutoff_type 1",
        *sorted(SCALINGS[first.scaling]),
        "scale_min_short 0.0",
        "scale_max_short 1.0",
        f"global_hidden_layers_short {len(hidden)}",
        f"global_nodes_short {' '.join(map(str, hidden))}",
        f"global_activation_short {' '.join([LETTERS[first.activation]] * len(hidden))} l",
    ]
    for symbol, one in network.elements.items():
        for f in one.functions:
            if isinstance(f, Radial):
                words = f"2 {f.neighbour} {f.eta:.15g} {f.shift:.15g} {f.cutoff:.15g}"
            else:
                words = f"3 {' '.join(f.neighbours)} {f.eta:.15g} {f.sign} {f.zeta} {f.cutoff:.15g}"
            lines.append(f"symfunction_short {symbol} {words}")
    return "\n".join(lines) + "\n"


def _scaling_text(network: Network) -> str:
    lines = ["# Scaling of the symmetry functions.", "# element function minimum maximum mean sigma"]
    for n, one in enumerate(network.elements.values(), start=1):
        columns = np.stack([one.minimum, one.maximum, one.mean, one.sigma], axis=1)
        for k, row in enumerate(columns, start=1):
            lines.append(f"{n:10d} {k:10d} " + " ".join(f"{value:24.16E}" for value in row))
    return "\n".join(lines) + "\n"


def _weights_text(one: ElementNetwork) -> str:
    lines = ["# Weights (a) and biases (b).", "# value kind number from-layer from-node to-layer to-node"]
    number = 0
    write: Callable[..., str] = "{:24.16E} {} {:9d} {}".format
    for layer, (weight, bias) in enumerate(zip(one.weights, one.biases, strict=True), start=1):
        for (i, o), value in np.ndenumerate(weight):
            number += 1
            lines.append(write(value, "a", number, f"{layer - 1:5d} {i + 1:5d} {layer:5d} {o + 1:5d}"))
        for o, value in enumerate(bias):
            number += 1
            lines.append(write(value, "b", number, f"{layer:5d} {o + 1:5d}"))
    return "\n".join(lines) + "\n"
