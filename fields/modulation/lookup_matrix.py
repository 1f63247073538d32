"""Linear interpolation in a grid of few nodes as a product of matrices, for GPUs.

Every sample's share of every node, its hat function, is a row of a matrix; the values are that matrix times the grid, and the grid's
gradient is its transpose times the values' gradient. Gathering instead sends all samples of a batch to the same few addresses in the backward pass,
where they wait for each other and add up in another order each time. Ours.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import lookup_reference

__all__ = ["MOST_NODES", "interpolate"]

MOST_NODES = 256
"""Beyond it the matrix costs more memory than gathering costs time, and the reference is taken."""


def interpolate(
    coordinates: Tensor,  # (n, d)
    grid: Tensor,  # (nodes, c), nodes in row-major order of the resolution
    resolution: tuple[int, ...],
    wrap: tuple[bool, ...],
) -> Tensor:  # (n, c)
    """As `lookup_reference.interpolate`, its judge; differentiable in coordinates and grid."""
    if math.prod(resolution) > MOST_NODES:
        return lookup_reference.interpolate(coordinates, grid, resolution, wrap)
    shares: Tensor | None = None
    for axis, (count, periodic) in enumerate(zip(resolution, wrap, strict=True)):
        nodes = torch.arange(count, device=coordinates.device, dtype=coordinates.dtype)
        x = coordinates[:, axis : axis + 1]
        if periodic:
            apart = (torch.remainder(x, 1.0) * count - nodes).abs()
            apart = torch.minimum(apart, count - apart)
        else:
            apart = (x.clamp(0, 1) * (count - 1) - nodes).abs()
        hats = (1 - apart).clamp(min=0)
        shares = hats if shares is None else (shares[:, :, None] * hats[:, None]).flatten(1)
    return shares @ grid
