"""A deep potential that `dp` trained and froze, as the plain text that `pair_style deepmd/native` reads.

The file is words and numbers, in this order (`deepmd_model.h` reads it):

    deepmd-native 1
    types N ELEMENT...
    atom_energy E...                    eV, for each type: what the fitting net's output is added to
    angular SMOOTH CUTOFF AXIS FACTOR   se_e2_a: A, A, axis_neuron, 1
      SEL...                            for each neighbour type
      MEAN... SD... SD'...              of the environment matrix, for each centre type: s, and its directions
      net...                            for each centre type, for each neighbour type: the embedding net
    radial_descriptors 0 or 1
    radial SMOOTH CUTOFF 0 FACTOR ...   se_e2_r, likewise
    fitting
      net...                            for each centre type
    end

A net is `net LAYERS`, then for each `layer INPUTS OUTPUTS TIMESTEPS`, weights input by input, biases, and the
factors of its output (`resnet_dt`; TIMESTEPS is their number, or 0). All layers but a fitting net's last are
tanh. An embedding layer that keeps or doubles the width adds its input; so does a fitting layer that keeps
it, but for the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jobs.base.errors import SuiteError
from jobs.base.files import write_whole
from jobs.engines.lammps.native.graph import read_constants

# What changes the formulas, with the only value that is understood: the one that `dp` takes by itself.
_ONLY: dict[str, Any] = {
    "activation_function": "tanh",
    "exclude_types": [],
    "env_protection": 0.0,
    "numb_fparam": 0,
    "numb_aparam": 0,
    "default_fparam": None,
    "dim_case_embd": 0,
    "atom_ener": [],
    "layer_name": None,
    "use_aparam_as_mask": False,
    "spin": None,
    "pair_exclude_types": [],
    "atom_exclude_types": [],
    "preset_out_bias": None,
    "bridging_method": "None",
    "use_srtab": None,
    "type_embedding": None,
    "modifier": None,
    "compress": None,
}
# What is read below or from the weights, or concerned the training only.
_DESCRIPTOR = {
    "neuron",
    "axis_neuron",
    "rcut",
    "rcut_smth",
    "sel",
    "resnet_dt",
    "type_one_side",
    "set_davg_zero",
}
_FITTING = {"neuron", "resnet_dt", "rcond"}
_MODEL = {
    "type_map",
    "descriptor",
    "fitting_net",
    "data_stat_nbatch",
    "data_stat_protect",
    "data_bias_nsample",
    "srtab_add_bias",
    "model_branch_alias",
    "info",
    "bridging_r_inner",
    "bridging_r_outer",
}
_EVERYWHERE = {"type", "seed", "precision", "trainable"}


def export_model(model: Path, out: Path) -> None:
    """Write the plain text of a frozen model.

    Raises:
        SuiteError: it is no frozen deep potential, or one that `deepmd/native` cannot evaluate.
    """
    constants = read_constants(model)
    read = _Reader(model, constants)
    training = read.training()
    given = training["model"]
    read.only(given, _MODEL, "model")
    types = given["type_map"]
    descriptor = given["descriptor"]
    parts = descriptor["list"] if descriptor["type"] == "hybrid" else [descriptor]
    kinds = [part["type"] for part in parts]
    if kinds not in (["se_e2_a"], ["se_a"], ["se_e2_a", "se_e2_r"], ["se_a", "se_r"]):
        raise read.error(
            f"the descriptor {' + '.join(kinds)}", "se_e2_a, alone or in a hybrid before se_e2_r"
        )
    fitting = given["fitting_net"]
    read.only(fitting, _FITTING, "fitting_net")
    if given.get("type", "standard") != "standard":
        raise read.error(f"model.type {given['type']}", "standard")
    if fitting.get("type", "ener") != "ener":
        raise read.error(f"the fitting net {fitting['type']}", "ener")
    lines = ["deepmd-native 1", f"types {len(types)} {' '.join(types)}"]
    lines.append(_row("atom_energy", read.atom_energies(len(types))))
    for index, part in enumerate(parts):
        read.only(part, _DESCRIPTOR, "descriptor")
        if index == 1:
            lines.append("radial_descriptors 1")
        lines += read.descriptor(part, index=index, types=len(types), hybrid=descriptor["type"] == "hybrid")
    if len(parts) == 1:
        lines.append("radial_descriptors 0")
    lines.append("fitting")
    for centre in range(len(types)):
        lines += read.fitting(fitting, centre)
    write_whole(out, "\n".join([*lines, "end", ""]))


class _Reader:
    """The constants of one model, by the names that DeePMD-kit gives them."""

    def __init__(self, path: Path, constants: Mapping[str, Any]):
        self.path = path
        self.constants = constants

    def error(self, found: str, expected: str) -> SuiteError:
        return SuiteError(f"{self.path}: found {found}, expected {expected} (pair style deepmd/native)")

    def array(self, name: str) -> np.ndarray:
        value = self.constants.get(name)
        if not isinstance(value, np.ndarray):
            raise self.error(f"no {name}", "a deep potential as dp freezes it")
        return value.astype(float)

    def training(self) -> dict[str, Any]:
        kind, script = self.constants.get("model_type"), self.constants.get("train_attr/training_script")
        if not isinstance(script, bytes) or not script:
            raise self.error("no training script", "a deep potential as dp freezes it")
        if kind != b"original_model":
            raise self.error(f"model type {kind!r}", "the model before compression")
        content: dict[str, Any] = json.loads(script)
        return content

    def only(self, section: Mapping[str, Any], known: set[str], where: str) -> None:
        """Refuse what would change the formulas."""
        for key, value in section.items():
            if key in known | _EVERYWHERE:
                continue
            if key not in _ONLY:
                raise self.error(f"{where}.{key}", "no key of that name")
            if value not in (_ONLY[key], None):
                raise self.error(f"{where}.{key} {value!r}", repr(_ONLY[key]))

    def atom_energies(self, types: int) -> np.ndarray:
        bias = self.array("fitting_attr/t_bias_atom_e")
        for name, neutral in (("t_out_bias", 0.0), ("t_out_std", 1.0)):
            value = self.constants.get(f"model_attr/model_attr/{name}")
            if isinstance(value, np.ndarray) and not (value == neutral).all():
                raise self.error(f"{name} {value.ravel().tolist()}", str(neutral))
        if bias.shape != (types,):
            raise self.error(f"{bias.size} atomic energies", str(types))
        return bias

    def descriptor(self, given: Mapping[str, Any], *, index: int, types: int, hybrid: bool) -> list[str]:
        if given.get("resnet_dt", False):
            raise self.error("descriptor.resnet_dt True", "False")
        angular = index == 0
        suffix = f"_{index}" if hybrid else ""
        name = f"descrpt_attr{suffix}"
        slots = given["sel"]
        mean, sd = self.array(f"{name}/t_avg"), self.array(f"{name}/t_std")
        width = 4 if angular else 1
        mean, sd = mean.reshape(types, sum(slots), width), sd.reshape(types, sum(slots), width)
        if (mean != mean[:, :1]).any() or (sd != sd[:, :1]).any() or mean[:, :, 1:].any():
            raise self.error("statistics that differ between slots", "the same for all")
        if angular and (sd[:, :, 1:] != sd[:, :, 1:2]).any():
            raise self.error("statistics that differ between directions", "the same for all")
        one_side = given.get("type_one_side", False)
        prefix = "angular" if angular else "radial"
        factor = 1.0 if angular else self._radial_factor(suffix, one_side)
        axis = given["axis_neuron"] if angular else 0
        lines = [f"{prefix} {given.get('rcut_smth', 0.5)} {given['rcut']} {axis} {factor!r}"]
        lines.append(_row("", slots))
        lines += [_row("", mean[:, 0, 0]), _row("", sd[:, 0, 0]), _row("", sd[:, 0, min(1, width - 1)])]
        for centre in range(types):
            for other in range(types):
                scope = f"filter_type_{'all' if one_side else centre}{suffix}"
                lines += self.net(
                    [
                        (f"{scope}/matrix_{layer}_{other}", f"{scope}/bias_{layer}_{other}", None)
                        for layer in range(1, len(given["neuron"]) + 1)
                    ]
                )
        return lines

    def _radial_factor(self, suffix: str, one_side: bool) -> float:
        """se_e2_r multiplies its mean over slots by a number that stands in the graph."""
        scope = f"filter_type_{'all' if one_side else 0}{suffix}"
        value = self.array(f"{scope}/mul/y")
        return float(value)

    def fitting(self, given: Mapping[str, Any], centre: int) -> list[str]:
        widths = given["neuron"]
        names = []
        for layer in range(len(widths)):
            scope = f"layer_{layer}_type_{centre}"
            timed = given.get("resnet_dt", True) and layer > 0 and widths[layer] == widths[layer - 1]
            names.append((f"{scope}/matrix", f"{scope}/bias", f"{scope}/idt" if timed else None))
        names.append((f"final_layer_type_{centre}/matrix", f"final_layer_type_{centre}/bias", None))
        return self.net(names)

    def net(self, names: Sequence[tuple[str, str, str | None]]) -> list[str]:
        lines = [f"net {len(names)}"]
        inputs = None
        for matrix, bias, timestep in names:
            weights, offset = self.array(matrix), self.array(bias).ravel()
            steps = self.array(timestep).ravel() if timestep else np.empty(0)
            if weights.ndim != 2 or len(offset) != weights.shape[1] or inputs not in (None, weights.shape[0]):
                raise self.error(f"{matrix} of shape {weights.shape}", "layers that fit each other")
            inputs = weights.shape[1]
            lines.append(f"layer {weights.shape[0]} {inputs} {len(steps)}")
            lines += [_row("", row) for row in weights]
            lines += [_row("", offset), _row("", steps)]
        return lines


def _row(word: str, values: Sequence[float] | np.ndarray) -> str:
    return " ".join([word, *(repr(value) for value in np.asarray(values).tolist())]).strip()
