"""How far a ray may jump from an empty cell: a table that marching reads in one look-up."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

__all__ = ["LARGEST", "skips"]

LARGEST = 5
"""The largest jump leaves an empty cube of 2^(LARGEST - 1) cells, at most a quarter of the grid."""


@njit(cache=True)
def _pool_plane(fine, x, coarse):
    for y in range(coarse.shape[1]):
        for z in range(coarse.shape[2]):
            found = np.uint8(0)
            for i in range(2):
                for j in range(2):
                    found |= fine[2 * x + i, 2 * y + j, 2 * z] | fine[2 * x + i, 2 * y + j, 2 * z + 1]
            coarse[x, y, z] = found


@njit(cache=True, parallel=True)
def _pool(fine, coarse):
    for x in prange(coarse.shape[0]):
        _pool_plane(fine, x, coarse)


@njit(cache=True)
def _refine_plane(occupied, x, above, number, out):
    for y in range(occupied.shape[1]):
        for z in range(occupied.shape[2] // 2):
            skip = max(above[x // 2, y // 2, z], number)
            for k in (2 * z, 2 * z + 1):
                out[x, y, k] = np.uint8(0) if occupied[x, y, k] else skip


@njit(cache=True, parallel=True)
def _refine(occupied, above, number, out):
    for x in prange(occupied.shape[0]):
        _refine_plane(occupied, x, above, number, out)


def skips(
    cells: np.ndarray,  # (cascades, r, r, r) bool
) -> np.ndarray:  # (cascades, r, r, r) uint8
    """0 where a cell is occupied, else k >= 1: the aligned cube of 2^(k - 1) cells round it is empty, and none larger is."""
    out = np.empty(cells.shape, np.uint8)
    for occupied, found in zip(cells.view(np.uint8), out):
        levels = [occupied]
        # cubes end at a quarter of the grid, where the next finer cascade begins
        while len(levels) < LARGEST and len(levels[-1]) % 2 == 0 and len(levels[-1]) >= 8:
            coarse = np.empty([n // 2 for n in levels[-1].shape], np.uint8)
            _pool(levels[-1], coarse)
            levels.append(coarse)
        above = np.where(levels[-1] != 0, 0, len(levels)).astype(np.uint8)
        for number in range(len(levels) - 1, 0, -1):
            target = found if number == 1 else np.empty(levels[number - 1].shape, np.uint8)
            _refine(levels[number - 1], above, np.uint8(number), target)
            above = target
    return out
