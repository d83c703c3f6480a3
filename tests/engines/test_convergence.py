"""Convergence is read from numbers: what ends at NELM counts by its last change of energy, in every file.

Around given frames in VASP's layout; pw.x and CP2K really run.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.engines.first_principles import vasp, vasp_scf
from jobs.reference.formats.sources import open_sources
from jobs.reference.survey import look, report
from tests.helpers.vasp_files import write_outcar, write_vasprun
from tests.reference.test_import import FRAMES, needs_pwx, read, vasp_run

UNCONVERGED, NOT_KNOWN = "SCF not converged", "SCF convergence not known"
VERSIONS = ("5.4.4", "6.3.0")
WRITERS = {"OUTCAR": write_outcar, "vasprun.xml": write_vasprun}


def write(directory: Path, name: str, version: str, **changes: object) -> Path:
    WRITERS[name](directory / name, vasp_run(version=version, **changes))
    return directory / name


def taken_and_refused(path: Path) -> tuple[list[int], Counter[str], int]:
    """Steps of the frames, why others were refused, and how many of the frames are not proven."""
    (source,) = open_sources([path])
    steps = [int(step) for batch in source.batches for step in batch.steps]
    return steps, source.refused, source.unproven


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_step_at_nelm_counts_if_its_last_change_is_below_ediff(tmp_path, name, version):
    """VASP 5 prints the same phrase of both steps, VASP 6 does not; vasprun.xml has no phrase at all."""
    path = write(tmp_path, name, version, unconverged=frozenset({1}), late=frozenset({2}), nelm=15)
    if name == "OUTCAR":
        phrase = path.read_text().count("aborting loop because EDIFF is reached")
        assert phrase == (FRAMES if version.startswith("5") else FRAMES - 1)
    steps, refused, unproven = taken_and_refused(path)
    assert steps == list(range(2, FRAMES + 1))
    assert (refused, unproven) == (Counter({UNCONVERGED: 1}), 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_our_own_engine_reads_it_alike(tmp_path, version):
    path = write(tmp_path, "OUTCAR", version, unconverged=frozenset({1}), late=frozenset({2}), nelm=15)
    scf = vasp.read_scf(path)
    assert scf[1] == (15, False)
    assert scf[2] == (15, True)
    assert scf[3] == (8, True)


def test_a_change_of_the_band_energy_counts_too(tmp_path):
    """VASP goes on while either change is above EDIFF; the file has both."""
    path = write(tmp_path, "OUTCAR", "5.4.4", late=frozenset({2}), nelm=8)
    text = path.read_text()
    last = text.index("Iteration    2(   8)")
    change = re.compile(r"(energy-change \(2\. order\) :.{14})  \(.{14}\)")
    path.write_text(text[:last] + change.sub(r"\1  (-0.3000000E-03)", text[last:], count=1))
    assert taken_and_refused(path)[:2] == ([1, 3, 4, 5, 6], Counter({UNCONVERGED: 1}))


def test_ediff_is_printed_with_one_digit():
    """0.2E-04 may be 2.4e-5: what stopped before NELM with less than that has converged."""
    known = {"nelm": 60, "ediff_eV": 2e-5}
    assert vasp_scf.converged(steps=9, changes_eV=(2.3e-5, 1e-6), **known) is True
    assert vasp_scf.converged(steps=9, changes_eV=(4e-5, 1e-6), **known) is False, "somebody stopped it"
    assert vasp_scf.converged(steps=60, changes_eV=(2.3e-5, 1e-6), **known) is False


def without(path: Path, *signs: str) -> Path:
    """The same file without the lines that hold one of these."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not any(sign in line for sign in signs)))
    return path


class TestMissingNumbers:
    """Not known is not unconverged."""

    def test_nwrite_0_and_1_have_them_of_the_first_step_only(self, tmp_path):
        path = write(tmp_path, "OUTCAR", "5.4.4")
        text = path.read_text()
        second = text.index("Iteration    2(   1)")
        path.write_text(text[:second])
        (tmp_path / "rest").write_text(text[second:])
        without(tmp_path / "rest", "Iteration", "energy-change", "aborting loop")
        path.write_text(path.read_text() + (tmp_path / "rest").read_text())
        steps, refused, unproven = taken_and_refused(path)
        assert steps == list(range(1, FRAMES + 1))
        assert (refused, unproven) == (Counter(), FRAMES - 1)
        (source,) = open_sources([path])
        assert "6 taken (of 5, SCF convergence is not known); refused: none" in report(look(source).facts())

    def test_at_nelm_it_is_refused_as_not_known(self, tmp_path):
        path = write(tmp_path, "OUTCAR", "5.4.4", unconverged=frozenset({3}), late=frozenset({4}))
        without(path, "energy-change")
        steps, refused, unproven = taken_and_refused(path)
        assert steps == [1, 2, 5, 6]
        assert (refused, unproven) == (Counter({NOT_KNOWN: 2}), 0)

    def test_without_ediff_fewer_steps_than_nelm_prove_it(self, tmp_path):
        path = without(write(tmp_path, "OUTCAR", "5.4.4"), "EDIFF  =")
        assert taken_and_refused(path) == (list(range(1, FRAMES + 1)), Counter(), 0)

    def test_without_nelm_the_last_change_does(self, tmp_path):
        path = write(tmp_path, "OUTCAR", "5.4.4", unconverged=frozenset({3}), late=frozenset({4}))
        without(path, "NELM   =")
        assert taken_and_refused(path) == ([1, 2, 4, 5, 6], Counter({UNCONVERGED: 1}), 0)

    @pytest.mark.parametrize("tags", [('name="NELM"',), ('name="EDIFF"',), ('name="EDIFF"', 'name="NELM"')])
    def test_vasprun(self, tmp_path, tags):
        path = write(tmp_path, "vasprun.xml", "6.3.0", unconverged=frozenset({3}), late=frozenset({4}))
        without(path, *tags)
        steps, refused, unproven = taken_and_refused(path)
        known = {
            1: ([1, 2, 4, 5, 6], Counter({UNCONVERGED: 1}), 0)
            if "NELM" in tags[0]
            else ([1, 2, 5, 6], Counter({NOT_KNOWN: 2}), 0),
            2: (list(range(1, FRAMES + 1)), Counter(), FRAMES),
        }
        assert (steps, refused, unproven) == known[len(tags)]


@pytest.mark.parametrize("other", ["response functions", "electronic GW"])
def test_a_tag_that_repeats_does_not_overwrite(tmp_path, other):
    """NELM stands twice in a vasprun.xml of 5.4.4; the second is not the SCF's."""
    path = write(tmp_path, "vasprun.xml", "5.4.4")
    again = f'  <separator name="{other}" >\n   <i type="int" name="NELM">     1</i>\n  </separator>\n'
    path.write_text(path.read_text().replace(" </parameters>\n", again + " </parameters>\n"))
    assert taken_and_refused(path) == (list(range(1, FRAMES + 1)), Counter(), 0)


def test_vasp_stopped_by_hand_is_judged_by_its_last_change(tmp_path):
    """STOPCAR with LABORT ends an SCF anywhere."""
    path = write(tmp_path, "OUTCAR", "5.4.4")
    text = path.read_text()
    begin = text.index("Iteration    6(   3)")
    end = text.index("    FORLOC", begin)
    stopped = text[begin : text.index("Iteration    6(   4)", begin)]
    path.write_text(text[:begin] + stopped + " hard stop encountered!  aborting job ...\n" + text[end:])
    assert taken_and_refused(path)[:2] == (list(range(1, FRAMES)), Counter({UNCONVERGED: 1}))


class TestPwx:
    """pw.x, as 6.7 writes an SCF of ultrasoft, PAW and hybrid kind."""

    pytestmark = needs_pwx

    @pytest.fixture(scope="class")
    @classmethod
    def paw(cls, tmp_path_factory):
        from tests.helpers.pwx_runs import HYDROGEN, deck, run_pwx

        return run_pwx(tmp_path_factory.mktemp("paw"), deck("relax", **HYDROGEN))

    def test_paw_has_an_energy_between_energy_and_accuracy(self, paw):
        assert re.search(r"^!.*\n\n +total all-electron energy.*\n +estimated scf acc", paw.read_text(), re.M)
        source, batch = read(paw)
        assert len(batch) > 1
        assert (source.refused, source.unproven) == (Counter(), 0)

    def test_without_accuracy_it_is_not_known(self, paw, tmp_path):
        text = paw.read_text()
        path = tmp_path / "out"
        path.write_text(re.sub(r" +estimated scf accuracy.*\n", "", text))
        source, batch = read(path)
        assert (source.refused, source.unproven) == (Counter(), len(batch))
        path.write_text(re.sub(r" +convergence has been achieved.*\n", "", path.read_text()))
        (source,) = open_sources([path])
        assert list(source.batches) == []
        assert set(source.refused) == {NOT_KNOWN}, "nothing says that it converged"

    def test_an_scf_that_ends_at_its_last_step(self, tmp_path):
        from tests.helpers.pwx_runs import deck, run_pwx

        path = run_pwx(tmp_path, deck("md", electrons="electron_maxstep=3, scf_must_converge=.false."))
        assert "convergence has been achieved" in path.read_text()
        (source,) = open_sources([path])
        assert list(source.batches) == []
        assert set(source.refused) == {UNCONVERGED}

    def test_one_that_time_stopped_is_counted(self, tmp_path):
        from tests.helpers.pwx_runs import deck, run_pwx

        never = deck("scf", control="max_seconds=2", electrons="electron_maxstep=1000000")
        stop = never.replace("conv_thr=1e-8", "conv_thr=1e-99")
        path = run_pwx(tmp_path, stop)
        assert "Calculation stopped in scf loop" in path.read_text()
        assert "JOB DONE" in path.read_text()
        (source,) = open_sources([path])
        assert "0 taken; refused: 1 SCF stopped before its end" in report(look(source).facts())

    def test_exact_exchange_takes_several_scfs_for_one_frame(self, tmp_path):
        from tests.helpers.pwx_runs import deck, run_pwx

        path = run_pwx(tmp_path, deck("scf", system="input_dft='pbe0'"))
        assert path.read_text().count("Self-consistent Calculation") > 2
        source, batch = read(path)
        assert (len(batch), source.refused) == (1, Counter())
        # ASE takes the energy before the last correction for exchange; `!!` is after it.
        final = float(re.search(r"^!!\s+total energy\s+=\s+(\S+) Ry", path.read_text(), re.M).group(1))
        assert batch.energies_eV[0] / 13.605693122994 == pytest.approx(final, abs=1e-9)


def test_vasp_xml_alone_says_what_an_outcar_says(tmp_path):
    """Both of one run take and refuse the same steps."""
    run = replace(vasp_run(), unconverged=frozenset({2}), late=frozenset({5}))
    write_outcar(tmp_path / "OUTCAR", run)
    write_vasprun(tmp_path / "vasprun.xml", run)
    assert taken_and_refused(tmp_path / "OUTCAR") == taken_and_refused(tmp_path / "vasprun.xml")
