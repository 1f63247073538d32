"""Small pictures over time that a frame grows from: grids of several temporal resolutions.

FFNeRV (Lee et al. 2023, "FFNeRV: flow-guided frame-wise neural representations for videos"): features of several grids, each
linear in time between its own nodes, lie side by side. Coarse grids hold what stays, fine ones what changes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["TemporalLatents", "over_time"]

_SPREAD = 0.1


class TemporalLatents(nn.Module):
    """Grids of `nodes[k]` x channels x height x width, node i of R at time i / (R - 1)."""

    def __init__(
        self,
        nodes: tuple[int, ...],  # of each grid, along time; 1 holds still
        channels: int,  # of each grid
        height: int,
        width: int,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.grids = nn.ParameterList(
            nn.Parameter(_SPREAD * torch.randn(count, channels, height, width, generator=generator))
            for count in nodes
        )

    def forward(
        self,
        times: Tensor,  # (b,) in [0, 1]
        quantiser: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:  # (b, grids * channels, height, width)
        """Differentiable with respect to times and grids."""
        grids = [quantiser(grid) for grid in self.grids] if quantiser else list(self.grids)
        return torch.cat([over_time(grid, times) for grid in grids], dim=1)


def over_time(
    grid: Tensor,  # (nodes, ...)
    times: Tensor,  # (b,); held outside [0, 1]
) -> Tensor:  # (b, ...)
    """Linear between nodes at i / (nodes - 1)."""
    if len(grid) == 1:
        return grid.expand(len(times), *grid.shape[1:])
    place = times.clamp(0, 1) * (len(grid) - 1)
    low = place.detach().floor().long().clamp(max=len(grid) - 2)
    share = (place - low).view(-1, *[1] * (grid.ndim - 1))
    return torch.lerp(grid[low], grid[low + 1], share)
