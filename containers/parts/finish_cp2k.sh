#!/bin/sh
# The last step of the CP2K image: `cp2k.psmp` on PATH, bill of materials, labels. Run by %post of `final`.
set -eu
cd /opt/suite/share/image
# Inside a Slurm step Debian's Open MPI takes itself for a rank, for whose PMI it was not built, and aborts;
# without this variable it starts alone, which is right for one task and for no more.
cat >/usr/local/bin/cp2k.psmp <<'END'
#!/bin/sh
if [ -z "${OMPI_COMM_WORLD_SIZE:-}" ] && [ "${SLURM_STEP_NUM_TASKS:-1}" != 1 ]; then
    echo "cp2k.psmp: found $SLURM_STEP_NUM_TASKS Slurm tasks, expected 1 with threads (srun -n 1 -c N)" >&2
    exit 2
fi
unset SLURM_STEP_ID
exec /usr/bin/cp2k.psmp "$@"
END
chmod 755 /usr/local/bin/cp2k.psmp
/opt/suite/bin/python sbom.py cp2k lock.txt >sbom.json
for package in cp2k libopenblas0-openmp openmpi-bin; do
    version=$(dpkg-query --show --showformat='${Version}' "$package")
    echo "engine.$package $version" >>"$APPTAINER_LABELS"
done
