#!/bin/sh
# The last step of a LAMMPS image: `lmp` on PATH, bill of materials, labels.
# Run by %post of the stage `final`: finish_lammps.sh NAME ENGINE ..., engines as the lock file spells them.
set -eu
name=$1
shift
cd /opt/suite/share/image
site=$(echo /opt/suite/lib/python3*/site-packages)
libraries=/opt/suite/lib:$site/tensorflow:$site/tensorflow/python:$site/deepmd/lib
for folder in "$site"/nvidia/*/lib; do
    if [ -d "$folder" ]; then libraries=$libraries:$folder; fi
done
# The wheel's own `lmp` imports all of TensorFlow in every rank only to set these variables. What is in
# LD_LIBRARY_PATH already comes first: there a site binds its own MPICH-compatible MPI.
cat >/usr/local/bin/lmp <<END
#!/bin/sh
export LAMMPS_PLUGIN_PATH="$site/deepmd/lib"
export LD_LIBRARY_PATH="\${LD_LIBRARY_PATH:+\$LD_LIBRARY_PATH:}$libraries"
exec "$site/lammps/lmp" "\$@"
END
chmod 755 /usr/local/bin/lmp
/opt/suite/bin/python sbom.py "$name" lock.txt >sbom.json
for engine in "$@"; do
    version=$(sed -n "s/^$engine==\([^ ]*\) .*/\1/p" lock.txt)
    echo "engine.$engine ${version:?$engine is not in the lock file}" >>"$APPTAINER_LABELS"
done
