"""Marching: the samples of rays that fall into occupied cells, packed one ray after another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends, missing_module

from .occupancy import OccupancyGrid
from .stepping import Stepping

__all__ = ["MARCHING", "Samples", "march"]

MARCHING = Backends("ray marching")
MARCHING.add(Backend("cpu", "fieldstone.render.volume.marching_cpu", ("cpu",)))
MARCHING.add(Backend("cuda", "fieldstone.render.volume.marching_cuda", ("cuda",), missing_module("triton")))
MARCHING.add(Backend("reference", "fieldstone.render.volume.marching_reference", ("cpu", "cuda")))


@dataclass
class Samples:
    """n samples of r rays, packed: those of ray i are rows starts[i] .. starts[i + 1], by increasing distance."""

    starts: Tensor
    """(r + 1,) int64."""
    ray: Tensor
    """(n,) int32, the ray of each sample."""
    distance: Tensor
    """(n,) float32, the middle of each interval along its ray, cube units."""
    length: Tensor
    """(n,) float32, the length of each interval."""
    positions: Tensor
    """(n, 3) float32 in cube coordinates, stored feature-major: a transposed view."""
    resume: Tensor
    """(r,) float64, the lattice step at which a ray goes on if it was cut by `limit`; inf where it ended."""

    def __len__(self) -> int:
        return len(self.ray)


def march(
    origins: Tensor,  # (r, 3) float32, cube coordinates
    directions: Tensor,  # (r, 3) float32, unit
    occupancy: OccupancyGrid,
    stepping: Stepping,
    *,
    near: float = 0.0,
    jitter: Tensor | None = None,  # (r,) in [0, 1): offset of each ray's lattice; None: 0.5
    first: Tensor
    | None = None,  # (r,) float64 lattice steps to go on from, `Samples.resume` of the call before
    limit: int = 4096,  # samples of one ray in one call, at most
    backend: str = "auto",
) -> Samples:
    """Samples inside the occupancy grid's outermost cube, in occupied cells only. Not differentiable."""
    module = MARCHING.load(backend, origins.device.type)
    rays = origins.shape[0]
    if jitter is None:
        jitter = torch.full((rays,), 0.5, device=origins.device)
    if first is None:
        first = torch.full((rays,), -1.0, dtype=torch.float64, device=origins.device)
    return module.march(origins, directions, occupancy, stepping, near, jitter, first, limit)
