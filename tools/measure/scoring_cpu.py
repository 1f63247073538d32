"""The truncated cost of many hypotheses on one subset of points, compiled."""

from __future__ import annotations

import math

import numba
import numpy as np

from .minimal import Hypotheses
from .primitives import Primitive

__all__ = ["msac_costs"]


@numba.njit(cache=True)
def _score(h, code, x, y, z, origins, axes, sizes, cut2, out):
    """sum(min(distance^2, cut2)) of hypothesis h. Distances need z along the axis and the distance from it only."""
    ox, oy, oz = origins[h, 0], origins[h, 1], origins[h, 2]
    wx, wy, wz = axes[h, 0], axes[h, 1], axes[h, 2]
    s0, s1 = sizes[h, 0], sizes[h, 1]
    cosine, sine = math.cos(s1), math.sin(s1)
    cost = 0.0
    if code == 1:
        for i in range(x.size):
            height = (x[i] - ox) * wx + (y[i] - oy) * wy + (z[i] - oz) * wz
            cost += min(height * height, cut2)
        out[h] = cost
        return
    for i in range(x.size):
        dx, dy, dz = x[i] - ox, y[i] - oy, z[i] - oz
        height = dx * wx + dy * wy + dz * wz
        rho2 = max(dx * dx + dy * dy + dz * dz - height * height, 0.0)
        if code == 0:
            square = rho2
        else:
            rho = math.sqrt(rho2)
            if code == 4 or code == 7:
                square = (rho - s0) * (rho - s0)
            elif code == 3:
                d = math.sqrt(rho2 + height * height) - s0
                square = d * d
            elif code == 2:
                square = (rho - s0) * (rho - s0) + height * height
            elif code == 5:
                d = rho * cosine - height * sine - s0
                square = d * d
            else:
                d = math.sqrt((rho - s0) * (rho - s0) + height * height) - s1
                square = d * d
        cost += min(square, cut2)
    out[h] = cost


@numba.njit(cache=True, parallel=True)
def _score_all(code, x, y, z, origins, axes, sizes, cut2, out):
    for h in numba.prange(out.size):
        _score(h, code, x, y, z, origins, axes, sizes, cut2, out)


def msac_costs(
    primitive: Primitive,
    points: np.ndarray,  # (3, m) float64, contiguous
    found: Hypotheses,
    cut: float,
) -> np.ndarray:
    """(h,) sum over the points of min(distance^2, cut^2) (Torr and Zisserman, CVIU 78 (2000) 138)."""
    out = np.empty(len(found.origins))
    parts = [np.ascontiguousarray(part, np.float64) for part in found]
    _score_all(primitive.code, points[0], points[1], points[2], *parts, cut * cut, out)
    return out
