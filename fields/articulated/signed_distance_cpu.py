"""Nearest points and winding numbers on the CPU: one sweep over the faces for each point, in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from .signed_distance import Nearest

__all__ = ["nearest"]


@njit(cache=True)
def _edge(px, py, pz, ax, ay, az, bx, by, bz):
    """Share along an edge of the nearest point, and its squared distance."""
    wx, wy, wz = bx - ax, by - ay, bz - az
    length = wx * wx + wy * wy + wz * wz
    share = 0.0
    if length > 1e-30:
        share = min(max(((px - ax) * wx + (py - ay) * wy + (pz - az) * wz) / length, 0.0), 1.0)
    dx, dy, dz = ax + share * wx - px, ay + share * wy - py, az + share * wz - pz
    return share, dx * dx + dy * dy + dz * dz


@njit(cache=True)
def _look(i, points, corners, face, barycentric, winding):
    px, py, pz = points[i, 0], points[i, 1], points[i, 2]
    least, total = np.inf, 0.0
    for f in range(corners.shape[0]):
        ax, ay, az = corners[f, 0, 0], corners[f, 0, 1], corners[f, 0, 2]
        bx, by, bz = corners[f, 1, 0], corners[f, 1, 1], corners[f, 1, 2]
        cx, cy, cz = corners[f, 2, 0], corners[f, 2, 1], corners[f, 2, 2]
        ux, uy, uz = ax - px, ay - py, az - pz
        vx, vy, vz = bx - px, by - py, bz - pz
        wx, wy, wz = cx - px, cy - py, cz - pz
        lu, lv = math.sqrt(ux * ux + uy * uy + uz * uz), math.sqrt(vx * vx + vy * vy + vz * vz)
        lw = math.sqrt(wx * wx + wy * wy + wz * wz)
        triple = ux * (vy * wz - vz * wy) + uy * (vz * wx - vx * wz) + uz * (vx * wy - vy * wx)
        uv, vw, wu = ux * vx + uy * vy + uz * vz, vx * wx + vy * wy + vz * wz, wx * ux + wy * uy + wz * uz
        total += math.atan2(triple, lu * lv * lw + uv * lw + vw * lu + wu * lv)
        e1x, e1y, e1z = bx - ax, by - ay, bz - az
        e2x, e2y, e2z = cx - ax, cy - ay, cz - az
        d00 = e1x * e1x + e1y * e1y + e1z * e1z
        d01 = e1x * e2x + e1y * e2y + e1z * e2z
        d11 = e2x * e2x + e2y * e2y + e2z * e2z
        area = d00 * d11 - d01 * d01
        if area > 1e-12 * d00 * d11:
            d20 = -(ux * e1x + uy * e1y + uz * e1z)
            d21 = -(ux * e2x + uy * e2y + uz * e2z)
            v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
            if v >= 0 and w >= 0 and v + w <= 1:
                dx, dy, dz = ux + v * e1x + w * e2x, uy + v * e1y + w * e2y, uz + v * e1z + w * e2z
                square = dx * dx + dy * dy + dz * dz
                if square < least:
                    least = square
                    face[i] = f
                    barycentric[i, 0], barycentric[i, 1], barycentric[i, 2] = 1 - v - w, v, w
                continue
        share, square = _edge(px, py, pz, ax, ay, az, bx, by, bz)
        if square < least:
            least = square
            face[i] = f
            barycentric[i, 0], barycentric[i, 1], barycentric[i, 2] = 1 - share, share, 0.0
        share, square = _edge(px, py, pz, bx, by, bz, cx, cy, cz)
        if square < least:
            least = square
            face[i] = f
            barycentric[i, 0], barycentric[i, 1], barycentric[i, 2] = 0.0, 1 - share, share
        share, square = _edge(px, py, pz, cx, cy, cz, ax, ay, az)
        if square < least:
            least = square
            face[i] = f
            barycentric[i, 0], barycentric[i, 1], barycentric[i, 2] = share, 0.0, 1 - share
    winding[i] = total / (2 * math.pi)


@njit(parallel=True, cache=True)
def _look_all(points, corners, face, barycentric, winding):
    for i in prange(points.shape[0]):
        _look(i, points, corners, face, barycentric, winding)


def nearest(points: Tensor, vertices: Tensor, faces: Tensor) -> Nearest:
    """See `signed_distance.nearest`."""
    given = points.detach().double().contiguous().numpy()
    corners = vertices.detach().double()[faces].contiguous().numpy()
    face = np.zeros(len(given), np.int64)
    barycentric, winding = np.zeros((len(given), 3)), np.zeros(len(given))
    _look_all(given, corners, face, barycentric, winding)
    return Nearest(
        torch.from_numpy(face),
        torch.from_numpy(barycentric).to(points.dtype),
        torch.from_numpy(winding).to(points.dtype),
    )
