"""Time correlation over many origins by FFT, in double precision and zero-padded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def correlation_sums(whole: Floats, *, n_origins: int, n_lags: int, workers: int = 1) -> Floats:
    """Sum over origins and series of x(t0) x(t0 + lag).

    The spectra of all series are added before the one transform back, so the cost is one forward
    transform per series (two if not every sample is an origin).

    Args:
        whole: (T, M) samples in time order of M series.
        n_origins: the first `n_origins` samples are origins; 1 to T.
        n_lags: lags 0 to n_lags - 1; lags that leave `whole` count what remains.
        workers: threads of the FFT.

    Returns:
        (n_lags,) sums, each over M series and min(n_origins, T - lag) origins.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    length = len(whole)
    n_lags_here = min(n_lags, length)
    size = next_fast_len(max(length, n_origins + n_lags_here - 1), real=True)
    series = np.ascontiguousarray(whole.T, dtype=float)
    spectrum = rfft(series, size, axis=1, workers=workers)
    if n_origins == length:
        power = np.einsum("mf,mf->f", spectrum.real, spectrum.real)
        power += np.einsum("mf,mf->f", spectrum.imag, spectrum.imag)
        total = irfft(power, size)[:n_lags_here]
    else:
        heads = rfft(series[:, :n_origins], size, axis=1, workers=workers)
        total = irfft(np.einsum("mf,mf->f", heads.conj(), spectrum), size)[:n_lags_here]
    return np.pad(total, (0, n_lags - n_lags_here))
