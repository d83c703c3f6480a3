"""What neutrons see: partial structure factors, by a sum over the wave vectors of the box, and T(r)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The broadened function needs g(r) on both sides: the last half angstrom has only one.
_MARGIN_ANGSTROM = 0.5
# Coherent neutron scattering lengths in fm (rows neutron-length-Si and -O of reference/experiment).
NEUTRON_LENGTH_FM = (4.1491, 5.803)


def neutron_weights(n_si: int, n_o: int) -> Floats:
    """Faber-Ziman neutron weights (3,) of Si-Si, Si-O and O-O; they add up to 1."""
    c = np.array([n_si, n_o]) / (n_si + n_o) * np.array(NEUTRON_LENGTH_FM)
    return np.array([c[0] ** 2, 2 * c[0] * c[1], c[1] ** 2]) / c.sum() ** 2


def count_wave_vectors(cell: Floats, *, q_max: float) -> int:
    """About how many wave vectors (1/A) `structure_factor_sums` visits: half a sphere."""
    return int(2 / 3 * np.pi * q_max**3 * np.prod(cell) / (2 * np.pi) ** 3)


def structure_factor_sums(
    positions: Floats, types: Integers, cell: Floats, *, q_max: float, q_bin: float
) -> tuple[Floats, Floats, Floats]:
    """Sum Re rho_a(q) rho_b*(q) over all wave vectors of the box up to q_max, by shell of |q|.

    Args:
        positions: (F, N, 3) in A, wrapped or not.
        types: (N,) 0 for Si, 1 for O.
        cell: (3,) edges in A.
        q_max: in 1/A.
        q_bin: width of a shell in 1/A.

    Returns:
        `products` (3, n) of Si-Si, Si-O, O-O, `vectors` (n,) how many entered (frames times wave vectors)
        and `q` (n,) their mean length in 1/A; shells without a wave vector hold 0, 0 and nan.
    """
    n_bins = int(np.ceil(q_max / q_bin))
    products = np.zeros((3, n_bins))
    vectors = np.zeros(n_bins)
    lengths = np.zeros(n_bins)
    spacing = 2 * np.pi / np.asarray(cell, float)
    highest = np.floor(q_max / spacing).astype(int)
    n_yz = (2 * highest[1] + 1, 2 * highest[2] + 1)
    q_y = spacing[1] * np.arange(-highest[1], highest[1] + 1)
    q_z = spacing[2] * np.arange(-highest[2], highest[2] + 1)
    q_yz = q_y[:, None] ** 2 + q_z[None, :] ** 2
    # q and -q give the same: half the space is enough. In the plane x = 0, half that plane.
    half_plane = (np.arange(n_yz[0])[:, None] > highest[1]) | (
        (np.arange(n_yz[0])[:, None] == highest[1]) & (np.arange(n_yz[1])[None, :] > highest[2])
    )
    for frame in positions:
        tables = [_phases(frame[types == s], spacing=spacing, highest=highest) for s in (0, 1)]
        for step in range(highest[0] + 1):
            length = np.sqrt(q_yz + (spacing[0] * step) ** 2)
            inside = length < q_max
            if step == 0:
                inside &= half_plane
            if not inside.any():
                continue
            # Only the rows of y and the columns of z that hold a wave vector inside the sphere.
            in_rows = np.flatnonzero(inside.any(axis=1))
            rows = slice(in_rows[0], in_rows[-1] + 1)
            reach = np.abs(np.flatnonzero(inside.any(axis=0)) - highest[2]).max()
            columns = slice(highest[2] - reach, highest[2] + reach + 1)
            chosen, length = inside[rows, columns], length[rows, columns]
            si, o = (_sums(x[:, step, None] * y[:, rows], z[:, :, : reach + 1])[chosen] for x, y, z in tables)
            length = length[chosen]
            shell = np.minimum((length / q_bin).astype(int), n_bins - 1)
            for row, value in enumerate((abs(si) ** 2, (si * o.conj()).real, abs(o) ** 2)):
                products[row] += np.bincount(shell, value, minlength=n_bins)
            vectors += np.bincount(shell, minlength=n_bins)
            lengths += np.bincount(shell, length, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return products, vectors, lengths / vectors


def _phases(
    positions: Floats, *, spacing: Floats, highest: Integers
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], Floats]:
    """exp(i q x) for q from 0 on, exp(i q y) for q of both signs, and cos and sin of q z for q from 0 on."""
    x, y, z = (
        np.outer(positions[:, axis], spacing[axis] * np.arange(low, highest[axis] + 1))
        for axis, low in enumerate((0, -highest[1], 0))
    )
    return np.exp(1j * x), np.exp(1j * y), np.stack([np.cos(z), np.sin(z)], axis=1)


def _sums(phase: NDArray[np.complex128], z: Floats) -> NDArray[np.complex128]:
    """Sum over atoms of phase (N, rows) times exp(i q z), q of both signs from cos and sin (N, 2, m) of one.

    The product of real matrices takes half the time of the complex one: q and -q share their cosine and sine.
    """
    n_atoms, rows = phase.shape
    real = phase.view(float).T @ z.reshape(n_atoms, -1)
    parts = real.reshape(rows, 2, 2, -1)  # real and imaginary part of the phase, times cos and sin
    of_cos, of_sin = (parts[:, 0, k] + 1j * parts[:, 1, k] for k in (0, 1))
    return np.concatenate([(of_cos - 1j * of_sin)[:, :0:-1], of_cos + 1j * of_sin], axis=1)


def faber_ziman(products: Floats, vectors: Floats, *, n_si: int, n_o: int) -> Floats:
    """Faber-Ziman partials of the sums of `structure_factor_sums`; 1 for an ideal gas.

    With A_ab = <rho_a rho_b*> / N, S_ab = 1 + (A_ab - d_ab c_a) / (c_a c_b). The sum over partials with
    the weights of `neutron_weights` is the Faber-Ziman total, S(Q) = 1 + sum w_ab (S_ab - 1).

    Args:
        products: (3, n) of Si-Si, Si-O, O-O, summed over frames and wave vectors.
        vectors: (n,) how many entered.
        n_si: silicon atoms of a frame.
        n_o: oxygen atoms of a frame.

    Returns:
        (4, n): Si-Si, Si-O, O-O, and their neutron-weighted sum; nan in shells without a wave vector.
    """
    n = n_si + n_o
    c_si, c_o = n_si / n, n_o / n
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = products / vectors / n
        partial = np.array(
            [
                1 + (mean[0] - c_si) / c_si**2,
                1 + mean[1] / (c_si * c_o),
                1 + (mean[2] - c_o) / c_o**2,
            ]
        )
    return np.concatenate([partial, (neutron_weights(n_si, n_o) @ partial)[None]])


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
