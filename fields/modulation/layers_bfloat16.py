"""The layers of a modulated perceptron with products in bfloat16, in torch's matrix products: for GPUs.

As in the CPU's kernel: operands are rounded to bfloat16, sums are float32, and so are norm and modulation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..mlp.mlp_reference import PAD
from .layers_reference import layers

__all__ = ["perceptron"]


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b of bfloat16 matrices, summed and returned in float32."""
    if a.device.type == "cuda":
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(x, weight)
        return _product(x, weight.t())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, weight = ctx.saved_tensors
        dy = dy.bfloat16()
        dx = _product(dy, weight) if ctx.needs_input_grad[0] else None
        return dx, _product(dy.t(), x) if ctx.needs_input_grad[1] else None


def perceptron(
    x: Tensor,
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor, ...] | None,
    packed: Tensor | None = None,
    rows: tuple[int, ...] = (),
    norm: str = "none",
    shared: Tensor | None = None,
    index: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """As `layers_reference.perceptron`, differentiable once."""
    n = len(x)
    if shared is not None:
        x = torch.cat([x, shared[index.long()]], dim=1)
    x = torch.nn.functional.pad(x, (0, 0, 0, -n % PAD))
    if packed is not None:
        packed = torch.nn.functional.pad(packed, (0, 0, 0, -n % PAD))
    return layers(_Linear.apply, x, weights, biases, packed, rows, norm, groups)[:n]
