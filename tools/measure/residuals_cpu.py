"""Residuals and normal equations of the primitives, compiled: one pass over the points, nothing stored.

`residuals_reference` is the judge.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from .frame import Frame
from .primitives import Primitive

__all__ = ["normal_equations"]

_CHUNK = 16384
_NO_WEIGHTS = np.zeros(0)


@numba.njit(cache=True, inline="always")
def _row(code, x, y, z, s0, s1, cosine, sine, r, j):
    """Residual(s) into r (2,), their derivatives into j (2, 7), for one point in local coordinates."""
    if code == 1:
        r[0] = z
        j[0, 0], j[0, 1], j[0, 2] = -1.0, x, y
        return
    if code == 0:
        r[0], r[1] = x, y
        j[0, 0], j[0, 2] = -1.0, -z
        j[1, 1], j[1, 3] = -1.0, -z
        return
    rho = math.sqrt(x * x + y * y)
    turn = 1.0 / rho if rho > 0.0 else 0.0
    ux, uy = x * turn, y * turn
    if code == 4:
        r[0] = rho - s0
        j[0, 0], j[0, 1], j[0, 2], j[0, 3], j[0, 4] = -ux, -uy, -ux * z, -uy * z, -1.0
    elif code == 7:
        r[0] = rho - s0
        j[0, 0], j[0, 1], j[0, 2] = -ux, -uy, -1.0
    elif code == 5:
        r[0] = rho * cosine - z * sine - s0
        j[0, 0], j[0, 1] = -ux * cosine, -uy * cosine
        j[0, 2] = -ux * z * cosine - x * sine
        j[0, 3] = -uy * z * cosine - y * sine
        j[0, 4], j[0, 5] = -1.0, -rho * sine - z * cosine
    elif code == 3:
        d = math.sqrt(rho * rho + z * z)
        inverse = 1.0 / d if d > 0.0 else 0.0
        r[0] = d - s0
        j[0, 0], j[0, 1], j[0, 2], j[0, 3] = -x * inverse, -y * inverse, -z * inverse, -1.0
    elif code == 2:
        r[0], r[1] = rho - s0, z
        j[0, 0], j[0, 1], j[0, 3], j[0, 4], j[0, 5] = -ux, -uy, -ux * z, -uy * z, -1.0
        j[1, 2], j[1, 3], j[1, 4] = -1.0, x, y
    else:
        d = math.sqrt((rho - s0) * (rho - s0) + z * z)
        inverse = 1.0 / d if d > 0.0 else 0.0
        across, along = (rho - s0) * inverse, z * inverse
        r[0] = d - s1
        j[0, 0], j[0, 1], j[0, 2] = -ux * across, -uy * across, -along
        j[0, 3] = -ux * z * across + x * along
        j[0, 4] = -uy * z * across + y * along
        j[0, 5], j[0, 6] = -across, -1.0


@numba.njit(cache=True)
def _accumulate(code, k, dimensions, points, weights, origin, axes, sizes, cut2, out):
    """Adds to out: k * k of J^T J (upper triangle), k of J^T r, sum of squares, count."""
    r, j = np.zeros(2), np.zeros((2, 7))
    total = np.zeros(k * k + k + 2)
    cosine, sine = math.cos(sizes[1]), math.sin(sizes[1])
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0] - origin[0], points[i, 1] - origin[1], points[i, 2] - origin[2]
        x = axes[0, 0] * px + axes[0, 1] * py + axes[0, 2] * pz
        y = axes[1, 0] * px + axes[1, 1] * py + axes[1, 2] * pz
        z = axes[2, 0] * px + axes[2, 1] * py + axes[2, 2] * pz
        _row(code, x, y, z, sizes[0], sizes[1], cosine, sine, r, j)
        square = r[0] * r[0]
        if dimensions == 2:
            square += r[1] * r[1]
        weight = 1.0
        if weights.size:
            weight = weights[i] * weights[i]
            square *= weight
        if not square <= cut2:
            continue
        for row in range(dimensions):
            for a in range(k):
                ja = j[row, a] * weight
                total[k * k + a] += ja * r[row]
                for b in range(a, k):
                    total[a * k + b] += ja * j[row, b]
        total[k * k + k] += square
        total[k * k + k + 1] += 1.0
    for i in range(total.size):
        out[i] = total[i]


# Sums may be reordered, so that they are taken in vectors; a NaN still fails the comparison with the cut.
@numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _accumulate_plane(points, origin, axes, cut2, out):
    """`_accumulate` for an unweighted plane: the moments of the points within the cut, without a branch."""
    n = sx = sy = sz = sxx = sxy = syy = sxz = syz = szz = 0.0
    ox, oy, oz = origin[0], origin[1], origin[2]
    ux, uy, uz = axes[0, 0], axes[0, 1], axes[0, 2]
    vx, vy, vz = axes[1, 0], axes[1, 1], axes[1, 2]
    wx, wy, wz = axes[2, 0], axes[2, 1], axes[2, 2]
    for i in range(points.shape[0]):
        px, py, pz = points[i, 0] - ox, points[i, 1] - oy, points[i, 2] - oz
        z = wx * px + wy * py + wz * pz
        keep = 1.0 if z * z <= cut2 else 0.0
        x = (ux * px + uy * py + uz * pz) * keep
        y = (vx * px + vy * py + vz * pz) * keep
        z = z * keep
        n += keep
        sx += x
        sy += y
        sz += z
        sxx += x * x
        sxy += x * y
        syy += y * y
        sxz += x * z
        syz += y * z
        szz += z * z
    out[0], out[1], out[2] = n, -sx, -sy
    out[4], out[5], out[8] = sxx, sxy, syy
    out[9], out[10], out[11] = -sz, sxz, syz
    out[12], out[13] = szz, n


@numba.njit(cache=True)
def _chunk(c, chunk, code, k, dimensions, points, weights, origin, axes, sizes, cut2, out):
    part = points[c * chunk : (c + 1) * chunk]
    if code == 1 and weights.size == 0:
        _accumulate_plane(part, origin, axes, cut2, out[c])
    else:
        _accumulate(
            code, k, dimensions, part, weights[c * chunk : (c + 1) * chunk], origin, axes, sizes, cut2, out[c]
        )


@numba.njit(cache=True, parallel=True)
def _all_chunks(chunk, code, k, dimensions, points, weights, origin, axes, sizes, cut2, out):
    for c in numba.prange(out.shape[0]):
        _chunk(c, chunk, code, k, dimensions, points, weights, origin, axes, sizes, cut2, out)


def normal_equations(
    primitive: Primitive,
    points: np.ndarray,  # (n, 3) float64, contiguous
    frame: Frame,
    cut: float,
    weights: np.ndarray | None = None,  # (n,)
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """As `residuals_reference.normal_equations`. The sum over points does not depend on the number of threads."""
    k = len(primitive.unknowns)
    out = np.zeros((max(1, -(-len(points) // _CHUNK)), k * k + k + 2))
    weights = _NO_WEIGHTS if weights is None else weights
    arguments = (
        primitive.code,
        k,
        primitive.dimensions,
        points,
        weights,
        frame.origin,
        frame.axes,
        frame.sizes,
    )
    if len(out) == 1:
        _chunk(0, _CHUNK, *arguments, cut * cut, out)
    else:
        _all_chunks(_CHUNK, *arguments, cut * cut, out)
    total = out.sum(axis=0)
    square = np.triu(total[: k * k].reshape(k, k))
    return square + np.triu(square, 1).T, total[k * k : -2], float(total[-2]), round(total[-1])
