"""Vibrational density of states from a velocity autocorrelation function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPEED_OF_LIGHT_CM_FS = 2.99792458e-5
# Zero-padding: the grid is this much finer than the resolution, which the VAF's length sets.
_PADDING = 4


def vibrational_density(vaf: Floats, *, time_step_fs: float) -> tuple[Floats, Floats]:
    """Cosine transform of a VAF under a Hann window.

    The window, cos^2(pi t / 2T), falls from 1 at t = 0 to 0 at T, the VAF's length; a line becomes
    1 / (T c) wide at half height (33 1/cm for T = 1000 fs).

    Args:
        vaf: (..., k) at times 0, dt, ..., (k - 1) dt.
        time_step_fs: dt.

    Returns:
        Wavenumbers (w,) in 1/cm from 0 to the Nyquist limit, and densities (..., w) in cm, of unit area
        by the trapezoid rule.
    """
    from scipy.fft import dct

    n_times = vaf.shape[-1]
    window = np.cos(0.5 * np.pi * np.arange(n_times) / n_times) ** 2
    size = _PADDING * n_times + 1
    padded = np.zeros((*vaf.shape[:-1], size))
    padded[..., :n_times] = vaf * window
    density = dct(padded, type=1, axis=-1)
    wavenumber = np.arange(size) / (2 * (size - 1) * time_step_fs * SPEED_OF_LIGHT_CM_FS)
    return wavenumber, density / np.trapezoid(density, wavenumber, axis=-1)[..., None]
