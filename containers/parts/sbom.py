"""Software bill of materials of the image this runs in: CycloneDX 1.5 JSON on standard output.

Debian packages as dpkg lists them, Python distributions with the hash of the wheel they came from. No
date and no serial number: the same content gives the same bytes.

Usage: sbom.py NAME LOCK
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions


def normal(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(image: str, lock: str) -> None:
    """Print the bill of materials."""
    hashes = {}
    with open(lock) as stream:
        for line in stream:
            if found := re.match(r"([\w.-]+)==\S+ --hash=sha256:(\w+)", line):
                hashes[normal(found[1])] = found[2]
    components = []
    listing = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}\n"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for line in listing.splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}&distro=bookworm"
        components.append({"type": "library", "name": name, "version": version, "purl": purl})
    for distribution in distributions():
        name, version = distribution.metadata["Name"], distribution.version
        component = {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{normal(name)}@{version}",
        }
        if expression := distribution.metadata.get("License-Expression"):
            component["licenses"] = [{"expression": expression}]
        if normal(name) in hashes:
            component["hashes"] = [{"alg": "SHA-256", "content": hashes[normal(name)]}]
        components.append(component)
    components.sort(key=lambda component: component["purl"])
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": image}},
        "components": components,
    }
    json.dump(bill, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
