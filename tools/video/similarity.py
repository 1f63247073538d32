"""SSIM of frames that a loss can follow; `metrics.ssim` is the one that is reported."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["frame_similarity"]

_RADIUS = 5
_SIGMA = 1.5


def frame_similarity(
    a: Tensor,  # (b, 3, h, w) in [0, 1]
    b: Tensor,  # (b, 3, h, w)
) -> Tensor:  # ()
    """Mean SSIM (Wang et al. 2004, equation 13), equal to `metrics.ssim` up to rounding. Differentiable with respect to both.

    Frames smaller than the window of 11 x 11 are compared with the largest odd window that fits.
    """
    radius = min(_RADIUS, (min(a.shape[2:]) - 1) // 2)
    channels = a.shape[1]
    moments = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    steps = torch.arange(-radius, radius + 1, device=a.device, dtype=a.dtype)
    weights = torch.exp(-0.5 * (steps / _SIGMA) ** 2)
    weights = (weights / weights.sum()).expand(moments.shape[1], 1, 1, -1)
    moments = functional.conv2d(moments, weights, groups=moments.shape[1])
    moments = functional.conv2d(moments, weights.transpose(2, 3), groups=moments.shape[1])
    mean_a, mean_b, square_a, square_b, product = moments.split(channels, dim=1)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return similarity.mean()
