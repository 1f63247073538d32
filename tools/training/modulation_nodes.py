"""Which nodes of a grid over the field cube samples in occupied cells read: the others need not be kept."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nodes_read"]


def nodes_read(
    cells: Tensor,  # (r, r, r) bool, occupied
    resolution: tuple[int, int, int],  # nodes along each axis, node i at i / (R - 1)
    margin: int = 0,  # cells around occupied ones that count as occupied, too
) -> Tensor:  # (nodes,) bool, row-major
    """True for nodes that linear interpolation reads at any place in an occupied cell."""
    wanted = cells
    for axis, nodes in enumerate(resolution):
        count = cells.shape[axis]
        place = torch.arange(nodes, dtype=torch.float64)
        # cells that meet (i - 1, i + 1) / (R - 1); what only rounding reads weighs nothing
        low = ((place - 1) / (nodes - 1) * count + 1e-3).floor().long() - margin
        high = ((place + 1) / (nodes - 1) * count - 1e-3).ceil().long() + margin
        low, high = low.clamp(0, count).to(cells.device), high.clamp(0, count).to(cells.device)
        before = torch.nn.functional.pad(wanted.movedim(axis, -1).int().cumsum(-1), (1, 0))
        wanted = (before[..., high] > before[..., low]).movedim(-1, axis)
    return wanted.reshape(-1)
