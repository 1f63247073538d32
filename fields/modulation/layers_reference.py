"""The layers of a modulated perceptron in plain torch: any device, every norm, any number of derivatives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["EPSILON", "layers", "modulate", "normalise", "perceptron"]

EPSILON = 1e-5
"""Added to variances, as torch's norms do (flax, in the paper's code for scenes, has 1e-6)."""


def normalise(
    h: Tensor,  # (n, c)
    norm: str,  # "none", "layer", "ray", "instance", "batch"
    groups: Tensor | None = None,  # (n,) int64, rising: the ray or frame of each sample
    running: tuple[Tensor, Tensor] | None = None,  # "batch" in evaluation: mean and variance (c,)
) -> Tensor:
    """(h - mean) / sqrt(variance + eps), never with parameters of its own; the variance is the biased one.

    Statistics are taken over the channels of a sample (layer), over samples and channels of a ray (ray, the paper's for
    scenes), over the samples of a frame for each channel (instance, its for video), or over the batch for each channel.
    """
    if norm == "none":
        return h
    if norm == "layer":
        return torch.nn.functional.layer_norm(h, h.shape[1:], eps=EPSILON)
    if norm == "batch":
        mean, variance = running if running is not None else (h.mean(0), h.var(0, unbiased=False))
        return (h - mean) * torch.rsqrt(variance + EPSILON)
    if groups is None:
        raise ValueError(f"norm {norm!r} needs the group of each sample")
    count = int(groups[-1]) + 1 if len(groups) else 0
    samples = torch.zeros(count, device=h.device, dtype=h.dtype).index_add(
        0, groups, torch.ones_like(h[:, 0])
    )
    values = h.mean(1, keepdim=True) if norm == "ray" else h
    samples = samples.clamp(min=1)[:, None]
    zero = torch.zeros(count, values.shape[1], device=h.device, dtype=h.dtype)
    mean = zero.index_add(0, groups, values) / samples
    apart = h - mean[groups]
    square = apart.square().mean(1, keepdim=True) if norm == "ray" else apart.square()
    variance = zero.index_add(0, groups, square) / samples
    return apart * torch.rsqrt(variance + EPSILON)[groups]


def modulate(
    h: Tensor,  # (n, c)
    pairs: Tensor,  # (n, 2 * groups): gamma - 1 of each group, then beta of each
    groups: int,
) -> Tensor:  # (n, c)
    """gamma h + beta, the same in each of `groups` runs of c / groups channels."""
    runs = h.unflatten(1, (groups, -1))
    return (runs * (1 + pairs[:, :groups, None]) + pairs[:, groups:, None]).flatten(1)


def perceptron(
    x: Tensor,  # (n, k)
    weights: tuple[Tensor, ...],  # each (outputs, inputs); the last layer is linear
    biases: tuple[Tensor, ...] | None,  # each (outputs,)
    packed: Tensor | None = None,  # (n, j): gamma - 1 and beta of modulated layers
    rows: tuple[
        int, ...
    ] = (),  # of each hidden layer: where its gamma - 1 stands in packed, beta behind it; -1: none
    norm: str = "none",  # "layer", "none"
    shared: Tensor | None = None,  # (m, s) inputs common to several samples, e.g. those of a ray
    index: Tensor | None = None,  # (n,) int32 rows of shared
    groups: int = 1,  # runs of channels of a layer, each with a gamma and a beta of its own; divides the width
) -> Tensor:  # (n, outputs of the last)
    """Hidden layers relu(gamma * norm(W x + b) + beta) and a linear one behind them; the input is [x, shared[index]].

    The same function as `layers_cpu.perceptron`, and its judge.
    """
    if shared is not None:
        x = torch.cat([x, shared[index.long()]], dim=1)
    return layers(_product, x, weights, biases, packed, rows, norm, groups)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.t()


def layers(
    product: Callable[[Tensor, Tensor], Tensor],  # (n, k), (outputs, k) -> (n, outputs)
    x: Tensor,
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor, ...] | None,
    packed: Tensor | None,
    rows: tuple[int, ...],
    norm: str,
    groups: int,
) -> Tensor:
    """The layers of `perceptron`, whatever multiplies."""
    for number, weight in enumerate(weights):
        x = product(x, weight)
        if biases is not None:
            x = x + biases[number]
        if number == len(weights) - 1:
            break
        x = normalise(x, norm)
        row = rows[number] if packed is not None else -1
        if row >= 0:
            x = modulate(x, packed[:, row : row + 2 * groups], groups)
        x = torch.relu(x)
    return x
