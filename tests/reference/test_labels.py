"""Which energy and forces of a frame are labels, and which frames fit into a set."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.frames import converged_keys, read_extxyz, unconverged_key
from jobs.reference.formats.extxyz.labels import Choice
from jobs.reference.formats.sources import open_sources
from jobs.reference.sets import read_run, read_set
from tests.reference.test_import import FRAMES, atoms_of, said, vasp_run

LEVEL = ("--engine", "VASP", "--engine-version", "6", "--functional", "PBE", "--basis", "PAW")


def frame_text(
    run_index: int = 0,
    *,
    energies: dict[str, float],
    forces: dict[str, float],
    comment: str = "",
    atoms: int | None = None,
) -> str:
    """One frame; `energies` and `forces` map a name to what is added to the right label."""
    run = vasp_run()
    n = len(run.species) if atoms is None else atoms
    cell = " ".join(f"{v:.8f}" for v in run.cells[run_index].ravel())
    properties = "species:S:1:pos:R:3" + "".join(f":{name}:R:3" for name in forces)
    values = " ".join(f"{name}={run.energies[run_index] + off:.8f}" for name, off in energies.items())
    text = f'{n}\nLattice="{cell}" Properties={properties} {values} {comment}\n'
    for i in range(n):
        columns = [run.positions[run_index, i], *(run.forces[run_index, i] + off for off in forces.values())]
        text += run.species[i] + " " + " ".join(f"{v:.8f}" for row in columns for v in row) + "\n"
    return text


def write(path: Path, *frames: str) -> Path:
    path.write_text("".join(frames))
    return path


def labels(path: Path, choice: Choice = Choice()):  # noqa: B008 - frozen
    (source,) = open_sources([path], choice)
    batches = list(source.batches)
    return (
        np.concatenate([batch.energies_eV for batch in batches]),
        np.concatenate([batch.forces for batch in batches]),
        source,
    )


class TestNames:
    @pytest.mark.parametrize(
        ("energy", "forces"),
        [
            ("energy", "forces"),
            ("free_energy", "force"),
            ("REF_energy", "REF_forces"),
            ("ref_energy", "Ref_Forces"),
            ("dft_energy", "dft_forces"),
            ("DFT_free_energy", "DFT_force"),
            ("energy_ref", "forces_ref"),
            ("total_energy", "forces"),
            ("ENERGY", "FORCES"),
        ],
    )
    def test_known_ones_in_any_case(self, tmp_path, energy, forces):
        path = write(tmp_path / "a.xyz", frame_text(energies={energy: 0.0}, forces={forces: 0.0}))
        found, force, _ = labels(path)
        run = vasp_run()
        np.testing.assert_allclose(found, run.energies[:1], atol=1e-8)
        np.testing.assert_allclose(force, run.forces[:1], atol=1e-8)

    def test_keys_in_small_letters(self, tmp_path):
        text = frame_text(energies={"energy": 0.0}, forces={"forces": 0.0})
        text = text.replace("Lattice=", "lattice=").replace("Properties=", "properties=")
        assert len(labels(write(tmp_path / "a.xyz", text))[0]) == 1

    def test_numbers_about_an_energy_are_none(self, tmp_path):
        energies = {name: 7.0 for name in ("kinetic_energy", "energy_per_atom", "config_energy_weight")}
        energies |= {"dispersion_energy": 3.0, "energy_sigma": 1.0, "energy": 0.0}
        path = write(tmp_path / "a.xyz", frame_text(energies=energies, forces={"forces": 0.0}))
        np.testing.assert_allclose(labels(path)[0], vasp_run().energies[:1], atol=1e-8)

    @pytest.mark.parametrize(
        ("energies", "forces", "message"),
        [
            ({"energy": 5.0, "REF_energy": 0.0}, {"REF_forces": 0.0}, "energy labels energy, ref_energy"),
            ({"REF_energy": 0.0}, {"forces": 0.3, "REF_forces": 0.0}, "force labels forces, ref_forces"),
            ({"MACE_energy": 5.0, "dft_energy": 0.0}, {"dft_forces": 0.0}, "mace_energy, dft_energy"),
            ({"MACE_energy": 5.0}, {"MACE_forces": 0.3}, "energy labels mace_energy, expected one of a"),
            ({"REF_energy": 0.0}, {"forces": 0.3}, "found ref_energy with forces, expected both of one name"),
            ({"energy": 0.0}, {"dft_forces": 0.3}, "found energy with dft_forces, expected both of one name"),
            ({"energy": 5.0, "REF_E": 0.0}, {"forces": 0.3, "REF_F": 0.0}, "energy labels energy, ref_e,"),
            ({"energy": 0.0}, {"forces": 0.3, "dft_f": 0.0}, "force labels forces, dft_f,"),
            ({"energy": 0.0, "dft_e": 1.0}, {"forces": 0.3}, "energy labels energy, dft_e,"),
            ({"energy": 0.0, "energy_target": 1.0}, {"forces": 0.3}, "labels energy, energy_target,"),
            ({"energy": 0.0}, {"forces": 0.3, "target_forces": 0.0}, "labels forces, target_forces,"),
            ({"energy": 0.0, "TotEn": 1.0, "E0": 2.0}, {"forces": 0.3}, "energy labels energy, toten, e0,"),
            ({"energy": 0.0, "toten": 1.0}, {"forces": 0.3}, "energy labels energy, toten,"),
            ({"energy": 0.0}, {"forces": 0.3, "frc": 0.0}, "force labels forces, frc,"),
            ({"REF_E": 0.0}, {"REF_F": 0.3}, "energy labels ref_e, expected one of a known name"),
            (
                {"energy_hartree": 0.0},
                {"forces": 0.3},
                "energy labels energy_hartree, expected one of",
            ),
        ],
    )
    def test_several_or_unknown_ones_are_refused(self, tmp_path, capsys, energies, forces, message):
        path = write(tmp_path / "a.xyz", frame_text(energies=energies, forces=forces))
        code, _, err = said(capsys, path)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
        assert "-key" in err

    def test_one_key_with_two_values(self, tmp_path):
        frame = frame_text(energies={"energy": 0.0, "Energy": 1.0}, forces={"forces": 0.0})
        with pytest.raises(SuiteError, match=r"frame 1: found Energy with .*, expected one value"):
            labels(write(tmp_path / "a.xyz", frame))

    @pytest.mark.parametrize("prefix", ["REF_", "MACE_", "ref_"])
    def test_the_choice_of_the_user(self, tmp_path, capsys, prefix):
        both = {"energies": {"MACE_energy": 5.0, "REF_energy": 0.0}}
        frames = frame_text(**both, forces={"MACE_forces": 0.3, "REF_forces": 0.0})
        path = write(tmp_path / "a.xyz", frames)
        off = (5.0, 0.3) if prefix == "MACE_" else (0.0, 0.0)
        energies, forces, _ = labels(path, Choice(f"{prefix}energy", f"{prefix}forces"))
        np.testing.assert_allclose(energies, vasp_run().energies[:1] + off[0], atol=1e-8)
        np.testing.assert_allclose(forces, vasp_run().forces[:1] + off[1], atol=1e-8)
        keys = ("--energy-key", f"{prefix}energy", "--force-key", f"{prefix}forces")
        code, out, _ = said(capsys, path, *keys)
        assert code == 0
        assert "1 taken; refused: none" in out

    def test_a_choice_that_frames_lack(self, tmp_path, capsys):
        path = write(tmp_path / "a.xyz", frame_text(energies={"energy": 0.0}, forces={"forces": 0.0}))
        code, _, err = said(capsys, path, "--energy-key", "dft_energy")
        assert code == 2
        assert "expected Lattice, Properties and energy" in err
        code, _, err = said(capsys, path, "--force-key", "pos")
        assert code == 2
        assert "found pos of type R3 chosen by --force-key, expected three numbers an atom that are no" in err

    @pytest.mark.parametrize("prefix", ["REF_", "dft_"])
    def test_short_names_can_be_chosen(self, tmp_path, prefix):
        forces = {"forces": 0.3, f"{prefix}F": 0.0}
        frame = frame_text(energies={"energy": 5.0, f"{prefix}E": 0.0}, forces=forces)
        choice = Choice(f"{prefix}E", f"{prefix}F")
        energies, found, _ = labels(write(tmp_path / "a.xyz", frame), choice)
        np.testing.assert_allclose(energies, vasp_run().energies[:1], atol=1e-8)
        np.testing.assert_allclose(found, vasp_run().forces[:1], atol=1e-8)

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (Choice("step", "forces"), "found step chosen by --energy-key, expected the name of an energy"),
            (Choice("energy", "pos"), "found pos of type R3 chosen by --force-key, expected three numbers"),
            (Choice("energy", "gradient"), "found gradient of type R3 chosen by --force-key"),
            (Choice("energy", "species"), "found species of type S1 chosen by --force-key"),
            (Choice("E_hartree", "forces"), "found e_hartree in units of its own, expected eV and eV/A"),
        ],
    )
    def test_a_choice_that_is_no_label(self, tmp_path, choice, message):
        forces = {"forces": 0.0, "gradient": 0.1}
        frame = frame_text(energies={"energy": 0.0}, forces=forces, comment="step=1 E_hartree=-3.0")
        with pytest.raises(SuiteError, match=f"frame 1: {message}"):
            labels(write(tmp_path / "a.xyz", frame), choice)

    @pytest.mark.parametrize(
        ("energy", "force"), [("REF_energy", "REF_forces"), ("free_energy", "forces"), ("energy", "force")]
    )
    def test_labels_of_another_name_further_on_are_refused(self, tmp_path, energy, force):
        """They may be another quantity; nobody chose them."""
        frames = (
            frame_text(0, energies={"energy": 0.0}, forces={"forces": 0.0}),
            frame_text(1, energies={energy: 0.0}, forces={force: 0.0}),
        )
        for first, second in ((0, 1), (1, 0)):
            path = write(tmp_path / "a.xyz", frames[first], frames[second])
            with pytest.raises(SuiteError, match=r"frame 2: found labels .* expected .* as in frame 1, or"):
                labels(path)

    def test_a_choice_holds_in_every_frame(self, tmp_path):
        both = frame_text(0, energies={"energy": 5.0, "my_e": 0.0}, forces={"forces": 0.3, "my_f": 0.0})
        without = frame_text(1, energies={"energy": 0.0}, forces={"forces": 0.0})
        no_forces = frame_text(2, energies={"energy": 0.0, "my_e": 0.0}, forces={"forces": 0.0})
        path = write(tmp_path / "a.xyz", both, without, no_forces)
        energies, _, source = labels(path, Choice("my_e", "my_f"))
        np.testing.assert_allclose(energies, vasp_run().energies[:1], atol=1e-8)
        assert source.refused == Counter({"without energy": 1, "without forces": 1})

    def test_the_free_energy_is_a_set_of_its_own_only_in_name(self, tmp_path):
        """ASE writes both; the forces belong to the free one. A choice overrules it."""
        energies = {"energy": 0.01, "free_energy": 0.0}
        path = write(tmp_path / "a.xyz", frame_text(energies=energies, forces={"forces": 0.0}))
        np.testing.assert_allclose(labels(path)[0], vasp_run().energies[:1], atol=1e-8)
        chosen = labels(path, Choice(energy="energy"))[0]
        np.testing.assert_allclose(chosen, vasp_run().energies[:1] + 0.01, atol=1e-8)


class TestLevel:
    """A comment may say it; it counts as that of a program's output does."""

    def frame(self, index: int, comment: str) -> str:
        return frame_text(index, energies={"energy": 0.0}, forces={"forces": 0.0}, comment=comment)

    @pytest.mark.parametrize(
        ("comment", "line"),
        [
            ("functional=PBE", "PBE; not said"),
            ("xc=pbe encut=500", "PBE; encut 500"),
            ("XC_functional=SCAN dispersion=D3 charge=0", "SCAN + D3; not said"),
            ('functional=r2scan basis="DZVP" total_charge=1', "r2SCAN; DZVP; charge 1"),
            ("head=rpbe_head", "not said; not said; head rpbe_head"),
            ("", "not said; not said"),
        ],
    )
    def test_it_is_read(self, tmp_path, comment, line):
        path = write(tmp_path / "a.xyz", self.frame(0, comment), self.frame(1, comment))
        energies, _, source = labels(path)
        assert len(energies) == 2
        assert source.level.line() == line

    @pytest.mark.parametrize(
        ("one", "other"),
        [("functional=PBE", "functional=SCAN"), ("xc=PBE", "xc=PBE vdw=D3"), ("functional=PBE", ""),
         ("encut=500", "encut=600"), ("head=pbe", "head=scan")],
    )  # fmt: skip
    def test_unlike_ones_are_refused(self, tmp_path, one, other):
        for first, second in ((one, other), (other, one)):
            path = write(tmp_path / "a.xyz", self.frame(0, first), self.frame(1, second))
            with pytest.raises(SuiteError, match=r"frame [12]: found level .*, and .* in frame [12], exp"):
                labels(path)

    def test_two_words_in_one_frame(self, tmp_path):
        path = write(tmp_path / "a.xyz", self.frame(0, "functional=PBE xc=SCAN"))
        with pytest.raises(SuiteError, match="frame 1: found functional=PBE and xc=SCAN, expected one level"):
            labels(path)

    def test_files_of_unlike_levels_share_no_set(self, tmp_path, capsys):
        paths = [
            write(tmp_path / f"{name}.xyz", *(self.frame(k, f"functional={name}") for k in range(2)))
            for name in ("PBE", "SCAN")
        ]
        rest = ("--use", "train", "--temperature-K", "3000", "--engine", "VASP", "--engine-version", "6")
        options = ("--name", "mine", "--root", tmp_path / "imported", *rest, "--basis", "PAW")
        code, _, err = said(capsys, *paths, *options)
        assert (code, len(err.splitlines())) == (2, 1)
        assert err.startswith(
            f"error: {paths[1]}: found functional SCAN, and PBE in {paths[0]}, expected one"
        )
        code, out, _ = said(capsys, paths[1], *options)
        assert code == 0
        assert "its level of theory: VASP 6: SCAN; PAW" in out
        # An option overrules the file, and says so.
        options = ("--name", "other", *options[2:], "--functional", "PBE")
        code, out, _ = said(capsys, paths[1], *options)
        assert code == 0
        assert "note         --functional PBE overrules SCAN, which the file says" in out

    def test_an_isolated_atom_need_not_say_it(self, tmp_path):
        path = write(tmp_path / "a.xyz", isolated("Si"), self.frame(0, "xc=PBE"))
        assert labels(path)[2].functional == "PBE"


@pytest.mark.parametrize(("off", "doubted"), [(0.5, False), (500.0, True)])
def test_energies_that_are_far_apart_are_doubted(tmp_path, capsys, off, doubted):
    """As of two levels of theory, or in two units, where no word is said of them."""
    last = frame_text(2, energies={"energy": off}, forces={"forces": 0.0})
    path = write(tmp_path / "a.xyz", large(0), large(1), last)
    code, out, _ = said(capsys, path)
    assert code == 0
    assert ("energies of the same atoms are 5.2 eV/atom apart" in out) == doubted


class TestConvergence:
    @pytest.mark.parametrize(
        "said_so",
        ["converged=F", "is_converged=False", "scf_converged=0", "Converged=no", "unconverged=T",
         "not_converged=1", "electronic_converged=.FALSE.", "dft-converged=false", "converged_electronic=F",
         "scf_convergence=False", "electronic_convergence=F", "vasp_converged=False", "has_converged=False",
         "CP2K_scf_converged=F", "is_not_converged=T", "did_not_converge=True", "scf_failed=True",
         "scf_status=unconverged", "scf_conv=False", "conv=F", 'converged="not converged"'],
    )  # fmt: skip
    def test_what_says_that_it_failed(self, tmp_path, said_so):
        good = frame_text(energies={"energy": 0.0}, forces={"forces": 0.0})
        bad = frame_text(1, energies={"energy": 0.0}, forces={"forces": 0.0}, comment=said_so)
        energies, _, source = labels(write(tmp_path / "a.xyz", good, bad))
        assert len(energies) == 1
        assert source.refused == Counter({"SCF not converged": 1})
        assert source.convergence_known
        # The deposit's own files are refused for it.
        path = write(tmp_path / "own.xyz", bad.replace("energy=", "temperature_K=3000 energy="))
        with pytest.raises(SuiteError, match="expected only frames whose SCF converged"):
            list(read_extxyz(path))

    @pytest.mark.parametrize("said_so", ["converged=T", "is_converged=True", "unconverged=F", "converged=1"])
    def test_what_says_that_it_did_not_fail(self, tmp_path, said_so):
        frame = frame_text(energies={"energy": 0.0}, forces={"forces": 0.0}, comment=said_so)
        _, _, source = labels(write(tmp_path / "a.xyz", frame))
        assert (source.refused, source.unproven) == (Counter(), 0)

    def test_what_is_not_understood_is_not_known(self, tmp_path):
        frame = frame_text(energies={"energy": 0.0}, forces={"forces": 0.0}, comment="converged=maybe")
        assert labels(write(tmp_path / "a.xyz", frame))[2].unproven == 1

    def test_what_is_of_something_else(self):
        info = {
            "geometry_converged": "F",
            "ionic_converged": "F",
            "converged_ev": "0",
            "scf_convergence_threshold": "0",
            "scf_steps": "0",
            "conv_thr": "0",
        }
        assert converged_keys(info) == {}
        assert unconverged_key(info) is None


def test_frames_without_labels_are_counted(tmp_path, capsys):
    good = frame_text(energies={"energy": 0.0}, forces={"forces": 0.0})
    no_forces = frame_text(1, energies={"energy": 0.0}, forces={})
    no_energy = frame_text(2, energies={}, forces={"forces": 0.0})
    energies, _, source = labels(write(tmp_path / "a.xyz", no_forces, good, no_energy))
    assert len(energies) == 1
    assert source.refused == Counter({"without forces": 1, "without energy": 1})


# Which frames fit ---------------------------------------------------------------------------------


def isolated(symbol: str, comment: str = 'pbc="F F F"', forces: bool = False) -> str:
    columns = ":forces:R:3" if forces else ""
    zeros = " 0.0 0.0 0.0" if forces else ""
    return (
        f'1\nLattice="15 0 0 0 15 0 0 0 15" Properties=species:S:1:pos:R:3{columns} energy=-0.8 '
        f"config_type=IsolatedAtom {comment}\n{symbol} 7.5 7.5 7.5{zeros}\n"
    )


def small(index: int) -> str:
    return frame_text(index, energies={"energy": 0.0}, forces={"forces": 0.0}, atoms=24)


def large(index: int) -> str:
    return frame_text(index, energies={"energy": 0.0}, forces={"forces": 0.0})


BASE = ("--use", "train", "--temperature-K", "3000", *LEVEL)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (isolated("Si"), "refused: 1 not periodic"),
        (isolated("O", 'pbc="T T T"'), "refused: 1 without forces"),
        (isolated("O", 'pbc="T T T"', forces=True), "left out: 1 isolated atoms"),
        (isolated("Ge", "", forces=True), "left out: 1 isolated atoms"),
    ],
)
def test_an_isolated_atom_is_left_out_wherever_it_stands(tmp_path, capsys, first, reason):
    for frames in ((first, large(0), large(1)), (large(0), first, large(1))):
        path = write(tmp_path / "a.xyz", *frames)
        root = tmp_path / f"root-{frames.index(first)}"
        code, out, _ = said(capsys, path, "--name", "mine", "--root", root, *BASE)
        assert code == 0
        assert reason in out
        assert "deposited 2 frames of 96 atoms" in out


def test_an_atom_that_rests_at_the_origin_is_no_mistake(tmp_path):
    """Its force is its position."""
    frame = isolated("Si", "", forces=True).replace("7.5 7.5 7.5", "0.0 0.0 0.0")
    energies, forces, _ = labels(write(tmp_path / "a.xyz", frame))
    assert (len(energies), forces.any()) == (1, False)


def test_other_sizes_are_counted_and_left_out(tmp_path, capsys):
    path = write(tmp_path / "a.xyz", large(0), small(1), large(2), small(3), large(4))
    root = tmp_path / "imported"
    code, out, _ = said(capsys, path, "--name", "mine", "--root", root, *BASE)
    assert code == 0
    assert "deposited 3 frames of 96 atoms" in out
    assert "left out: 2 of 24 Si" in out
    run = vasp_run()
    made = read_set("mine", root=root)
    kept = read_run(made, made.runs[0].id).energies_eV
    np.testing.assert_allclose(kept, run.energies[[0, 2, 4]], atol=1e-7)


def test_a_size_can_be_chosen_and_a_set_keeps_its_own(tmp_path, capsys):
    path = write(tmp_path / "a.xyz", large(0), small(1), isolated("O", "", forces=True), small(3))
    root = tmp_path / "imported"
    code, out, _ = said(capsys, path, "--name", "mine", "--atoms", "24", "--root", root, *BASE)
    assert code == 0
    assert "deposited 2 frames of 24 atoms" in out
    assert "left out: 1 of 32 Si 64 O, 1 isolated atoms" in out
    more = write(tmp_path / "b.xyz", large(2), small(4))
    code, out, _ = said(capsys, more, "--name", "mine", "--append", "--root", root, *BASE)
    assert code == 0
    assert read_set("mine", root=root).frames == 3
    code, _, err = said(capsys, path, "--name", "none", "--atoms", "7", "--root", root, *BASE)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "found no frame" in err


def test_what_ase_writes_is_read_to_its_last_digit(tmp_path):
    """Two sets of labels as `ase.io` writes arrays and info beside a calculator's."""
    frames = atoms_of(vasp_run())
    for k, atoms in enumerate(frames):
        atoms.info["REF_energy"] = float(vasp_run().energies[k])
        atoms.set_array("REF_forces", vasp_run().forces[k])
    ase.io.write(tmp_path / "a.xyz", frames)
    with pytest.raises(SuiteError, match="found energy labels"):
        labels(tmp_path / "a.xyz")
    energies, forces, _ = labels(tmp_path / "a.xyz", Choice("REF_energy", "REF_forces"))
    theirs = ase.io.read(tmp_path / "a.xyz", index=":")
    assert len(energies) == FRAMES
    np.testing.assert_array_equal(energies, [atoms.info["REF_energy"] for atoms in theirs])
    np.testing.assert_array_equal(forces, [atoms.arrays["REF_forces"] for atoms in theirs])
    assert re.search("REF_energy", (tmp_path / "a.xyz").read_text())
