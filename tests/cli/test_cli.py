"""The command line: wrong input is one line and a non-zero exit code; help teaches; start-up is quick."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.base.errors import SuiteError
from jobs.base.files import write_whole
from jobs.cli.look.compare import compare
from jobs.cli.main import COMMANDS, FIRST_STEPS, MODULES, command, main, parser_of
from jobs.store.stage import Stage
from jobs.store.store import Recipe, Store
from jobs.store.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def jobs_command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["run", "--tier", "lunch", "--dry-run"],
            "tier lunch: not found, expected one of laptop, overnight, paper, reference, smoke",
        ),
        (["run", "--potential", "none.pb", "--dry-run"], "none.pb: not found, expected a TensorFlow .pb"),
        (["run", "--only", "liquid-7", "--dry-run"], "product liquid-7: not in tier laptop"),
        (["run", "--engine", "abinit", "--dry-run"], "found engine 'abinit', expected one of cp2k, espresso"),
        (
            ["run", "--tier", "paper", "--start-from", "trajectories", "--dry-run"],
            "trajectories.yml: not found, expected deposited trajectories of tier paper",
        ),
        (["make", "train-0", "--store", "nowhere"], "no such stage was planned"),
        (["compare", "README.md", "README.md"], "README.md: found no JSON, expected a claims.json"),
        (["cancel"], "cancel needs --site"),
        (["check", "--store", "nowhere"], "nowhere: found no such folder, expected a store"),
        (["deposit", "--verify", "--root", "nowhere"], "nowhere: found no such folder, expected a deposit"),
        (
            ["run", "--engine", "vasp", "--dry-run"],
            "--engine vasp: found a start from frames, expected --start-from nothing",
        ),
        (["run", "--retry-failed"], "--retry-failed needs --site"),
        (
            ["gc", "--forget", "never-run", "--store", "nowhere"],
            "--forget: found never-run, expected one of none",
        ),
        (["run", "--site", "nowhere"], "site nowhere: not found, expected one of"),
        (
            ["run", "--site", "example-cpu", "--cores", "2"],
            "--cores says nothing with --site: give cores under kinds in",
        ),
    ],
)
def test_wrong_input_is_one_line(arguments, expected):
    result = jobs_command(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["run", "--dry-run", "--potential"],
            "a TensorFlow .pb model (dp convert-backend makes one), a folder with n2p2's input.nn, or a file",
        ),
        (["run", "--dry-run", "--tier"], "YAML"),
        (["run", "--dry-run", "--site"], "YAML"),
        (["aimd"], "an extended XYZ file of starts"),
        (["compare", ROOT], "a claims.json"),
    ],
)
def test_a_binary_file_in_the_place_of_a_text_is_one_line(tmp_path, arguments, expected):
    binary = tmp_path / "model.yml"
    binary.write_bytes(b"PK\x03\x04\xfe\xff" * 999)
    result = jobs_command(*[binary if word == ROOT else word for word in arguments], binary)
    assert result.returncode == 2
    assert f"{binary}: found no text (UTF-8), expected {expected}" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_potential_of_one_long_word_is_one_short_line(tmp_path):
    """Refused before anything is planned; no file has so long a name."""
    (tmp_path / "model.json").write_text("x" * 5000)
    result = jobs_command("run", "--dry-run", "--potential", tmp_path / "model.json")
    assert result.returncode == 2
    assert "model.json:1: found command 'xxx" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert len(result.stderr) < 400


@pytest.mark.parametrize("command", [["run"], ["cost"], ["tune"], ["aimd", "x.xyz"], ["recheck", "x"]])
@pytest.mark.parametrize("cores", ["-3", "0", "two"])
def test_cores_are_a_positive_integer(command, cores, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--cores", cores])
    assert f"argument --cores: found {cores}, expected a positive integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["aimd", "x.xyz", "--density", "-1"], "argument --density: found -1, expected a positive number"),
        (["aimd", "x.xyz", "--timestep-fs", "nan"], "argument --timestep-fs: found nan, expected a positive"),
        (["aimd", "x.xyz", "--relaxation-steps", "-3"], "found -3, expected an integer, 0 or more"),
        (["aimd", "x.xyz", "--per-stage", "0"], "--per-stage: found 0, expected a positive integer"),
        (["deposit", "--unequilibrated", "-5"], "found -5, expected an integer, 0 or more"),
        (["cost", "--minutes", "nan"], "argument --minutes: found nan, expected a positive number"),
        (["starts", "--heat-to", "hot"], "argument --heat-to: found hot, expected a positive number"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments, expected, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert expected in capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_one_line(tmp_path, capsys):
    (tmp_path / "plans").write_text("")
    assert main(["run", "--tier", "smoke", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: cannot be used as a store (File exists)\n"
    (tmp_path / "plans").unlink()
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "smoke.json").write_text("[")
    assert main(["gc", "--tier", "smoke", "--store", str(tmp_path)]) == 2
    assert f"{tmp_path}/plans: found a plan that is not JSON" in capsys.readouterr().err
    with pytest.raises(SuiteError, match=r"x\.yml: cannot be written \(No such file or directory\)"):
        write_whole(tmp_path / "none" / "x.yml", "")
    folder = str(tmp_path / "plans")
    assert main(["compare", folder + "/smoke.json/x", folder]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_deposit_says_that_it_verified(capsys):
    assert main(["deposit", "--verify"]) == 0
    assert re.fullmatch(r"\d+ sets: every file as recorded", capsys.readouterr().out.splitlines()[-1])


def test_a_reader_that_has_enough_ends_the_command_quietly():
    command = [
        sys.executable,
        "-m",
        "jobs",
        "graph",
        "--tier",
        "reference",
        "--dot",
    ]  # more than a pipe holds
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout.readline() == b"digraph suite {\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_broken_tier_file_says_what_is_missing(tmp_path):
    path = tmp_path / "own.yml"
    path.write_text("name: own\nruns: {}\n")
    result = jobs_command("run", "--tier", path, "--dry-run")
    assert result.returncode == 2
    assert "own.yml: found no start_from, density_g_cm3, seeds, frames, training, melt, " in result.stderr


@pytest.mark.parametrize("tier", ["smoke", "laptop", "overnight", "paper"])
def test_dry_run_names_every_stage_with_command_and_cost(tier):
    result = jobs_command("run", "--tier", tier, "--dry-run", "--store", "nowhere")
    assert result.returncode == 0, result.stderr
    assert "python -m jobs make train-" in result.stdout
    assert "of one core still to do" in result.stdout
    assert not (ROOT / "nowhere").exists()


def test_the_manual_names_every_command_in_its_group(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 105
    for title, group in COMMANDS.items():
        part = said[said.index(f"{title}:") :].split("\n\n")[0].splitlines()[1:]
        assert [line.split()[0] for line in part] == list(group)
        assert all(line.split(maxsplit=1)[1] == command(line.split()[0]).HELP for line in part)


@pytest.mark.parametrize("name", MODULES)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m jobs {name}")
    assert "examples:\n  python -m jobs " in said
    module = command(name)
    assert module.EXAMPLES
    for words, _ in module.EXAMPLES:
        first, *rest = shlex.split(words)
        assert first == name
        parser_of(name).parse_args(rest)  # it would exit


def test_first_steps_are_commands():
    for words, _ in FIRST_STEPS:
        name, *rest = words.split()
        parser_of(name).parse_args(rest)


@pytest.mark.parametrize("words", [[], ["lunch"]])
def test_no_command_is_one_line_that_names_them(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    said = capsys.readouterr().err
    assert "expected one of run, status, " in said
    assert said.count("\n") == 1


def test_options_of_one_name_mean_one_thing():
    """The same destination and the same kind of value wherever an option occurs."""
    known = {}
    for name in MODULES:
        for action in parser_of(name)._actions:
            for word in action.option_strings:
                kind = (action.dest, type(action).__name__, action.nargs == "+")
                known.setdefault(word, {}).setdefault(kind, []).append(name)
    # The stepwise runs of `aimd` have several.
    several = {"--temperature-K"}
    assert {word for word, kinds in known.items() if len(kinds) > 1} == several
    assert {"--minutes", "--output", "--name", "--wait"} <= set(known)
    assert not {"--budget", "--out", "--plan", "--temperature"} & set(known)


def test_make_imports_no_other_command():
    """A campaign starts dozens of it."""
    code = (
        "import sys; from jobs.cli.main import main; main(['make', 'melt-0', '--store', 'nowhere']); "
        "print(*sorted(name for name in sys.modules if name.startswith(('jobs.', 'pydantic.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    loaded = done.stdout.split()
    assert not [name for name in loaded if name.startswith("pydantic")]
    assert [name for name in loaded if name.startswith("jobs.cli.")] == [
        "jobs.cli.campaign", "jobs.cli.campaign.make", "jobs.cli.main", "jobs.cli.options",
    ]  # fmt: skip
    assert not [name for name in loaded if name.startswith(("jobs.campaign", "jobs.cost", "jobs.reference"))]


def test_stages_read_no_tier_and_no_site():
    """They start quickly, and what reads those files takes a tenth of a second to import."""
    code = (
        "import sys; from jobs.stages.kinds import ROOMS, stage_module\n"
        "assert all(stage_module(kind).run for kind in ROOMS); print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("import", "x", "--temperature-K", "-5"),
            "--temperature-K: found -5, expected a positive number",
        ),
        (("import", "x", "--every", "0"), "argument --every: found 0, expected a positive integer"),
        (("import", "x", "--use", "both"), "argument --use: invalid choice: 'both'"),
        (("import",), "the following arguments are required: PATH"),
        (("run", "--cores", "two"), "argument --cores: found two, expected a positive integer"),
        (("sing",), "found command 'sing', expected one of run, status"),
        ((), "found no command, expected one of run, status"),
    ],
)
def test_a_wrong_option_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    out, err = capsys.readouterr()
    assert (caught.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err


def test_compare_reports_what_moved(tmp_path):
    claim = {"id": "a/b", "verdict": "PASS", "value": 1.0, "standard_error": 0.05}
    for name, change in [
        ("one", {}),
        ("two", {"verdict": "FAIL", "value": 2.0}),
    ]:
        (tmp_path / f"{name}.json").write_text(json.dumps({"claims": [claim | change]}))
    same = jobs_command("compare", tmp_path / "one.json", tmp_path / "one.json")
    assert same.returncode == 0
    assert "0 checks moved" in same.stdout
    worse = jobs_command("compare", tmp_path / "one.json", tmp_path / "two.json")
    assert worse.returncode == 1
    assert "a/b: PASS 1.0 -> FAIL 2.0" in worse.stdout


def test_compare_takes_the_folder_of_a_claims_json(tmp_path, capsys):
    claim = {"id": "a/b", "verdict": "PASS", "value": 1.0, "standard_error": 0.05}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "claims.json").write_text(json.dumps({"claims": [claim]}))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b" / "claims.json")]) == 0
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.count("0 checks moved") == 2


@pytest.mark.parametrize(
    ("content", "found"),
    [("{}", "JSON without verdicts"), ('{"claims": [1]}', "JSON without"), ("x", "no JSON")],
)
def test_compare_says_what_is_no_claims_json(tmp_path, capsys, content, found):
    (tmp_path / "one.json").write_text(content)
    assert main(["compare", str(tmp_path / "one.json"), str(tmp_path / "one.json")]) == 2
    said = capsys.readouterr().err
    assert f"one.json: found {found}" in said
    assert said.endswith(", expected a claims.json\n")


def test_recheck_shows_where_a_set_is_looked_for(capsys):
    with pytest.raises(SystemExit):
        main(["recheck", "--help"])
    assert "--root DIR" in capsys.readouterr().out


def test_compare_can_insist_on_agreement(tmp_path):
    claim = {"id": "a/b", "verdict": "INCONCLUSIVE", "value": 1.0, "standard_error": 0.05}
    sides = {"one": {}, "far": {"value": 2.0}, "decided": {"verdict": "PASS"}}
    for name, change in sides.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"claims": [claim | change]}))

    def agree(first: str, second: str) -> int:
        return jobs_command(
            "compare", tmp_path / f"{first}.json", tmp_path / f"{second}.json", "--agree"
        ).returncode

    assert agree("decided", "decided") == 0
    assert agree("one", "one") == 1  # nothing decided in both
    assert agree("one", "far") == 1


def observed_store(root: Path, shift: float, *, observations: int = 1, seed: int = 1) -> Path:
    """A store with sealed observations of eight blocks."""
    store = Store(root)
    store.prepare()
    random = np.random.default_rng(seed)
    for number in range(observations):
        stage = Stage("observe", "observe x", {}, seed=number)
        part = store.part(stage.name)
        part.mkdir()
        np.savez(part / "observables.npz", temperature_K=3000 + 10 * random.normal(size=8) + shift)
        workspace = Workspace(parameters={}, seed=0, inputs={}, directory=part)
        store.finish(Recipe.of(stage), workspace, wall_seconds=1.0, attempts=1)
    return root


def test_two_stores_of_one_campaign_rarely_differ_by_chance(tmp_path, capsys):
    """A hundred values, other noise in each store: of 20 pairs of stores about one may differ, not all."""
    alarms = [
        compare(
            observed_store(tmp_path / f"a{pair}", 0.0, observations=100, seed=2 * pair),
            observed_store(tmp_path / f"b{pair}", 0.0, observations=100, seed=2 * pair + 1),
        )
        for pair in range(20)
    ]
    assert sum(alarms) <= 3


def test_stores_are_compared_by_what_was_observed(tmp_path):
    here, same = observed_store(tmp_path / "a", 0.0), observed_store(tmp_path / "b", 1.0)
    assert jobs_command("compare", here, same).returncode == 0
    far = jobs_command("compare", here, observed_store(tmp_path / "c", 50.0))
    assert far.returncode == 1
    assert "observe x: temperature_K" in far.stdout
    assert "p = " in far.stdout
    empty = jobs_command("compare", here, tmp_path)
    assert empty.returncode == 2
    assert "found no observation" in empty.stderr


def test_imports_are_quick():
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import jobs.cli.main, suite.plugin"], check=True, cwd=ROOT)
    bare = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, cwd=ROOT)
    assert (bare - started) - (time.perf_counter() - bare) < 2.0
