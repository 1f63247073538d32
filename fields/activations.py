"""Activations whose gradients stay finite, and whose values do not hang on what else is computed at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["elementwise", "sigmoid", "truncated_exp"]

LIMIT = 15.0
PIECE, LANES = 1 << 15, 64
"""Elements that torch leaves to one thread, and a multiple of those its vector code takes at a time."""


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
    if torch.is_grad_enabled() and x.requires_grad:
        return _TruncatedExp.apply(x)
    return elementwise(torch.exp, x.clamp(max=LIMIT))


def sigmoid(x: Tensor) -> Tensor:
    """torch's, `elementwise`."""
    return elementwise(torch.sigmoid, x)


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """torch's exp, sigmoid, sin, ... of each element; without gradients the same, bit for bit, wherever in an array an element stands.

    torch computes the last elements of an array, and of each thread's part of it, by other code than the rest, which may round
    otherwise; here every element goes through the vector code.
    """
    if (torch.is_grad_enabled() and x.requires_grad) or x.device.type != "cpu":
        return function(x)
    turned = x.ndim == 2 and not x.is_contiguous() and x.t().is_contiguous()
    flat = (x.t() if turned else x.contiguous()).reshape(-1)
    padded = torch.nn.functional.pad(flat, (0, -len(flat) % LANES))
    values = torch.cat([function(piece) for piece in padded.split(PIECE)] or [padded])[: len(flat)]
    return values.view(x.shape[::-1]).t() if turned else values.view(x.shape)
