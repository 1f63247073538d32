"""How far a ray may jump from an empty cell, in plain torch on any device: what `occupancy_cpu.skips` makes on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from .occupancy_cpu import LARGEST

__all__ = ["skips"]


def skips(
    cells: Tensor,  # (cascades, r, r, r) bool
) -> Tensor:  # (cascades, r, r, r) uint8
    """0 where a cell is occupied, else k >= 1: the aligned cube of 2^(k - 1) cells round it is empty, and none larger is."""
    levels = [cells]
    # cubes end at a quarter of the grid, where the next finer cascade begins
    while len(levels) < LARGEST and levels[-1].shape[1] % 2 == 0 and levels[-1].shape[1] >= 8:
        levels.append(_pool(levels[-1]))
    found = torch.where(levels[-1], 0, len(levels)).to(torch.uint8)
    for number in range(len(levels) - 1, 0, -1):
        for axis in (1, 2, 3):
            found = found.repeat_interleave(2, dim=axis)
        found = found.clamp(min=number).masked_fill(levels[number - 1], 0)
    return found


def _pool(occupied: Tensor) -> Tensor:
    """Whether any of 2^3 cells is occupied."""
    x = occupied[:, ::2] | occupied[:, 1::2]
    x = x[:, :, ::2] | x[:, :, 1::2]
    return x[..., ::2] | x[..., 1::2]
