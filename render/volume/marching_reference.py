"""Marching in plain torch, on any device: every lattice step of every ray is looked at, none is skipped."""

from __future__ import annotations

import torch
from torch import Tensor

from .marching import Samples
from .occupancy import OccupancyGrid
from .stepping import Stepping

__all__ = ["march"]

STRIDE = 64
"""Lattice steps of all rays looked at together."""


def march(
    origins: Tensor,
    directions: Tensor,
    occupancy: OccupancyGrid,
    stepping: Stepping,
    near: float,
    jitter: Tensor,
    first: Tensor,
    limit: int,
) -> Samples:
    """See `marching.march`. Works in float64, as the fast kernel does."""
    o, d = origins.detach().double(), directions.detach().double()
    enter, leave = _box(o, d, 0.5 * 2.0 ** (occupancy.cascades - 1))
    enter = enter.clamp(min=near)
    jitter = jitter.double()
    s = torch.ceil(stepping.to_steps(enter) - jitter) + jitter
    s = torch.where(first >= 0, first.double(), s)
    alive = (enter < leave) & torch.isfinite(first)
    rays = torch.arange(len(o), device=o.device)
    found_ray, found_s = [], []
    counts = torch.zeros(len(o), dtype=torch.int64, device=o.device)
    resume = torch.full((len(o),), torch.inf, dtype=torch.float64, device=o.device)
    rays = rays[alive]
    while len(rays):
        steps = s[rays, None] + torch.arange(STRIDE, device=o.device)
        t = stepping.to_distance(steps)
        inside = t < leave[rays, None]
        position = o[rays, None] + t[..., None] * d[rays, None]
        hit = inside & _occupied(occupancy, position.reshape(-1, 3), t.reshape(-1), stepping).view(t.shape)
        order = counts[rays, None] + hit.cumsum(dim=1)
        kept = hit & (order <= limit)
        over = hit & (order == limit + 1)
        cut = over.any(dim=1)
        resume[rays[cut]] = steps[over]
        found_ray.append(rays[:, None].expand_as(kept)[kept])
        found_s.append(steps[kept])
        counts[rays] += kept.sum(dim=1)
        s[rays] += STRIDE
        rays = rays[inside[:, -1] & ~cut]
    ray = torch.cat(found_ray) if found_ray else torch.zeros(0, dtype=torch.int64, device=o.device)
    step = torch.cat(found_s) if found_s else torch.zeros(0, dtype=torch.float64, device=o.device)
    order = torch.argsort(ray, stable=True)
    ray, step = ray[order], step[order]
    distance = stepping.to_distance(step).float()
    length = (stepping.to_distance(step + 0.5) - stepping.to_distance(step - 0.5)).float()
    starts = torch.zeros(len(o) + 1, dtype=torch.int64, device=o.device)
    starts[1:] = counts.cumsum(0)
    positions = origins.detach()[ray] + distance[:, None] * directions.detach()[ray]
    return Samples(starts, ray.int(), distance, length, positions, resume)


def _box(origins: Tensor, directions: Tensor, half: float) -> tuple[Tensor, Tensor]:
    """Entry and exit distances (r,) of the cube of this half side around 0.5; entry > exit where it is missed."""
    parallel = directions.abs() < 1e-12
    safe = torch.where(parallel, torch.ones_like(directions), directions)
    a, b = (0.5 - half - origins) / safe, (0.5 + half - origins) / safe
    outside = parallel & ((origins - 0.5).abs() > half)
    near = torch.where(parallel, -torch.inf, torch.minimum(a, b)).amax(dim=1)
    far = torch.where(parallel, torch.inf, torch.maximum(a, b)).amin(dim=1)
    missed = outside.any(dim=1)
    return torch.where(missed, 1.0, near), torch.where(missed, 0.0, far)


def _occupied(occupancy: OccupancyGrid, positions: Tensor, t: Tensor, stepping: Stepping) -> Tensor:
    """Looks cells up in the finest cascade that holds the position and whose cells are not smaller than a step."""
    length = (t * stepping.cone).clamp(stepping.smallest, stepping.largest)
    reach = (positions - 0.5).abs().amax(dim=1)
    cascade = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
    for k in range(occupancy.cascades - 1):
        side = 2.0**k
        cascade += (cascade == k) & ((reach >= 0.5 * side) | (length * occupancy.resolution > side))
    side = 2.0 ** cascade.double()
    cell = ((positions - 0.5 + 0.5 * side[:, None]) * (occupancy.resolution / side[:, None])).long()
    cell = cell.clamp(0, occupancy.resolution - 1)
    return occupancy.cells[cascade, cell[:, 0], cell[:, 1], cell[:, 2]]
