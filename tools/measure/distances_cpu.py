"""Distances to a primitive, compiled: of every point, or only what a fit needs to know of them.

`residuals_reference.residuals` is the judge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from .frame import Frame
from .primitives import Primitive

__all__ = ["Sides", "classify", "signed"]

_CHUNK = 16384
_NO_WEIGHTS = np.zeros(0)


@numba.njit(cache=True, inline="always")
def _signed(code, x, y, z, s0, s1, cosine, sine):
    """The signed distance; of a curve the (unsigned) distance."""
    if code == 1:
        return z
    rho = math.sqrt(x * x + y * y)
    if code == 0:
        return rho
    if code == 4 or code == 7:
        return rho - s0
    if code == 5:
        return rho * cosine - z * sine - s0
    if code == 3:
        return math.sqrt(rho * rho + z * z) - s0
    d = math.sqrt((rho - s0) * (rho - s0) + z * z)
    return d if code == 2 else d - s1


@numba.njit(cache=True)
def _signed_chunk(c, code, points, origin, axes, sizes, out):
    cosine, sine = math.cos(sizes[1]), math.sin(sizes[1])
    for i in range(c * _CHUNK, min((c + 1) * _CHUNK, points.shape[0])):
        px, py, pz = points[i, 0] - origin[0], points[i, 1] - origin[1], points[i, 2] - origin[2]
        x = axes[0, 0] * px + axes[0, 1] * py + axes[0, 2] * pz
        y = axes[1, 0] * px + axes[1, 1] * py + axes[1, 2] * pz
        z = axes[2, 0] * px + axes[2, 1] * py + axes[2, 2] * pz
        out[i] = _signed(code, x, y, z, sizes[0], sizes[1], cosine, sine)


@numba.njit(cache=True, parallel=True)
def _signed_chunks(chunks, code, points, origin, axes, sizes, out):
    for c in numba.prange(chunks):
        _signed_chunk(c, code, points, origin, axes, sizes, out)


def signed(primitive: Primitive, points: np.ndarray, frame: Frame) -> np.ndarray:
    """(n,) signed distance to a surface, positive outside; the distance to a curve (line, circle)."""
    out = np.empty(len(points))
    chunks = -(-len(points) // _CHUNK)
    arguments = (primitive.code, points, frame.origin, frame.axes, frame.sizes, out)
    if chunks <= 1:
        _signed_chunk(0, *arguments)
    else:
        _signed_chunks(chunks, *arguments)
    return out


class Sides(NamedTuple):
    """What lies within a cut, and just outside it."""

    inside: np.ndarray  # (n,) bool
    used: int
    band: int  # points between cut and twice the cut
    squares: float  # sum of the squared distances inside, unweighted
    lowest: float  # signed distances inside
    highest: float


@numba.njit(cache=True)
def _classify_chunk(c, code, points, weights, origin, axes, sizes, cut, inside, out):
    cosine, sine = math.cos(sizes[1]), math.sin(sizes[1])
    used = band = squares = 0.0
    lowest, highest = math.inf, -math.inf
    ox, oy, oz, s0, s1 = origin[0], origin[1], origin[2], sizes[0], sizes[1]
    ux, uy, uz = axes[0, 0], axes[0, 1], axes[0, 2]
    vx, vy, vz = axes[1, 0], axes[1, 1], axes[1, 2]
    wx, wy, wz = axes[2, 0], axes[2, 1], axes[2, 2]
    for i in range(c * _CHUNK, min((c + 1) * _CHUNK, points.shape[0])):
        px, py, pz = points[i, 0] - ox, points[i, 1] - oy, points[i, 2] - oz
        z = wx * px + wy * py + wz * pz
        if code == 1:
            r = z
        else:
            x, y = ux * px + uy * py + uz * pz, vx * px + vy * py + vz * pz
            r = _signed(code, x, y, z, s0, s1, cosine, sine)
        d = abs(r) * weights[i] if weights.size else abs(r)
        keep = d <= cut
        inside[i] = keep
        used += 1.0 if keep else 0.0
        band += 1.0 if d <= 2.0 * cut else 0.0
        squares += r * r if keep else 0.0
        lowest = min(lowest, r if keep else math.inf)
        highest = max(highest, r if keep else -math.inf)
    out[c, 0], out[c, 1], out[c, 2], out[c, 3], out[c, 4] = used, band - used, squares, lowest, highest


@numba.njit(cache=True, parallel=True)
def _classify_chunks(code, points, weights, origin, axes, sizes, cut, inside, out):
    for c in numba.prange(out.shape[0]):
        _classify_chunk(c, code, points, weights, origin, axes, sizes, cut, inside, out)


def classify(
    primitive: Primitive,
    points: np.ndarray,
    frame: Frame,
    cut: float,
    weights: np.ndarray | None = None,  # (n,): distances are multiplied by it before the comparison
) -> Sides:
    """Which points lie within `cut`, in one pass."""
    inside = np.empty(len(points), np.bool_)
    out = np.empty((max(1, -(-len(points) // _CHUNK)), 5))
    weights = _NO_WEIGHTS if weights is None else weights
    arguments = (primitive.code, points, weights, frame.origin, frame.axes, frame.sizes, cut, inside, out)
    if len(out) == 1:
        _classify_chunk(0, *arguments)
    else:
        _classify_chunks(*arguments)
    used, band, squares = out[:, :3].sum(axis=0)
    return Sides(
        inside, round(used), round(band), float(squares), float(out[:, 3].min()), float(out[:, 4].max())
    )
