"""Adam's update in plain torch, on any device: the oracle of the fused kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import AdamState

__all__ = ["update"]


def update(
    parameter: Tensor,
    gradient: Tensor,
    state: AdamState,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    sparse: bool,
    corrections: Tensor,  # (k, 2) float32
) -> None:
    """Updates `parameter` and `state` in place and zeroes `gradient`; see `GridAdam`."""
    corrections = corrections.to(parameter.device)
    touched = gradient != 0 if sparse else torch.ones_like(gradient, dtype=torch.bool)
    g = gradient + weight_decay * parameter
    first = betas[0] * state.first + (1 - betas[0]) * g
    second = betas[1] * state.second + (1 - betas[1]) * g * g
    count = (state.count.int() + 1).clamp(max=32767)
    factor = corrections[count.clamp(max=len(corrections) - 1).long()]
    moved = parameter - lr * (first * factor[..., 0]) / ((second * factor[..., 1]).sqrt() + eps)
    parameter.copy_(torch.where(touched, moved, parameter))
    state.first.copy_(torch.where(touched, first, state.first))
    state.second.copy_(torch.where(touched, second, state.second))
    state.count.copy_(torch.where(touched, count.to(state.count.dtype), state.count))
    gradient.zero_()
