"""The box around a point array and whether all of it is finite, in one pass."""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["bounds"]

_CHUNK = 65536


@numba.njit(cache=True)
def _chunk(c, points, out):
    lx = ly = lz = math.inf
    hx = hy = hz = -math.inf
    broken = 0.0
    for i in range(c * _CHUNK, min((c + 1) * _CHUNK, points.shape[0])):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        broken += 0.0 if abs(x) + abs(y) + abs(z) < math.inf else 1.0
        lx, ly, lz = min(lx, x), min(ly, y), min(lz, z)
        hx, hy, hz = max(hx, x), max(hy, y), max(hz, z)
    out[c, 0], out[c, 1], out[c, 2] = lx, ly, lz
    out[c, 3], out[c, 4], out[c, 5], out[c, 6] = hx, hy, hz, broken


@numba.njit(cache=True, parallel=True)
def _chunks(points, out):
    for c in numba.prange(out.shape[0]):
        _chunk(c, points, out)


def bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:  # (n, 3) float64, contiguous
    """Lowest (3,) and highest (3,) corner, and the number of points that are not finite (corners mean nothing then)."""
    out = np.empty((max(1, -(-len(points) // _CHUNK)), 7))
    if len(out) == 1:
        _chunk(0, points, out)
    else:
        _chunks(points, out)
    return out[:, :3].min(axis=0), out[:, 3:6].max(axis=0), int(out[:, 6].sum())
