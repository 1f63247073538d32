"""Unbounded space squeezed into a cube (Barron et al. 2022, mip-NeRF 360, equation 10, with the maximum norm)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["contract", "uncontract"]


def contract(
    positions: Tensor,  # (n, 3) cube coordinates, any finite value
) -> Tensor:  # (n, 3) in (0, 1)
    """The field cube [0, 1]^3 becomes the middle half [0.25, 0.75]^3 unchanged in shape; all beyond it the rest.

    The maximum norm keeps the contracted world a cube, which is what a grid covers. Differentiable.
    """
    p = (positions - 0.5) * 2
    reach = p.abs().amax(dim=1, keepdim=True)
    outside = reach > 1
    safe = torch.where(outside, reach, torch.ones_like(reach))
    squeezed = torch.where(outside, (2 - 1 / safe) * (p / safe), p)
    return squeezed / 4 + 0.5


def uncontract(
    contracted: Tensor,  # (n, 3) in (0, 1)
) -> Tensor:  # (n, 3) cube coordinates
    """The inverse of `contract`."""
    p = (contracted - 0.5) * 4
    reach = p.abs().amax(dim=1, keepdim=True)
    outside = reach > 1
    safe = torch.where(outside, reach, torch.ones_like(reach))
    stretched = torch.where(outside, p / safe / (2 - safe), p)
    return stretched / 2 + 0.5
