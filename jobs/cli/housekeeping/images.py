"""`python -m jobs images`: build, test, list and check the Apptainer images of the engines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from jobs.base.errors import SuiteError
from jobs.engines import apptainer
from jobs.running import images

HELP = "the Apptainer images: build, test, list, check, lock, sign, verify"
DESCRIPTION = """\
Images bring the engines to a cluster; stages run in them with --site. Each is built from its definition in
containers/ and the wheels of its lock file, and its record beside it says so. See docs/containers.md."""
EXAMPLES = (
    ("images build lammps-mpi cp2k", "make two images in ./images"),
    ("images check", "is each what its record says, and of today's definitions"),
    ("images test --nv deepmd-cuda", "ten real steps on this machine's GPU"),
)
IMAGES = Path("images")
ACTIONS = {
    "build": "make NAME.sif and NAME.json (what it was made from) from containers/NAME.def",
    "test": "run ten real steps in each",
    "list": "what is there",
    "check": "compare each image with its record and with today's definitions",
    "lock": "choose the wheels of containers/locks anew",
    "sign": "with a key of the site",
    "verify": "look at the signature",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m jobs images`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, does in ACTIONS.items():
        one = actions.add_parser(action, help=does, description=does)
        one.add_argument(
            "names", nargs="*", metavar="NAME", help=f"{', '.join(images.EXTRAS)} (default: all)"
        )
        one.add_argument(
            "--dir",
            type=Path,
            default=IMAGES,
            metavar="DIR",
            help="where images are kept (default: ./images)",
        )
        if action == "build":
            one.add_argument(
                "--mirror",
                metavar="URL",
                help="the Debian mirror (default: that of this machine's apt sources); it is not recorded",
            )
        if action == "test":
            one.add_argument("--nv", action="store_true", help="with this machine's GPU driver")
        if action in ("sign", "verify"):
            one.add_argument(
                "--key",
                type=Path,
                metavar="PEM",
                help="a private or public key file (default: Apptainer's keyring)",
            )
        if action == "list":
            one.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Run one action on the named images; 0, or 1 if `check` found something.

    Raises:
        SuiteError: unknown name, missing image, failed build, test or signature.
    """
    for name in arguments.names:
        if name not in images.EXTRAS:
            raise SuiteError(f"image {name}: unknown, expected one of {', '.join(images.EXTRAS)}")
    names: list[str] = arguments.names or list(images.EXTRAS)
    folder: Path = arguments.dir
    match arguments.action:
        case "build":
            mirror = arguments.mirror or images.mirror_of_this_machine()
            for name in names:
                images.build(name, folder, mirror=mirror)
        case "test":
            for name in names:
                images.test(name, folder, gpu=arguments.nv)
        case "list":
            _print_list(names, folder, as_json=arguments.json)
        case "check":
            problems = [line for name in names for line in images.check(name, folder)]
            print("\n".join(problems) or f"{', '.join(names)}: as recorded, and of today's definitions")
            return 1 if problems else 0
        case "lock":
            for name in names:
                images.lock(name)
        case "sign":
            for name in names:
                images.sign(name, folder, key=arguments.key)
        case _:
            for name in names:
                apptainer.verify(folder / f"{name}.sif", key=arguments.key)
                print(f"{name}: signature good")
    return 0


def _print_list(names: Sequence[str], folder: Path, *, as_json: bool) -> None:
    found = {name: images.describe(name, folder) for name in names}
    if as_json:
        print(json.dumps([entry for entry in found.values() if entry is not None], indent=1))
        return
    for name, entry in found.items():
        if entry is None:
            print(f"{name:<12} not built")
            continue
        versions = ", ".join(f"{engine} {version}" for engine, version in entry["versions"].items())
        print(
            f"{name:<12} {entry['bytes'] / 1e6:6.0f} MB  {entry['digest'][:12]}  {entry['built']}  "
            f"{'SIGNED' if entry['signed'] else 'not signed'}  {entry['path']}  ({versions})"
        )
