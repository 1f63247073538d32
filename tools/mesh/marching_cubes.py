"""A closed triangle surface where lattice values cross a level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from torch import Tensor

from fieldstone.core.errors import UserError

from .blocks import BLOCK, Lattice, SparseBlocks, evaluate, sample_blocks
from .cube_table import EDGES, triangle_table

__all__ = ["Surface", "extract_iso_surface", "march"]

# A vertex keeps this share of its edge from the edge's ends, so that no two coincide and no face is a point.
_MARGIN = 1e-6

_EDGE_CORNER = np.array([corner for corner, _ in EDGES])
_EDGE_AXIS = np.array([axis for _, axis in EDGES])


@dataclass(frozen=True)
class Surface:
    """Triangles, and the lattice edge each vertex lies on."""

    vertices: np.ndarray
    """(v, 3) float64, source frame."""
    faces: np.ndarray
    """(f, 3) int64; the right-hand normal points outside."""
    first: np.ndarray
    """(v, 3) int64 lattice index of the vertex's edge's lower end."""
    second: np.ndarray
    """(v, 3) int64 lattice index of its upper end."""
    share: np.ndarray
    """(v,) float64 in (0, 1): where between the two the vertex lies."""


def extract_iso_surface(
    density: Callable[[Tensor], Tensor],  # (n, 3) source frame -> (n,)
    box: np.ndarray,  # (2, 3) source frame
    resolution: int,
    level: float,
    occupied: Callable[[Tensor], Tensor] | None = None,  # (n, 3) -> (n,) bool
    sign: int = 1,
    refine: int = 0,
    progress: Callable[[float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # (v, 3) float64, (f, 3) int64
    """The surface `density == level` inside `box`, with `resolution` cells along its longest side.

    `sign` +1: inside is where the value is at least `level` (a density); -1: where it is at most `level` (a
    signed distance). `occupied` tells where values may be asked, the rest is outside (see
    `blocks.sample_blocks`); use it with densities only. `refine` > 0 moves each vertex along its lattice edge
    by that many root-finding steps on the true field, which matters for densities, as they rise by orders of
    magnitude within a cell and linear interpolation then leaves stairs. Where the surface leaves the box the
    mesh is open; nothing is invented there. Not differentiable. Raises UserError when there is no surface at
    this level.
    """
    if occupied is not None and (sign < 0 or level <= 0):
        raise UserError(
            f"level {level:.4g}: skipping what is not occupied needs a density and a level above 0"
        )
    lattice = Lattice.in_box(box, resolution)
    outside = 0.0 if sign > 0 else np.inf
    blocks = sample_blocks(density, lattice, occupied, absent=outside, progress=progress)
    surface = march(blocks, level, sign)
    if not len(surface.faces):
        raise UserError(_nothing(blocks, lattice, level, sign))
    if refine:
        share = _refine(density, blocks, surface, level, sign, refine)
        return _between(lattice, surface.first, surface.second, share), surface.faces
    return surface.vertices, surface.faces


def march(blocks: SparseBlocks, level: float, sign: int = 1) -> Surface:
    """Marching cubes over held blocks with shared vertices (Lorensen and Cline 1987, with our own
    `cube_table`).

    A vertex is named by its lattice edge, an integer, so faces of neighbouring blocks meet in the same vertex
    exactly. Cells with an unknown (NaN) corner are skipped. The vertex order depends on nothing but the
    lattice.
    """
    counts, table = triangle_table()
    index = np.pad(blocks.index, 1, constant_values=-1)
    held = index >= 0
    near = (
        held.copy()
    )  # a cell belongs to the block of its lower corner, so lower neighbours have crossings too
    for axis in range(3):
        near |= np.roll(near, -1, axis)
    work = np.argwhere(near) - 1
    shape = np.array(blocks.lattice.shape)
    work = work[(work >= 0).all(1)]
    arguments = (
        work, blocks.index, blocks.values, np.float32(blocks.absent), shape,
        np.float32(level), sign > 0, counts,
    )  # fmt: skip
    number = _count(*arguments)
    ends = np.cumsum(number)
    keys = np.empty((int(ends[-1]) if len(ends) else 0, 3), np.int64)
    _fill(*arguments, table, _EDGE_CORNER, _EDGE_AXIS, ends - number, keys)
    unique, faces = np.unique(keys, return_inverse=True)
    axis, point = unique % 3, unique // 3
    first = np.column_stack(np.unravel_index(point, blocks.lattice.shape)).astype(np.int64)
    second = first + np.eye(3, dtype=np.int64)[axis]
    a, b = blocks.at(first).astype(np.float64), blocks.at(second).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num((level - a) / (b - a), nan=0.5)
    share = np.clip(share, _MARGIN, 1 - _MARGIN)
    vertices = _between(blocks.lattice, first, second, share)
    return Surface(vertices, faces.reshape(-1, 3), first, second, share)


def _between(lattice: Lattice, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return lattice.positions(first + share[:, None] * (second - first))


def _refine(
    density: Callable[[Tensor], Tensor],
    blocks: SparseBlocks,
    surface: Surface,
    level: float,
    sign: int,
    steps: int,
) -> np.ndarray:
    """Shares at which the field itself, not its linear interpolation, crosses the level.

    A bracketed false-position search on the logarithm of a density (which a learned density's network gives
    almost linearly), or on the value itself for a signed distance; each step keeps at least a tenth off
    either end.
    """

    def height(values: np.ndarray) -> np.ndarray:
        if sign > 0 and level > 0:
            return np.log(np.maximum(values.astype(np.float64), 1e-4 * level) / level)
        return values.astype(np.float64) - level

    low, high = np.zeros(len(surface.share)), np.ones(len(surface.share))
    at_low, at_high = height(blocks.at(surface.first)), height(blocks.at(surface.second))
    share = surface.share
    for _ in range(steps):
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.nan_to_num(at_low / (at_low - at_high), nan=0.5)
        share = low + np.clip(part, 0.1, 0.9) * (high - low)
        here = height(evaluate(density, _between(blocks.lattice, surface.first, surface.second, share)))
        with_low = (here >= 0) == (at_low >= 0)
        low, at_low = np.where(with_low, share, low), np.where(with_low, here, at_low)
        high, at_high = np.where(with_low, high, share), np.where(with_low, at_high, here)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.nan_to_num(at_low / (at_low - at_high), nan=0.5)
    return np.clip(low + np.clip(part, 0, 1) * (high - low), _MARGIN, 1 - _MARGIN)


def _nothing(blocks: SparseBlocks, lattice: Lattice, level: float, sign: int) -> str:
    corner = [
        np.round(lattice.positions(np.array(i)), 4).tolist() for i in ((0, 0, 0), np.array(lattice.shape) - 1)
    ]
    values = blocks.values[np.isfinite(blocks.values)]
    if not len(values):
        return f"no surface: nothing is occupied in the box {corner[0]} to {corner[1]}; give the scene's box"
    seen = f"values seen there run from {values.min():.4g} to {values.max():.4g}"
    advice = (
        "lower the level or check the box"
        if sign > 0 and values.max() < level
        else "change the level or the box"
    )
    return f"no surface at level {level:.4g} in the box {corner[0]} to {corner[1]}: {seen}; {advice}"


@numba.njit(cache=True, inline="always")
def _corner(index, values, absent, shape, i, j, k):
    if i >= shape[0] or j >= shape[1] or k >= shape[2]:
        return np.float32(np.nan)
    block = index[i // BLOCK, j // BLOCK, k // BLOCK]
    if block < 0:
        return absent
    return values[block, i % BLOCK, j % BLOCK, k % BLOCK]


@numba.njit(cache=True)
def _load(block, index, values, absent, shape, local):
    """Copies the block's points and the first layer of its upper neighbours; beyond the lattice is NaN."""
    for i in range(BLOCK + 1):
        for j in range(BLOCK + 1):
            for k in range(BLOCK + 1):
                local[i, j, k] = _corner(
                    index,
                    values,
                    absent,
                    shape,
                    block[0] * BLOCK + i,
                    block[1] * BLOCK + j,
                    block[2] * BLOCK + k,
                )


@numba.njit(cache=True, inline="always")
def _case(local, i, j, k, level, above):
    """Bits of the inside corners; 0 when a corner is unknown."""
    case = 0
    for c in range(8):
        value = local[i + (c & 1), j + (c >> 1 & 1), k + (c >> 2 & 1)]
        if np.isnan(value):
            return 0
        if (value >= level) if above else (value <= level):
            case |= 1 << c
    return case


@numba.njit(cache=True, parallel=True)
def _count(work, index, values, absent, shape, level, above, counts):
    number = np.zeros(len(work), np.int64)
    for b in numba.prange(len(work)):
        local = np.empty((BLOCK + 1, BLOCK + 1, BLOCK + 1), np.float32)
        _load(work[b], index, values, absent, shape, local)
        total = 0
        for i in range(BLOCK):
            for j in range(BLOCK):
                for k in range(BLOCK):
                    total += counts[_case(local, i, j, k, level, above)]
        number[b] = total
    return number


@numba.njit(cache=True, parallel=True)
def _fill(
    work, index, values, absent, shape, level, above, counts, table, edge_corner, edge_axis, starts, keys
):
    for b in numba.prange(len(work)):
        local = np.empty((BLOCK + 1, BLOCK + 1, BLOCK + 1), np.float32)
        _load(work[b], index, values, absent, shape, local)
        at = starts[b]
        for i in range(BLOCK):
            for j in range(BLOCK):
                for k in range(BLOCK):
                    case = _case(local, i, j, k, level, above)
                    for t in range(counts[case]):
                        for c in range(3):
                            edge = table[case, t, c]
                            corner = edge_corner[edge]
                            x = work[b, 0] * BLOCK + i + (corner & 1)
                            y = work[b, 1] * BLOCK + j + (corner >> 1 & 1)
                            z = work[b, 2] * BLOCK + k + (corner >> 2 & 1)
                            keys[at, c] = ((x * shape[1] + y) * shape[2] + z) * 3 + edge_axis[edge]
                        at += 1
