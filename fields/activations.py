"""Activations whose gradients stay finite."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["truncated_exp"]

LIMIT = 15.0


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = torch.exp(x.clamp(max=LIMIT))
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return dy * torch.exp(x.clamp(-LIMIT, LIMIT))


def truncated_exp(x: Tensor) -> Tensor:
    """exp(x) with x, and the gradient's factor, held within +-15 (Mueller et al. 2022, instant-ngp's density activation).

    Below -15 the gradient is larger than the true one, so that emptied space can still fill.
    """
    return _TruncatedExp.apply(x)
