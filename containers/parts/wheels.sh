#!/bin/sh
# The wheels of a lock file into a virtual environment at /opt/suite, from the folder bound at /mnt.
# Run by %post of the stage `build`: wheels.sh LOCK [DISTRIBUTION ...], the latter left out again.
set -eu
lock=$1
shift
python3 -m venv /opt/suite
/opt/suite/bin/pip install --quiet --no-index --find-links /mnt --require-hashes --no-deps --no-compile \
    --no-cache-dir --disable-pip-version-check --requirement "$lock"
# The native kernel, in the images that run LAMMPS: x86-64-v3 has AVX2, v4 AVX-512; the processor decides.
if [ -d /opt/native ]; then
    PYTHONPATH=/opt/native /opt/suite/bin/python -m jobs.engines.lammps.native.build /opt/suite/share/native 3 4
fi
# What is never imported at run time: C++ headers, the packages' own tests, and the installer.
/opt/suite/bin/pip uninstall --quiet --yes "$@" pip
site=$(echo /opt/suite/lib/python3*/site-packages)
rm -rf "$site"/tensorflow/include "$site"/lammps/include "$site"/nvidia/*/include
find "$site" -depth -type d -name tests -exec rm -rf {} +
find "$site" -name '*.a' -delete
# An image cannot be written to, so bytecode that is missing or looks outdated would be compiled at every
# start: it is made here, and never compared with its source again.
/opt/suite/bin/python -m compileall -q --invalidation-mode unchecked-hash "$site" || true
