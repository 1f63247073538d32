"""Compositing in plain torch: any device and float dtype, any number of derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from .compositing import Composite

__all__ = ["composite", "transmittance"]


def _ray_of(starts: Tensor, n: int) -> Tensor:
    counts = starts[1:] - starts[:-1]
    return torch.repeat_interleave(torch.arange(len(counts), device=starts.device), counts, output_size=n)


def _depth_before(optical: Tensor, starts: Tensor, ray: Tensor) -> Tensor:
    """Optical thickness between the start of the ray and each sample: an exclusive sum within each ray."""
    # float64, since the sum runs over all rays before a ray's own start is taken off
    total = torch.cumsum(optical.double(), dim=0)
    before = torch.cat([total.new_zeros(1), total])
    return (before[:-1] - before[starts[ray]]).to(optical.dtype)


def composite(density: Tensor, colour: Tensor, distance: Tensor, length: Tensor, starts: Tensor) -> Composite:
    """See `compositing.composite`."""
    ray = _ray_of(starts, len(density))
    optical = density * length
    weights = torch.exp(-_depth_before(optical, starts, ray)) * -torch.expm1(-optical)
    rays = len(starts) - 1
    return Composite(
        weights.new_zeros(rays, colour.shape[1]).index_add(0, ray, weights[:, None] * colour),
        weights.new_zeros(rays).index_add(0, ray, weights),
        weights.new_zeros(rays).index_add(0, ray, weights * distance),
        weights,
    )


def transmittance(
    density: Tensor, length: Tensor, starts: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `compositing.transmittance`."""
    ray = _ray_of(starts, len(density))
    optical = density * length
    rays = len(starts) - 1
    light = torch.ones(rays, dtype=density.dtype, device=density.device) if initial is None else initial
    reaching = light[ray] * torch.exp(-_depth_before(optical, starts, ray))
    left = light * torch.exp(-optical.new_zeros(rays).index_add(0, ray, optical))
    return reaching, left
