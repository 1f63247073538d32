"""Layers of surfaces blended into one value, front to back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["LayerComposite", "composite_layers", "layer_order"]


class LayerComposite(NamedTuple):
    """What is seen of K layers, before any background."""

    colour: Tensor
    """(..., c): the sum of weight * value, premultiplied."""
    opacity: Tensor
    """(...): the sum of weights."""
    weights: Tensor
    """(..., K): transmittance * opacity of each layer."""


def composite_layers(
    values: Tensor,  # (..., K, c), nearest first
    opacity: Tensor,  # (..., K) in [0, 1]
    mask: Tensor,  # (..., K) bool, False where the layer is absent
) -> LayerComposite:
    """weight_k = opacity_k * product over i < k of (1 - opacity_i) (Porter and Duff 1984, "over").

    An absent layer lets everything through and gets no gradient, whatever its values: it may hold NaN. Differentiable with
    respect to values and opacity, also where a layer is fully opaque.
    """
    if values.shape[:-1] != opacity.shape or mask.shape != opacity.shape:
        raise UserError(
            f"layers: values {tuple(values.shape)}, opacity {tuple(opacity.shape)}, mask {tuple(mask.shape)}; "
            "give (..., K, c), (..., K), (..., K)"
        )
    opacity = torch.where(mask, opacity, 0)
    passing = torch.cumprod(1 - opacity, -1)
    before = torch.cat([torch.ones_like(passing[..., :1]), passing[..., :-1]], -1)
    weights = before * opacity
    colour = (weights[..., None] * torch.where(mask[..., None], values, 0)).sum(-2)
    return LayerComposite(colour, 1 - passing[..., -1], weights)


def layer_order(distance: Tensor, mask: Tensor) -> Tensor:  # (..., K) int64
    """The order that brings layers of several meshes, concatenated along K, nearest first; absent ones last.

    `values.gather(-2, order[..., None].expand_as(values))` applies it. Not differentiable.
    """
    return torch.where(mask, distance.detach(), torch.inf).argsort(dim=-1, stable=True)
