"""Images: what definitions and locks may contain, the words that run one, and a small real one."""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from jobs.base.errors import EngineError, SuiteError
from jobs.cli.housekeeping import images as images_command
from jobs.engines import apptainer
from jobs.running import images

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(images.EXTRAS)
needs_apptainer = pytest.mark.skipif(
    shutil.which("apptainer") is None, reason="apptainer is not on PATH: no image can be built here"
)


def jobs_images(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "jobs", "images", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


# What is in the repository ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_definition_says_what_an_image_must_have(name):
    text = images.definition_path(name).read_text()
    for section in ("%setup", "%post", "%environment", "%test", "%labels", "%help", "%runscript"):
        assert re.search(rf"^{section}\b", text, re.M), section
    assert len(re.findall(r"^Stage: ", text, re.M)) == 2
    assert "org.opencontainers.image.licenses" in text
    for path in re.findall(r"^ +((?:containers|reference)/\S+) /", text, re.M):
        assert (ROOT / path).is_file(), path


def test_no_mirror_and_no_index_is_written_down():
    official = "http://deb.debian.org/debian"  # what the images' own apt is pointed at
    for path in sorted((ROOT / "containers").rglob("*")):
        if path.is_file() and path.suffix != ".md":
            urls = re.findall(r"https?://[^\s\"']+", path.read_text())
            assert set(urls) <= {official}, path


@pytest.mark.parametrize("name", NAMES)
def test_lock_pins_every_requirement_with_a_hash(name):
    pins = {key.lower().replace("_", "-"): value[0] for key, value in images.read_lock_of(name).items()}
    for line in images.requirements(name):
        wanted, exact = re.fullmatch(r"([\w-]+)(?:\[[^]]*\])?(?:==([\d.]+))?.*", line).groups()
        assert wanted.lower() in pins, line
        if exact:
            assert pins[wanted.lower()] == exact
    assert not set(images.OUTSIDE) & set(pins)


def test_locks_are_what_pyproject_allows():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in NAMES:
        pins = {key.lower().replace("_", "-"): value[0] for key, value in images.read_lock_of(name).items()}
        for line in project["dependencies"]:
            wanted = Requirement(line)
            if wanted.name not in images.OUTSIDE:
                assert pins[wanted.name] in wanted.specifier, f"{name}: {line}"


def test_images_hold_the_same_versions():
    first, *others = (images.read_lock_of(name) for name in NAMES)
    for other in others:
        assert {key: first[key][0] for key in first.keys() & other.keys()} == {
            key: other[key][0] for key in first.keys() & other.keys()
        }


def test_a_lock_line_without_hash_is_refused(tmp_path):
    path = tmp_path / "lock.txt"
    path.write_text("numpy==2.4.6\n")
    with pytest.raises(SuiteError, match=r"lock.txt, line 1: found 'numpy==2.4.6', expected NAME"):
        images.read_lock(path)


def test_definition_hash_follows_the_scripts_it_names(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "containers", tmp_path / "containers")
    shutil.copytree(ROOT / "reference/models", tmp_path / "reference/models")
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    before = {name: images.definition_hash(name) for name in NAMES}
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "CONTAINERS", tmp_path / "containers")
    assert {name: images.definition_hash(name) for name in NAMES} == before
    with (tmp_path / "containers/parts/ten-steps.inp").open("a") as stream:
        stream.write("#\n")
    assert [name for name in NAMES if images.definition_hash(name) != before[name]] == ["cp2k"]
    with (tmp_path / "jobs/engines/lammps/native/source/deepmd/deepmd_kernel.h").open("a") as stream:
        stream.write("//\n")
    assert [name for name in NAMES if images.definition_hash(name) != before[name]] == NAMES


# The words around a command -----------------------------------------------------------------------


def test_exec_prefix():
    words = apptainer.exec_prefix(
        Path("/images/a.sif"),
        binds=[(Path("/repo"), Path("/repo"), False), (Path("/data,1:x"), Path("/store"), True)],
        gpu=True,
        share_namespaces=True,
        environment={"OMP_NUM_THREADS": "2"},
    )
    assert words[words.index("apptainer") - 1] == "APPTAINERENV_OMP_NUM_THREADS=2"
    assert {"--nv", "--sharens", "--no-home"} < set(words)
    assert "type=bind,src=/repo,dst=/repo,ro" in words
    assert 'type=bind,"src=/data,1:x",dst=/store' in words
    assert words[-1] == "/images/a.sif"
    assert not {"--cleanenv", "--containall"} & set(words)  # MPI ranks find each other by variables
    plain = apptainer.exec_prefix(Path("a.sif"), binds=[], gpu=False, share_namespaces=False, environment={})
    assert plain[plain.index("apptainer") :] == ["apptainer", "exec", "--no-home", "--no-eval", "a.sif"]


# One line for what is wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["build", "vasp"], "image vasp: unknown, expected one of lammps-mpi, cp2k, deepmd-cuda"),
        (["test", "cp2k", "--dir", "nowhere"], "nowhere/cp2k.sif: no such image"),
        (["verify", "cp2k", "--dir", "nowhere"], "nowhere/cp2k.sif: no such image"),
        (["sign", "cp2k", "--dir", "nowhere"], "nowhere/cp2k.json: not found, expected the record"),
    ],
)
def test_wrong_input_is_one_line(arguments, expected):
    result = jobs_images(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_names_may_come_after_options_and_the_action_must_be_there():
    missing = jobs_images("test", "--dir", "nowhere", "lammps-mpi")
    assert "error: nowhere/lammps-mpi.sif: no such image" in missing.stderr
    assert "the following arguments are required: ACTION" in jobs_images().stderr


def test_check_names_every_missing_image():
    result = jobs_images("check", "--dir", "nowhere")
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == [
        f"nowhere/{name}.sif" for name in images.EXTRAS
    ]


def test_apptainer_missing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="apptainer: not found on PATH"):
        apptainer.program()


def test_apptainer_too_old_is_one_line(monkeypatch, tmp_path):
    old = tmp_path / "apptainer"
    old.write_text("#!/bin/sh\necho 1.1.9\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    apptainer.version.cache_clear()
    with pytest.raises(EngineError, match=r"apptainer: found version 1.1.9, expected 1.3 or newer"):
        apptainer.version()
    apptainer.version.cache_clear()


def test_another_file_is_no_image(tmp_path):
    path = tmp_path / "cp2k.sif"
    path.write_text("not an image")
    with pytest.raises(
        SuiteError, match=r"cp2k.sif: found another kind of file, expected an Apptainer image"
    ):
        apptainer.digest(path)


# A small real image -------------------------------------------------------------------------------

# This machine's shell and the libraries it needs: no network, no Debian.
TINY = """Bootstrap: scratch

%setup
    for program in sh cat touch; do
        cp --parents -L $(command -v $program) $(ldd $(command -v $program) | grep -o '/[^ ]*') \
            "$APPTAINER_ROOTFS"
    done
    mkdir -p "$APPTAINER_ROOTFS/bin"
    [ -e "$APPTAINER_ROOTFS/bin/sh" ] || cp -L /bin/sh "$APPTAINER_ROOTFS/bin/sh"

%post
    echo "engine.shell 1" >>"$APPTAINER_LABELS"

%test
    echo "ten steps of nothing"
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    definition = folder / "tiny.def"
    definition.write_text(TINY)
    image = folder / "cp2k.sif"
    seconds = apptainer.build(
        definition, image, directory=ROOT, log=folder / "cp2k.log", binds=[], environment={}
    )
    images.write_record(
        image,
        definition_sha256=images.definition_hash("cp2k"),
        lock_sha256=images.lock_hash("cp2k"),
        versions={"shell": "1"},
        built="2026-01-01T00:00:00+00:00",
        build_seconds=round(seconds),
        apptainer=apptainer.version(),
    )
    return image


def copy_of(image, folder):
    for path in (image, image.with_suffix(".json")):
        shutil.copy(path, folder)
    return folder / image.name


@needs_apptainer
@pytest.mark.engine
def test_a_command_runs_inside_with_its_binds_and_variables(tiny, tmp_path, monkeypatch):
    given, kept = tmp_path / "given, as it is", tmp_path / "kept"
    for folder in (given, kept):
        folder.mkdir()
    (given / "file").write_text("from outside\n")
    monkeypatch.setenv("PYTHONPATH", "/outside")
    monkeypatch.setenv("PMI_RANK", "3")
    prefix = apptainer.exec_prefix(
        tiny,
        binds=[(given, Path("/given"), False), (kept, Path("/kept"), True)],
        gpu=False,
        share_namespaces=False,
        environment={"VALUE": "a,b=$HOME `c`"},
    )
    script = 'cat /given/file; echo "$VALUE|$PYTHONPATH|$PMI_RANK"; touch /kept/made; touch /given/made'
    result = subprocess.run([*prefix, "/bin/sh", "-c", script], capture_output=True, text=True, cwd=kept)
    assert result.stdout.splitlines() == ["from outside", "a,b=$HOME `c`||3"], result.stderr
    assert (kept / "made").exists()
    assert "Read-only file system" in result.stderr
    assert not (given / "made").exists()


@needs_apptainer
@pytest.mark.engine
def test_list_check_and_test_know_a_built_image(tiny, tmp_path):
    assert apptainer.labels(tiny)["engine.shell"] == "1"
    (entry,) = json.loads(jobs_images("list", "cp2k", "--dir", tiny.parent, "--json").stdout)
    by_hand = subprocess.run(["sha256sum", tiny], capture_output=True, text=True).stdout.split()[0]
    assert entry["digest"] == by_hand == apptainer.digest(tiny)
    assert (entry["versions"], entry["signed"]) == ({"shell": "1"}, False)
    assert "not signed" in jobs_images("list", "--dir", tiny.parent).stdout
    checked = jobs_images("check", "cp2k", "--dir", tiny.parent)
    assert (checked.returncode, checked.stdout) == (0, "cp2k: as recorded, and of today's definitions\n")
    assert "cp2k: ten steps of nothing" in jobs_images("test", "cp2k", "--dir", tiny.parent).stdout


@needs_apptainer
@pytest.mark.engine
def test_a_changed_image_is_one_line(tiny, tmp_path):
    image = copy_of(tiny, tmp_path)
    state = image.stat()
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    import os

    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))  # as sly as can be
    result = jobs_images("check", "cp2k", "--dir", tmp_path)
    assert result.returncode == 1
    assert re.match(r"\S+cp2k.sif: found digest \w{12}, expected \w{12} of cp2k.json; ", result.stdout)


@needs_apptainer
@pytest.mark.engine
def test_an_image_of_an_older_definition_is_stale(tiny, tmp_path):
    image = copy_of(tiny, tmp_path)
    record = images.read_record(image)
    image.with_suffix(".json").write_text(json.dumps(record | {"definition_sha256": "0" * 64}))
    result = jobs_images("check", "cp2k", "--dir", tmp_path)
    assert result.returncode == 1
    assert "cp2k.sif: STALE, its definition changed since it was built\n" in result.stdout


@needs_apptainer
@pytest.mark.engine
def test_a_failed_build_leaves_its_log_and_no_image(tmp_path):
    definition = tmp_path / "bad.def"
    definition.write_text(
        TINY.replace('echo "ten steps of nothing"', "echo the potential is missing; exit 3")
    )
    image = tmp_path / "bad.sif"
    with pytest.raises(EngineError) as raised:
        apptainer.build(definition, image, directory=ROOT, log=tmp_path / "bad.log", binds=[], environment={})
    line = str(raised.value)
    assert line.startswith("bad.sif: apptainer ended with code 255")
    assert "the potential is missing" in line
    assert f"(log: {tmp_path / 'bad.log'})" in line
    assert "\n" not in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.def", "bad.log"]


@needs_apptainer
@pytest.mark.engine
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on PATH: no key can be made here")
def test_sign_and_verify_with_a_key_of_the_site(tiny, tmp_path):
    image = copy_of(tiny, tmp_path)
    private, public, other = (tmp_path / name for name in ("private.pem", "public.pem", "other.pem"))
    for key in (private, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)

    def run(action, key):
        return images_command.main(
            argparse.Namespace(action=action, names=["cp2k"], dir=tmp_path, key=key, json=False)
        )

    with pytest.raises(EngineError, match=r"cp2k.sif: not verified"):
        run("verify", public)
    assert run("sign", private) == 0
    assert run("verify", public) == 0
    assert run("check", None) == 0
    assert apptainer.is_signed(image)
    subprocess.run(["openssl", "pkey", "-in", other, "-pubout", "-out", public], check=True)
    with pytest.raises(EngineError, match=r"cp2k.sif: not verified"):
        run("verify", public)
