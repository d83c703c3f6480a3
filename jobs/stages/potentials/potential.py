"""A given potential: copied in, tried in LAMMPS, described for the stages that use it."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from jobs.base.errors import EngineError, SuiteError
from jobs.base.silica import SPECIES, Configuration, cristobalite, write_data
from jobs.base.units import BOHR_ANGSTROM
from jobs.engines.deepmd.program import COMPRESSION_FORCE_LIMIT_EV_A, compress
from jobs.engines.hdnnp.evaluation import Evaluator
from jobs.engines.hdnnp.n2p2_files import FOLDER, potential_files, read_network
from jobs.engines.lammps.potential import (
    Potential,
    box_commands,
    interaction_commands,
    read_potential,
    write_potential,
)
from jobs.engines.lammps.program import evaluate, evaluate_all, own_lammps, run_lammps
from jobs.engines.lammps.snippets import files_of, read_snippet
from jobs.reference.potentials import potential_sha256
from jobs.stages.potentials.first_look import first_look
from jobs.stages.potentials.train_hdnnp import COMMANDS
from jobs.store.machine_settings import SKIN_ANGSTROM
from jobs.store.workspace import NOTE, Workspace

CODE_VERSION = 1

# The crystal it is tried on: 192 atoms, wide enough for cut-offs to 14 A, hot enough to leave symmetry.
TRIAL_REPEATS = 2
TRIAL_DISPLACEMENT_ANGSTROM = 0.1
TRIAL_STEPS = 10
# How far MD's arithmetic may move an n2p2 potential's forces there; the suite's own move by 1e-6.
N2P2_FORCE_LIMIT_EV_A = 1e-3


def run(workspace: Workspace) -> None:
    """Take a DeePMD model (`.pb`), a folder of n2p2's files or LAMMPS commands and write `potential.json`.

    A snippet holds pair_style, pair_coeff, pair_modify and kspace lines for types 1 = Si and 2 = O in metal
    units; files that it names are looked for beside it and copied in, with their parts. `# charges q1 q2`
    sets charges.

    Raises:
        SuiteError: the file is missing, is not the one that was asked for (sha256), or holds other commands.
        EngineError: LAMMPS refuses it (its own ERROR line), or its forces on a silica crystal are not finite,
            or, of n2p2's files, not those that they say.
    """
    given = workspace.parameters
    source = Path(given["file"])
    digest = potential_sha256(source)
    if digest != given["sha256"]:
        raise SuiteError(f"{source}: found sha256 {digest}, expected {given['sha256']}")
    if source.is_dir():
        _take_n2p2(workspace, source)
    elif source.suffix == ".pb":
        _take_model(workspace, source)
    else:
        _take_snippet(workspace, source)


def _take_model(workspace: Workspace, source: Path) -> None:
    """A DeePMD model: kept as it is and compressed where that works and leaves the forces alone."""
    directory, scratch = workspace.directory, workspace.checkpoints
    shutil.copyfile(source, directory / "model.pb")
    _describe_deepmd(workspace, "model.pb", cutoff_angstrom=0.0)
    cutoff = prove(read_potential(directory), scratch)
    _describe_deepmd(workspace, "model.pb", cutoff_angstrom=cutoff)
    _look(workspace)
    if b"TabulateFusion" in source.read_bytes():
        workspace.record(compressed="as given")
        return
    try:
        compress(directory / "model.pb", directory / "compressed.pb", directory=scratch)
    except EngineError as error:
        # Not every DeePMD descriptor has a tabulated form; the full model is right, only slower.
        (directory / "compressed.pb").unlink(missing_ok=True)
        workspace.record(compressed=f"no: {error}")
        return
    crystal = _trial_crystal(workspace.seed)
    as_trained = read_potential(directory)
    _describe_deepmd(workspace, "compressed.pb", cutoff_angstrom=cutoff)
    cases = [(crystal, one) for one in (as_trained, read_potential(directory))]
    full, quick = (one.forces for one in evaluate_all(cases, directory=scratch))
    rms = float(np.sqrt(np.mean((full - quick) ** 2)))
    if not rms <= COMPRESSION_FORCE_LIMIT_EV_A:
        (directory / "compressed.pb").unlink()
        _describe_deepmd(workspace, "model.pb", cutoff_angstrom=cutoff)
        workspace.record(compressed=f"no: its forces would be {rms:.2e} eV/A rms off")
        return
    workspace.record(compressed="here", compressed_vs_full_force_rms_eV_A=rms)


def _describe_deepmd(workspace: Workspace, model: str, *, cutoff_angstrom: float) -> None:
    write_potential(
        workspace.directory,
        name=workspace.parameters["name"],
        family="deepmd",
        commands=(f"pair_style deepmd {{directory}}/{model}", "pair_coeff * * Si O"),
        charges=None,
        cutoff_angstrom=cutoff_angstrom,
        training=None,
    )


def _take_n2p2(workspace: Workspace, source: Path) -> None:
    """A folder of n2p2's files, in bohr and hartree: copied, once all of it was understood."""
    network = read_network(source)
    (workspace.directory / FOLDER).mkdir(exist_ok=True)
    for file in potential_files(source):
        shutil.copyfile(file, workspace.directory / FOLDER / file.name)
    write_potential(
        workspace.directory,
        name=workspace.parameters["name"],
        family="hdnnp",
        commands=COMMANDS,
        charges=None,
        cutoff_angstrom=network.cutoff * BOHR_ANGSTROM,
        training=None,
    )
    taken, scratch = read_potential(workspace.directory), workspace.checkpoints
    prove(taken, scratch)
    crystal = _trial_crystal(workspace.seed)
    found = evaluate(crystal, taken, directory=scratch).forces
    symbols = [SPECIES[index] for index in crystal.types]
    expected = Evaluator(network)(crystal.positions, crystal.cell, symbols).forces_eV_A
    rms = float(np.sqrt(np.mean((found - expected) ** 2)))
    if not rms <= N2P2_FORCE_LIMIT_EV_A:
        raise EngineError(
            f"{source}: found forces {rms:.1e} eV/A rms off when LAMMPS computes them in float32, "
            f"expected at most {N2P2_FORCE_LIMIT_EV_A:.0e}"
        )
    workspace.record(float32_force_rms_eV_A=rms)
    _look(workspace)


def _take_snippet(workspace: Workspace, source: Path) -> None:
    """A file of LAMMPS commands."""
    snippet = read_snippet(source)
    commands = [
        " ".join(_copied(word, source.parent, into=workspace.directory) for word in words)
        for words in snippet.commands
    ]

    def describe(cutoff_angstrom: float) -> None:
        write_potential(
            workspace.directory,
            name=workspace.parameters["name"],
            family=workspace.parameters["family"],
            commands=commands,
            charges=snippet.charges,
            cutoff_angstrom=cutoff_angstrom,
            training=None,
        )

    describe(0.0)
    describe(prove(read_potential(workspace.directory), workspace.checkpoints))
    _look(workspace)
    workspace.record(lammps=own_lammps(workspace.checkpoints))


def _look(workspace: Workspace) -> None:
    """Say in one line what the potential computes first, and keep it."""
    found = first_look(read_potential(workspace.directory), directory=workspace.checkpoints)
    print(f"{NOTE}{found.line(workspace.parameters['name'])}", flush=True)
    workspace.record(first_look=asdict(found))


def _copied(word: str, beside: Path, *, into: Path) -> str:
    """A word of a command; if it names a file, the file is copied with its parts; the word names the copy."""
    files = files_of(word, beside)
    for file in files:
        shutil.copyfile(file, into / file.name)
    return f"{{directory}}/{files[0].name}" if files else word


def _trial_crystal(seed: int) -> Configuration:
    return cristobalite(TRIAL_REPEATS, displacement_angstrom=TRIAL_DISPLACEMENT_ANGSTROM, seed=seed)


def prove(potential: Potential, directory: Path) -> float:
    """Ten steps of NVE on a warm silica crystal; the largest cut-off (A) that LAMMPS works with.

    Raises:
        EngineError: LAMMPS refuses the potential, or something turns non-finite or flies apart.
    """
    write_data(directory / "trial.data", _trial_crystal(seed=1))
    script = f"""{box_commands(potential)}
boundary p p p
read_data trial.data
{interaction_commands(potential)}
velocity all create 300 1 mom yes dist gaussian
timestep 0.0005
fix integrate all nve
thermo {TRIAL_STEPS}
run {TRIAL_STEPS}
"""
    log = run_lammps(script, directory=directory, name="trial", own=potential.own)
    if log.neighbour_cutoff_angstrom is None:
        raise EngineError(f"lmp: found no neighbour list, expected a pair potential (log: {log.path})")
    return log.neighbour_cutoff_angstrom - SKIN_ANGSTROM
