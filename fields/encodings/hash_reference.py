"""The hash grid in plain torch: the definition, and the oracle of the fast kernels.

Any float dtype, any device, any number of derivatives. The definition is tiny-cuda-nn's (grid.h: kernel_grid; common_device.h:
pos_fract, grid_index; Mueller et al. 2022, section 3), spelled out in docs/hash_grid.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .levels import PRIMES, GridLevels

__all__ = ["encode"]

_UINT32 = 0xFFFFFFFF


def encode(
    x: Tensor,  # (n, D) in [0, 1]; cells beyond wrap around the table
    table: Tensor,  # (P,) in tiny-cuda-nn's layout
    levels: GridLevels,
    interpolation: str = "linear",
) -> Tensor:  # (n, L * F) of the table's dtype
    """Looks up and interpolates every level; level after level, its features together.

    Differentiable with respect to x and table, twice and more. The derivative by x is that of the interpolant inside a cell: it
    jumps at cell borders with "linear" and is zero there with "smoothstep".
    """
    rows = table.view(-1, levels.features)
    return torch.cat([_level(x, rows, levels, level, interpolation) for level in range(levels.levels)], dim=1)


def _level(x: Tensor, rows: Tensor, levels: GridLevels, level: int, interpolation: str) -> Tensor:  # (n, F)
    # Half a cell of offset staggers the levels against each other (appendix A). tiny-cuda-nn multiplies and adds with one
    # rounding (fma): float64 holds the product of two float32 numbers exactly, so one rounding remains here as well.
    position = (x.double() * float(levels.scale[level]) + 0.5).to(torch.promote_types(x.dtype, torch.float32))
    cell = torch.floor(position.detach())
    upper = position - cell
    if interpolation == "smoothstep":
        upper = upper * upper * (3 - 2 * upper)
    cell = cell.long()
    total = 0
    for corner in range(1 << levels.dims):
        bits = [corner >> d & 1 for d in range(levels.dims)]
        weight = 1
        for d, bit in enumerate(bits):
            weight = weight * (upper[:, d] if bit else 1 - upper[:, d])
        index = int(levels.offset[level]) + _row(cell + cell.new_tensor(bits), levels, level)
        total = total + weight[:, None].to(rows.dtype) * rows[index]
    return total


def _row(vertex: Tensor, levels: GridLevels, level: int) -> Tensor:  # (n, D) int64 -> (n,) int64
    """The row of a vertex within its level, in the arithmetic of unsigned 32-bit integers.

    Products may overflow int64; their low 32 bits, all that is kept, are right nevertheless.
    """
    vertex = vertex & _UINT32
    index = torch.zeros_like(vertex[:, 0])
    for d in range(levels.dims):
        if levels.hashed[level]:
            index = index ^ (vertex[:, d] * PRIMES[d] & _UINT32)
        else:
            index = index + vertex[:, d] * int(levels.resolution[level]) ** d & _UINT32
    return index % int(levels.entries[level])
