"""Perceptrons in plain torch: any device, float32 or bfloat16 arithmetic, any number of derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mlp", "mlp_bfloat16"]

PAD = 4096
"""Rows are padded to a multiple of this in bfloat16: oneDNN compiles a kernel for each shape it meets, and cuBLAS looks for one."""


def mlp(
    x: Tensor,  # (n, k)
    weights: tuple[Tensor, ...],  # each (outputs, inputs)
    shared: Tensor | None = None,  # (m, j)
    index: Tensor | None = None,  # (n,)
) -> Tensor:  # (n, outputs of the last)
    """Linear layers without biases, ReLU between them; the input is [x, shared[index]]."""
    if shared is not None:
        x = torch.cat([x, shared[index.long()]], dim=1)
    for number, weight in enumerate(weights):
        x = x @ weight.t()
        if number < len(weights) - 1:
            x = torch.relu(x)
    return x


def mlp_bfloat16(
    x: Tensor, weights: tuple[Tensor, ...], shared: Tensor | None = None, index: Tensor | None = None
) -> Tensor:
    """The same with products in bfloat16 (sums in float32 inside a product, and the last layer's stay so); takes and returns float32."""
    n = x.shape[0]
    if shared is not None:
        x = torch.cat([x, shared[index.long()]], dim=1)
    x = torch.nn.functional.pad(x, (0, 0, 0, -n % PAD)).bfloat16()
    for weight in weights[:-1]:
        x = torch.relu(x @ weight.bfloat16().t())
    return (x.float() @ weights[-1].bfloat16().float().t())[:n]
