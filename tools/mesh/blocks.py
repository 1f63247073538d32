"""Values on a regular lattice of which only some blocks are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["BATCH", "BLOCK", "Lattice", "SparseBlocks", "evaluate", "sample_blocks"]

BLOCK = 32
"""Lattice points along the side of a block."""

BATCH = 1 << 18
"""Points given to a field at once."""

MOST_PROBES = 256
"""Occupancy is asked on at most about this many points along the longest side."""


@dataclass(frozen=True)
class Lattice:
    """Points `origin + voxel * (i, j, k)` for 0 <= (i, j, k) < shape, in the source frame."""

    origin: np.ndarray
    """(3,) float64, source frame."""
    voxel: float
    """Distance of neighbouring points, source units; the same along each axis."""
    shape: tuple[int, int, int]
    """Points along x, y and z: one more than cells."""

    @staticmethod
    def in_box(box: np.ndarray, resolution: int) -> Lattice:
        """Covers `box` (2, 3) with cubic cells, `resolution` of them along its longest side.

        Along the other sides the number of cells is rounded up and the excess is shared by both ends.
        Raises UserError for a box without volume or a resolution outside 2..4096.
        """
        box = np.asarray(box, np.float64)
        if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[1] > box[0]).all():
            raise UserError(f"mesh box {box.tolist()}: need two corners (2, 3), finite, lower below upper")
        if not 2 <= int(resolution) <= 4096:
            raise UserError(f"mesh resolution {resolution}: give 2 to 4096 cells along the longest side")
        size = box[1] - box[0]
        voxel = float(size.max()) / int(resolution)
        cells = np.maximum(np.ceil(size / voxel - 1e-9), 1).astype(int)
        origin = (box[0] + box[1]) / 2 - cells * voxel / 2
        return Lattice(origin, voxel, tuple(int(n) + 1 for n in cells))

    def positions(self, indices: np.ndarray) -> np.ndarray:
        """(n, 3) float64 source positions of lattice `indices` (n, 3)."""
        return self.origin + self.voxel * np.asarray(indices, np.float64)

    def block_grid(self) -> tuple[int, int, int]:
        """Blocks along each axis."""
        return tuple(-(-n // BLOCK) for n in self.shape)


@dataclass(frozen=True)
class SparseBlocks:
    """Lattice values in blocks of BLOCK^3 points; each lattice point is held once, so neighbours cannot
    disagree.
    """

    lattice: Lattice
    coordinates: np.ndarray
    """(b, 3) int64 block coordinates; the block's first point is BLOCK times this."""
    index: np.ndarray
    """(bx, by, bz) int32: position of a block in `coordinates`, -1 where it is not held."""
    values: np.ndarray
    """(b, BLOCK, BLOCK, BLOCK) float32; NaN means not known: no surface passes its cells."""
    absent: float
    """The value of every point of a block that is not held, and of padding beyond the lattice (NaN: no
    surface).
    """

    @staticmethod
    def allocate(lattice: Lattice, held: np.ndarray, absent: float) -> SparseBlocks:
        """Blocks where `held` (bx, by, bz) bool is True, filled with `absent`."""
        coordinates = np.argwhere(held)
        index = np.full(held.shape, -1, np.int32)
        index[held] = np.arange(len(coordinates), dtype=np.int32)
        values = np.full((len(coordinates), BLOCK, BLOCK, BLOCK), absent, np.float32)
        return SparseBlocks(lattice, coordinates, index, values, float(absent))

    def point_indices(self, block: int) -> np.ndarray:
        """(BLOCK^3, 3) int64 lattice indices of a block's points, in the order of `values[block].ravel()`."""
        return self.coordinates[block] * BLOCK + _OFFSETS

    def at(self, indices: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Values at lattice `indices` (n, 3); `values` (b, BLOCK, BLOCK, BLOCK, ...) reads another array of
        this layout.
        """
        values = self.values if values is None else values
        where = self.index[tuple((indices // BLOCK).T)]
        inner = indices % BLOCK
        result = values[where, inner[:, 0], inner[:, 1], inner[:, 2]]
        result[where < 0] = self.absent
        return result


_OFFSETS = np.stack(np.meshgrid(*[np.arange(BLOCK)] * 3, indexing="ij"), -1).reshape(-1, 3)


def evaluate(function: Callable[[Tensor], Tensor], points: np.ndarray) -> np.ndarray:
    """`function` at source `points` (n, 3), asked in batches of BATCH without gradient; the result as numpy.

    The points are cast to float32, as fields take them. Raises UserError when a value is not finite.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, len(points), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(points[start : start + BATCH], np.float32))
            parts.append(torch.as_tensor(function(batch)).detach().cpu().numpy())
    if not parts:
        return np.zeros(0, np.float32)
    result = np.concatenate(parts)
    if result.dtype != bool and not np.isfinite(result).all():
        bad = np.argwhere(~np.isfinite(result))[0][0]
        raise UserError(
            f"the field gives {result[bad]} at {np.round(points[bad], 6).tolist()}: "
            "the model has diverged or is damaged, no mesh can be taken from it"
        )
    return result


def sample_blocks(
    field: Callable[[Tensor], Tensor],
    lattice: Lattice,
    occupied: Callable[[Tensor], Tensor] | None = None,
    absent: float = 0.0,
    progress: Callable[[float], None] | None = None,
) -> SparseBlocks:
    """The field's values where it may have a surface; memory and time grow with the held blocks only.

    `occupied` is asked on every `ceil(longest side / 256)`-th lattice point. Its answer is widened by one
    such step to every side before blocks and points are chosen, so each cell with an occupied probe at a
    corner or within a step of it has all its corners evaluated; a part is lost only if it is thinner than a
    probe step *and* the occupancy cells round it are too. Points not evaluated take `absent`. Without
    `occupied` every point is evaluated.
    """
    if occupied is None:
        wanted, step = None, 1
        held = np.ones(lattice.block_grid(), bool)
    else:
        wanted, step = _probe(occupied, lattice)
        held = _blocks_with(wanted, step, lattice)
    blocks = SparseBlocks.allocate(lattice, held, absent)
    pending: list[tuple[int, np.ndarray]] = []  # (block, flat positions in it)
    waiting = 0
    for block in range(len(blocks.coordinates)):
        indices = blocks.point_indices(block)
        keep = (indices < lattice.shape).all(1)
        if wanted is not None:
            clipped = np.minimum(indices, np.array(lattice.shape) - 1)
            keep &= _near(wanted, clipped, step)
        flat = np.flatnonzero(keep)
        if len(flat):
            pending.append((block, flat))
            waiting += len(flat)
        if waiting >= BATCH or (waiting and block == len(blocks.coordinates) - 1):
            points = np.concatenate([lattice.positions(blocks.point_indices(b)[f]) for b, f in pending])
            values = np.split(evaluate(field, points), np.cumsum([len(f) for _, f in pending])[:-1])
            for (b, f), part in zip(pending, values):
                blocks.values[b].reshape(-1)[f] = part
            pending, waiting = [], 0
            if progress is not None:
                progress((block + 1) / len(blocks.coordinates))
    return blocks


def _probe(occupied: Callable[[Tensor], Tensor], lattice: Lattice) -> tuple[np.ndarray, int]:
    """Widened occupancy on every `step`-th lattice point (the last probe reaches the lattice's end or
    beyond).
    """
    from scipy.ndimage import binary_dilation

    step = max(1, -(-(max(lattice.shape) - 1) // MOST_PROBES))
    counts = [-(-(n - 1) // step) + 1 for n in lattice.shape]
    axes = [np.minimum(np.arange(count) * step, n - 1) for count, n in zip(counts, lattice.shape)]
    hit = np.zeros(counts, bool)
    plane = np.stack(np.meshgrid(axes[1], axes[2], indexing="ij"), -1).reshape(-1, 2)
    together = max(1, BATCH // len(plane))
    for start in range(0, counts[0], together):
        rows = axes[0][start : start + together]
        indices = np.column_stack([np.repeat(rows, len(plane)), np.tile(plane, (len(rows), 1))])
        answer = evaluate(occupied, lattice.positions(indices)).astype(bool)
        hit[start : start + together] = answer.reshape(len(rows), *counts[1:])
    return binary_dilation(hit, np.ones((3, 3, 3), bool)), step


def _near(wanted: np.ndarray, indices: np.ndarray, step: int) -> np.ndarray:
    """True for lattice `indices` (n, 3) that lie between probes of which one is wanted."""
    if step == 1:
        return wanted[tuple(indices.T)]
    low = indices // step
    high = np.minimum(-(-indices // step), np.array(wanted.shape) - 1)
    result = np.zeros(len(indices), bool)
    for corner in range(8):
        pick = [(high if corner >> axis & 1 else low)[:, axis] for axis in range(3)]
        result |= wanted[tuple(pick)]
    return result


def _blocks_with(wanted: np.ndarray, step: int, lattice: Lattice) -> np.ndarray:
    """(bx, by, bz) bool: blocks of which `_near` keeps a point (never fewer)."""
    held = wanted
    for axis, count in enumerate(lattice.block_grid()):
        first = np.arange(count) * BLOCK
        last = np.minimum(first + BLOCK, lattice.shape[axis]) - 1
        layers = [
            held.take(range(low, min(high, wanted.shape[axis] - 1) + 1), axis).any(axis)
            for low, high in zip(first // step, -(-last // step))
        ]
        held = np.stack(layers, axis)
    return held
