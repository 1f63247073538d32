"""Adam's update of many dense parameters in few launches, for GPUs: torch's operations on lists, which are one kernel each."""

from __future__ import annotations

import torch
from torch import Tensor

from .adam import MOST_COUNTED, AdamState

__all__ = ["update"]


def update(
    parameters: list[Tensor],
    gradients: list[Tensor],
    states: list[AdamState],
    *,
    steps: int,  # updates these parameters have had, this one included
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    corrections: Tensor,  # (k, 2) float32 on the CPU
) -> None:
    """As `adam_reference.update` of each with sparse=False, its judge: updates in place and zeroes the gradients."""
    first, second = [state.first for state in states], [state.second for state in states]
    if weight_decay:
        torch._foreach_add_(gradients, parameters, alpha=weight_decay)
    torch._foreach_mul_(first, betas[0])
    torch._foreach_add_(first, gradients, alpha=1 - betas[0])
    torch._foreach_mul_(second, betas[1])
    torch._foreach_addcmul_(second, gradients, gradients, value=1 - betas[1])
    of_first, of_second = corrections[min(steps, len(corrections) - 1)].tolist()
    below = torch._foreach_mul(second, of_second)
    torch._foreach_sqrt_(below)
    torch._foreach_add_(below, eps)
    torch._foreach_addcdiv_(parameters, first, below, value=-lr * of_first)
    if steps <= MOST_COUNTED:
        torch._foreach_add_([state.count for state in states], 1)
    torch._foreach_zero_(gradients)
