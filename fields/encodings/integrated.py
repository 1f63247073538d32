"""Integrated positional encoding of a Gaussian (Barron et al. 2021, Mip-NeRF, equations 9 to 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["integrated_encoding"]


def integrated_encoding(
    mean: Tensor,  # (n, d)
    variance: Tensor,  # (n, d) of the Gaussian along each axis
    octaves: int,  # frequencies 2^0 .. 2^(octaves - 1), without pi, as in the paper
) -> Tensor:  # (n, 2 * octaves * d): all sines (octaves slowest), then all cosines
    """Expected sines and cosines: exp(-4^l variance / 2) times those of 2^l mean. Differentiable in both."""
    if octaves not in range(1, 31):
        raise UserError(f"integrated encoding: octaves must be a whole number from 1 to 30, got {octaves!r}")
    if mean.ndim != 2 or mean.shape != variance.shape:
        raise ValueError(
            f"integrated encoding: expected mean and variance (n, d), got {tuple(mean.shape)}, {tuple(variance.shape)}"
        )
    octave = 2.0 ** torch.arange(octaves, dtype=mean.dtype, device=mean.device)
    angle = (mean[:, None] * octave[:, None]).flatten(1)
    fading = torch.exp(-0.5 * variance[:, None] * octave[:, None].square()).flatten(1)
    return torch.cat([fading * angle.sin(), fading * angle.cos()], dim=1)
