"""Adding one view to the voxels of a truncated signed distance field.

Pinholes, which is what rendered views mostly are, project inside the kernel: one pass over the sums, 24 bytes a voxel, and no
arrays of points. Other lenses hand in the pixels of every point.
"""

from __future__ import annotations

import numba
import numpy as np

from .blocks import BLOCK

__all__ = ["integrate_pinhole", "integrate_points"]


@numba.njit(cache=True)
def _distance_at(distance, x, y, jump):
    """Ray distance at pixel position (x, y): bilinear over pixel centres, nearest where they differ by over
    `jump`.
    """
    height, width = distance.shape
    nearest = distance[min(int(y), height - 1), min(int(x), width - 1)]
    j0, i0 = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    if nearest <= 0 or j0 < 0 or i0 < 0 or j0 + 1 >= width or i0 + 1 >= height:
        return nearest
    a, b = distance[i0, j0], distance[i0, j0 + 1]
    c, d = distance[i0 + 1, j0], distance[i0 + 1, j0 + 1]
    low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
    if low <= 0 or high - low > jump:
        return nearest
    u, v = x - 0.5 - j0, y - 0.5 - i0
    return (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v


@numba.njit(cache=True)
def _add(x, y, reach, distance, opacity, trust, colour, truncation, voxel, sums, colour_sums):
    """One sighting of a voxel at pixel (x, y), which is `reach` away from the camera; sums (2,), colour_sums (4,)."""
    height, width = distance.shape
    row, column = min(int(y), height - 1), min(int(x), width - 1)
    solid = opacity[row, column]
    surface = _distance_at(distance, x, y, truncation)
    if surface <= 0:  # this ray hits nothing
        free = (1 - solid) * trust[row, column]
        sums[0] += free
        sums[1] += free
        return
    signed = surface - reach
    if signed <= -truncation:
        return
    weight = solid * trust[row, column]
    if signed < -voxel and truncation > voxel:
        weight *= (truncation + signed) / (truncation - voxel)
    sums[0] += weight
    sums[1] += weight * min(1.0, signed / truncation)
    if signed < truncation:
        colour_sums[0] += weight
        for c in range(3):
            colour_sums[c + 1] += weight * colour[row, column, c] / 255


@numba.njit(cache=True, parallel=True)
def integrate_pinhole(
    chosen,  # (k,) int64 blocks that the view may see
    first,  # (b, 3) float64 position of each block's first point, camera space
    steps,  # (3, 3) float64: rows are one voxel's step along the lattice's axes, camera space
    counts,  # (b, 3) int64 points of each block that lie in the lattice
    lens,  # (4,) float64 fx, fy, cx, cy
    distance, opacity, trust, colour,  # the picture, see tsdf._Picture
    truncation, voxel,
    sums,  # (b, BLOCK^3, 2) float32
    colour_sums,  # (b, BLOCK^3, 4) float32
):  # fmt: skip
    """Adds one pinhole view to the blocks `chosen`."""
    height, width = distance.shape
    for task in numba.prange(len(chosen) * BLOCK):
        block, i = chosen[task // BLOCK], task % BLOCK
        if i >= counts[block, 0]:
            continue
        for j in range(counts[block, 1]):
            for k in range(counts[block, 2]):
                px = first[block, 0] + i * steps[0, 0] + j * steps[1, 0] + k * steps[2, 0]
                py = first[block, 1] + i * steps[0, 1] + j * steps[1, 1] + k * steps[2, 1]
                pz = first[block, 2] + i * steps[0, 2] + j * steps[1, 2] + k * steps[2, 2]
                if pz <= 0:
                    continue
                x, y = lens[0] * px / pz + lens[2], lens[1] * py / pz + lens[3]
                if not (x >= 0 and y >= 0 and x < width and y < height):
                    continue
                reach = np.sqrt(px * px + py * py + pz * pz)
                p = (i * BLOCK + j) * BLOCK + k
                _add(
                    x, y, reach, distance, opacity, trust, colour, truncation, voxel,
                    sums[block, p], colour_sums[block, p],
                )  # fmt: skip


@numba.njit(cache=True, parallel=True)
def integrate_points(
    inside,  # (m,) int64 points of one block
    pixels,  # (m, 2) float64; NaN: no image
    reach,  # (m,) float64 distance from the camera
    distance, opacity, trust, colour,
    truncation, voxel,
    sums,  # (BLOCK^3, 2) float32
    colour_sums,  # (BLOCK^3, 4) float32
):  # fmt: skip
    """Adds one view of any lens to one block."""
    height, width = distance.shape
    for n in numba.prange(len(inside)):
        p = inside[n]
        x, y = pixels[n, 0], pixels[n, 1]
        if x >= 0 and y >= 0 and x < width and y < height:  # not when NaN
            _add(x, y, reach[n], distance, opacity, trust, colour, truncation, voxel, sums[p], colour_sums[p])
