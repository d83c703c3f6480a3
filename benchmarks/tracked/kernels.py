"""Analysis kernels: time and peak memory for 5832 atoms, as many frames as take about a second."""

import numpy as np

from jobs.base.silica import cristobalite, replicate, rescale
from jobs.observables import angles, msd, rdf
from jobs.observables.correlation import correlation_sums
from jobs.observables.neighbours import find_neighbours

ATOMS = 5832
FRAMES = 100
CUTOFFS = {"Si-Si": 3.7, "Si-O": 2.4, "O-O": 3.6}


class Kernels:
    version = "1"
    timeout = 120
    repeat = (6, 12, 20.0)
    number = 1
    warmup_time = 0.0

    def setup(self):
        crystal = rescale(replicate(cristobalite(1, displacement_angstrom=0.0, seed=0), (7, 7, 5)), 2.2)
        self.types, self.cell = crystal.types[:ATOMS], crystal.edges
        noise = np.random.default_rng(0).normal(scale=0.25, size=(FRAMES, ATOMS, 3))
        self.frames = crystal.positions[:ATOMS] + noise

    def _msd(self):
        msd.displacement_blocks(
            lambda start, stop, stride: self.frames[start:stop:stride],
            n_frames=FRAMES, lags=msd.logarithmic_lags(FRAMES // 2), blocks=8, chunk_frames=64,
            species=[np.flatnonzero(self.types == species) for species in (0, 1)],
        )  # fmt: skip

    def time_rdf_one_frame(self):
        rdf.pair_counts(self.frames[:1], self.types, self.cell, bin_angstrom=0.02)

    def time_angles_one_frame(self):
        near = find_neighbours(self.frames[:1], self.types, self.cell, cutoff_angstrom=3.7)
        angles.angle_counts(near, CUTOFFS, bin_degree=1.0)

    def time_msd_blocks_100_frames(self):
        self._msd()

    def time_vaf_100_frames(self):
        correlation_sums(self.frames.reshape(FRAMES, -1), n_origins=FRAMES, n_lags=FRAMES)

    def peakmem_rdf_one_frame(self):
        rdf.pair_counts(self.frames[:1], self.types, self.cell, bin_angstrom=0.02)

    def peakmem_msd_blocks_100_frames(self):
        self._msd()

    def peakmem_vaf_100_frames(self):
        correlation_sums(self.frames.reshape(FRAMES, -1), n_origins=FRAMES, n_lags=FRAMES)


for _name in [name for name in vars(Kernels) if name.startswith(("time_", "peakmem_"))]:
    getattr(Kernels, _name).version = Kernels.version
