"""`pytest suite/`: what runs, what it says, how it exits; the runs are real BKS liquids."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.campaign.build import build_campaign
from jobs.store.outcome import Outcome
from jobs.store.store import Store
from suite.judging.checks import load_claims
from suite.judging.evidence import Evidence
from suite.plugin import ClaimSession, replicas

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "helpers" / "tiny.yml"


def run_suite(*arguments, selection="suite/"):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", selection, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("suite")


def bks_claims(folder, *arguments, keyword):
    options = ["--tier", TINY, "--store", folder / "store", "--results", folder / "results"]
    return run_suite(*options, "-k", keyword, *arguments, selection="suite/test_preconditions.py")


def test_collecting_computes_nothing_and_is_quick(tmp_path):
    started = time.perf_counter()
    result = run_suite("--collect-only", "-q", "--store", tmp_path / "store")
    assert result.returncode == 0
    assert "rdf-nnp-aimd" in result.stdout or "test_rdf_nnp_aimd" in result.stdout
    assert not (tmp_path / "store").exists()
    assert time.perf_counter() - started < 10


def test_a_claim_is_selected_by_the_id_that_the_report_gives_it():
    for words, chosen in (("small-data", 1), ("parity/96/energy/3000K", 1), ("vdos-size", 4)):
        result = run_suite("--collect-only", "-q", "-k", words)
        assert re.search(rf"^{chosen}/\d+ tests collected", result.stdout, re.MULTILINE), result.stdout


def test_dry_run_prints_the_plan_and_makes_nothing(tmp_path):
    result = run_suite("--dry-run", "--store", tmp_path / "store")
    assert result.returncode == 0
    assert "python -m jobs make train-" in result.stdout
    assert re.search(r"cannot be tested: \d+ of \d+ checks, because", result.stdout)
    assert not (tmp_path / "store").exists()


def test_a_selected_check_has_the_held_out_errors_that_could_excuse_it(tmp_path):
    """Else the same value would be FAIL in one selection and TOO SHORT in another."""
    words = ("-k", "rdf-paired/96/Si-O/curve", "--start-from", "trajectories", "--dry-run")
    planned = run_suite(*words, "--store", tmp_path / "store").stdout
    assert re.search(r"jobs make observe_pairs-", planned)
    assert len(re.findall(r"jobs make parity-", planned)) == 1


def test_a_run_that_is_observed_again_keeps_its_replicas_numbers():
    campaign = build_campaign("overnight", start_from="trajectories")
    found = replicas(campaign)
    assert found["vdos-96"] == found["motion-96-nvt"] == [1, 2, 3, 4, 5]
    assert found["msd-long"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tier", "lunch"], "tier lunch: not found, expected one of laptop"),
        (["--potential", "missing.pb"], "missing.pb: not found"),
        (
            ["--tier", "paper", "--start-from", "trajectories"],
            "expected deposited trajectories of tier paper (deposited: overnight, paired)",
        ),
        (["--site", "one-node"], "--site needs --hpc"),
        (["--wait"], "--wait needs --hpc"),
        (["--retry-failed"], "--retry-failed needs --hpc"),
    ],
)
def test_wrong_input_is_one_line(arguments, expected, tmp_path):
    result = run_suite(*arguments, "--store", tmp_path / "store")
    said = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("ERROR")]
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert len(said) == 1
    assert expected in said[0]
    assert "Traceback" not in result.stdout + result.stderr


def test_preconditions_pass_and_the_second_run_has_nothing_to_do(folder):
    keyword = "liquid-96-bks and (fused-atoms or dangerous-builds)"
    first = bks_claims(folder, keyword=keyword)
    # Preconditions are no claims of the paper: they alone decide nothing.
    assert first.returncode == 7, first.stdout[-2000:]
    assert "PASS          precondition/fused-atoms/liquid-96-bks" in first.stdout
    assert "\npreconditions: 2 PASS\n" in first.stdout
    results = json.loads((folder / "results" / "tiny-selection" / "claims.json").read_text())
    assert [claim["verdict"] for claim in results["claims"]] == ["PASS", "PASS"]
    assert results["provenance"]["software"]["lammps"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", results["provenance"]["suite"]["commit"])
    assert results["provenance"]["suite"]["version"]
    assert (folder / "results" / "tiny-selection" / "report.html").is_file()
    again = bks_claims(folder, keyword=keyword)
    assert again.returncode == 7
    assert "nothing had to run" in again.stderr


def test_nothing_decided_is_exit_code_7(folder):
    result = bks_claims(folder, keyword="temperature and liquid-216-bks")
    assert result.returncode == 7
    assert "NOT TESTED" in result.stdout


def test_failed_stage_is_an_error_with_its_reason_and_exit_code_6(tmp_path):
    potential = tmp_path / "broken.lmp"
    potential.write_text("pair_style nonsense\n")
    result = run_suite(
        *("--tier", TINY, "--store", tmp_path / "store", "--results", tmp_path / "results"),
        *("--potential", potential, "-k", "rdf_96_216 and Si-Si and same"),
        selection="suite/test_fig1_rdf.py",
    )
    assert result.returncode == 6, result.stdout[-2000:]
    assert "found no pair style 'nonsense', expected LAMMPS with it" in result.stdout


def test_what_no_claim_reads_may_not_break_unseen(folder, tmp_path):
    """An observation that only the report draws: no verdict is wrong, and yet the exit code is 6."""
    tier = tmp_path / "long.yml"
    tier.write_text(
        TINY.read_text().replace("name: tiny", "name: long")
        + "  liquid-96-bks@3100: {again: liquid-96-bks, observables: {blocks: 100000}}\n"
    )
    options = ("--tier", tier, "--store", folder / "store", "--results", tmp_path / "results")
    result = run_suite(*options, "--start-from", "potentials")
    assert result.returncode == 6, result.stdout[-2000:]
    assert "ERROR  " not in result.stdout
    assert "BROKEN        liquid-96-bks@3100" in result.stdout
    (written,) = tmp_path.glob("results/*/claims.json")
    assert list(json.loads(written.read_text())["broken"]) == ["liquid-96-bks@3100"]
    assert "What broke while it was made" in (written.parent / "report.html").read_text()


def test_a_run_that_stopped_early_does_not_replace_the_whole(folder, tmp_path):
    potential = tmp_path / "broken.lmp"
    potential.write_text("pair_style nonsense\n")  # the first claim that asks for it is an ERROR
    name = build_campaign(str(TINY), potential=potential).results_name
    whole = tmp_path / name / "claims.json"
    whole.parent.mkdir(parents=True)
    whole.write_text("two hundred verdicts")
    options = ("--tier", TINY, "--store", folder / "store", "--results", tmp_path)
    result = run_suite(*options, "--potential", potential, "-x")
    assert "stopping after 1 failures" in result.stdout, result.stdout[-2000:]
    assert whole.read_text() == "two hundred verdicts"
    written = json.loads((tmp_path / f"{name}-selection" / "claims.json").read_text())["claims"]
    ids = [claim["id"] for claim in written]
    assert ids == [check.id for check in load_claims() if check.id in ids], "not in the order of claims.yml"


def test_what_a_run_rests_on_is_behind_it(tmp_path):
    campaign = build_campaign("laptop")
    session = ClaimSession(
        campaign=campaign,
        store=Store(tmp_path / "store"),
        outcome=Outcome(),
        evidence=Evidence({}),
        results_root=tmp_path,
    )
    assert session.labels_behind(("liquid-96-nvt",)) >= {"liquid-96-nvt", "train-96"}
    assert "train-216" not in session.labels_behind(("liquid-96-nvt",))
    assert session.labels_behind(("train-96",)) == {"train-96"}
