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
    tables = table.view(-1, levels.features).split(levels.entries.tolist())
    outputs = [_level(x, rows, levels, level, interpolation) for level, rows in enumerate(tables)]
    return torch.cat(outputs, dim=1)


def _level(x: Tensor, rows: Tensor, levels: GridLevels, level: int, interpolation: str) -> Tensor:  # (n, F)
    # Half a cell of offset staggers the levels against each other (appendix A). tiny-cuda-nn multiplies and adds with one
    # rounding (fma): float64 holds the product of two float32 numbers exactly, so one rounding remains here as well.
    position = (x.double() * float(levels.scale[level]) + 0.5).to(torch.promote_types(x.dtype, torch.float32))
    cell = torch.floor(position.detach())
    upper = position - cell
    if interpolation == "smoothstep":
        upper = upper * upper * (3 - 2 * upper)
    axes = torch.arange(levels.dims, device=x.device)
    step = torch.arange(1 << levels.dims, device=x.device)[:, None] >> axes & 1  # (2^D, D), x changes fastest
    weight = x.new_ones(())
    for d in range(levels.dims):
        weight = weight * torch.where(step[:, d] == 1, upper[:, d, None], 1 - upper[:, d, None])  # (n, 2^D)
    row = _row(cell.long()[:, None, :] + step, levels, level)
    return (weight[:, :, None].to(rows.dtype) * rows[row]).sum(dim=1)


def _row(vertex: Tensor, levels: GridLevels, level: int) -> Tensor:  # (n, 2^D, D) int64 -> (n, 2^D) int64
    """The row of a vertex within its level, in the arithmetic of unsigned 32-bit integers.

    Products may overflow int64; their low 32 bits, all that is kept, are right nevertheless.
    """
    vertex = vertex & _UINT32
    row = torch.zeros_like(vertex[..., 0])
    for d in range(levels.dims):
        if levels.hashed[level]:
            row = row ^ (vertex[..., d] * PRIMES[d] & _UINT32)
        else:
            row = row + vertex[..., d] * int(levels.resolution[level]) ** d & _UINT32
    return row % int(levels.entries[level])
