"""The total correlation function that neutron diffraction sees, with its finite range of Q."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .structure_factor import neutron_weights

Floats = NDArray[np.float64]

# The broadened function needs g(r) on both sides: the last half angstrom has only one.
_MARGIN_ANGSTROM = 0.5


def lorch_kernel(r: Floats, *, q_max: float) -> Floats:
    """What a line in real space becomes (1/A, unit area) after the Lorch window to `q_max` (1/A).

    P(r) = 1/pi int_0^Qmax sin(aQ)/(aQ) cos(Qr) dQ with a = pi/Qmax; full width at half height 5.44/Qmax.
    """
    from scipy.special import sici

    a = np.pi / q_max
    return (sici(q_max * (a + r))[0] + sici(q_max * (a - r))[0]) / (2 * np.pi * a)


def total_correlation(
    r: Floats, partials: Floats, *, n_si: int, n_o: int, volume_A3: float, q_max: float
) -> tuple[Floats, Floats]:
    """T(r) = 4 pi rho r sum w_ab g_ab(r), broadened as a measurement to `q_max` with the Lorch window is.

    D(r) = T(r) - 4 pi rho r is odd in r; it is convolved with the kernel, images at -r included, and
    the straight line, which the kernel leaves alone, is added again.

    Args:
        r: (n,) bin centres in A, equally spaced from half a bin.
        partials: (..., 3, n) g(r) of Si-Si, Si-O, O-O.
        n_si: silicon atoms.
        n_o: oxygen atoms.
        volume_A3: of the box.
        q_max: in 1/A.

    Returns:
        r (m,) up to half an angstrom below the end of the input, and T (..., m) in 1/A2 per unit mean
        scattering length squared (multiply by <b>^2 for barn/A2).
    """
    density = (n_si + n_o) / volume_A3
    total = np.einsum("p,...pn->...n", neutron_weights(n_si, n_o), partials)
    difference = 4 * np.pi * density * r * (total - 1)
    kept = r <= r[-1] - _MARGIN_ANGSTROM
    kernel = lorch_kernel(r[kept, None] - r, q_max=q_max) - lorch_kernel(r[kept, None] + r, q_max=q_max)
    broadened = difference @ (kernel * (r[1] - r[0])).T
    return r[kept], broadened + 4 * np.pi * density * r[kept]
