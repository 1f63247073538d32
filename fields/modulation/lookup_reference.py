"""Linear interpolation in a small grid of vectors, in plain torch: any device, any number of derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["interpolate"]


def interpolate(
    coordinates: Tensor,  # (n, d)
    grid: Tensor,  # (nodes, c), nodes in row-major order of the resolution: the last coordinate fastest
    resolution: tuple[int, ...],  # nodes along each of the d axes, at least 2
    wrap: tuple[bool, ...],  # along each axis: periodic with period 1, else held beyond [0, 1]
) -> Tensor:  # (n, c)
    """Border axes have node i at i / (R - 1), wrapped ones at i / R. Differentiable in coordinates and grid.

    A coordinate that is not a number gives a result that is none.
    """
    rows: list[Tensor] = [torch.zeros(len(coordinates), dtype=torch.int64, device=coordinates.device)]
    shares: list[Tensor] = [torch.ones_like(coordinates[:, 0])]
    for axis, (count, periodic) in enumerate(zip(resolution, wrap, strict=True)):
        x = coordinates[:, axis]
        if periodic:
            position = torch.remainder(x, 1.0) * count
            low = position.detach().nan_to_num(0, 0, 0).floor().long()
            inside = position - low
            low = low % count
            high = (low + 1) % count
        else:
            position = x.clamp(0, 1) * (count - 1)
            low = position.detach().nan_to_num(0).floor().long().clamp(max=count - 2)
            inside = position - low
            high = low + 1
        rows = [row * count + side for side in (low, high) for row in rows]
        shares = [share * part for part in (1 - inside, inside) for share in shares]
    total = shares[0][:, None] * grid.index_select(0, rows[0])
    for row, share in zip(rows[1:], shares[1:], strict=True):
        total = total + share[:, None] * grid.index_select(0, row)
    return total
