"""The layers of a modulated perceptron with products in bfloat16, in plain torch: for GPUs."""

from __future__ import annotations

import torch
from torch import Tensor

from .layers_reference import modulate, normalise

__all__ = ["perceptron"]


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
    """As `layers_reference.perceptron`. Operands of products are rounded to bfloat16, and so are the sums of hidden layers; norm,
    modulation and the sums of the last layer are float32."""
    if shared is not None:
        x = torch.cat([x, shared[index.long()]], dim=1)
    for number, weight in enumerate(weights):
        bias = None if biases is None else biases[number]
        x, weight = x.bfloat16(), weight.bfloat16()
        if number == len(weights) - 1:
            return torch.nn.functional.linear(x.float(), weight.float(), bias)
        x = torch.nn.functional.linear(x, weight, None if bias is None else bias.bfloat16())
        row = rows[number] if packed is not None else -1
        if norm != "none" or row >= 0:
            x = normalise(x.float(), norm)
        if row >= 0:
            x = modulate(x, packed[:, row : row + 2 * groups], groups)
        x = torch.relu(x)
    return x
