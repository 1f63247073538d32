"""Distortion loss (Barron et al. 2022, mip-NeRF 360, equation 15): weight along a ray should be compact."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distortion"]


def distortion(
    weights: Tensor,  # (n,)
    middle: Tensor,  # (n,) increasing along each ray, normalised distance
    width: Tensor,  # (n,) lengths of the intervals in the same measure
    ray: Tensor,  # (n,) int, which ray
    starts: Tensor,  # (r + 1,) int64
) -> Tensor:  # (r,)
    """Sum over pairs w_i w_j |m_i - m_j| + 1/3 sum w_i^2 width_i, a ray. Differentiable with respect to weights.

    The pairs are summed in one pass: each sample against the weight, and weighted distance, in front of it.
    """
    first = starts[ray.long()]

    def before(values: Tensor) -> Tensor:
        total = torch.cat([values.new_zeros(1, dtype=torch.float64), torch.cumsum(values.double(), 0)])
        return (total[:-1] - total[first]).float()

    pairs = 2 * weights * (middle * before(weights) - before(weights * middle))
    each = pairs + weights**2 * width / 3
    return weights.new_zeros(len(starts) - 1).index_add(0, ray.long(), each)
