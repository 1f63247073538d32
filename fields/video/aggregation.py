"""Neighbouring frames moved by flows and joined, as FFNeRV does (Lee et al. 2023, section 3.2).

What the head of the generator says of a frame: a colour, and for each neighbour a flow in pixels and a weight. The frame shown is the
mean of its own colour and of the moved neighbours' under a softmax of the weights (ours: one softmax over all; FFNeRV has two).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["aggregate", "warp"]

OWN = 2.0
"""Head start of a frame's own weight, so that training begins near the frame without its neighbours."""


def warp(
    pictures: Tensor,  # (b, c, h, w)
    flows: Tensor,  # (b, 2, h, w): where in `pictures` each pixel looks, to the right and down, in pixels
) -> Tensor:  # (b, c, h, w)
    """Bilinear, held beyond the border. Differentiable with respect to both."""
    high, wide = pictures.shape[2:]
    x = torch.arange(wide, device=flows.device, dtype=flows.dtype) + flows[:, 0]
    y = torch.arange(high, device=flows.device, dtype=flows.dtype)[:, None] + flows[:, 1]
    places = torch.stack([x * (2 / max(wide - 1, 1)) - 1, y * (2 / max(high - 1, 1)) - 1], dim=-1)
    return functional.grid_sample(pictures, places, padding_mode="border", align_corners=True)


def aggregate(
    own: Tensor,  # (b, 3, h, w)
    neighbours: list[Tensor],  # of each neighbour (b, 3, h, w)
    flows: Tensor,  # (b, 2 k, h, w)
    weights: Tensor,  # (b, 1 + k, h, w): of the own frame first
) -> Tensor:  # (b, 3, h, w)
    """Differentiable with respect to everything."""
    head_start = torch.zeros_like(weights)
    head_start[:, 0] = OWN
    shares = torch.softmax(weights + head_start, dim=1)
    total = shares[:, :1] * own
    for number, picture in enumerate(neighbours):
        moved = warp(picture, flows[:, 2 * number : 2 * number + 2])
        total = total + shares[:, number + 1 : number + 2] * moved
    return total
