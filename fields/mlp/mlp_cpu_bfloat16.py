"""The fused perceptrons of `mlp_cpu` with products in bfloat16, for CPUs with AVX-512 BF16: twice the multiply-adds an instruction.

Sums are float32, and so are parameters, gradients, inputs and results; activations and the gradients between layers are rounded
to bfloat16 (8 bits of fraction). The backward pass recomputes a block's activations, as `mlp_cpu` does.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from .mlp_cpu import feature_major, padded
from .simd import transpose8
from .simd_bfloat16 import (
    convert_rows,
    split_pairs,
    tile_forward,
    tile_kept,
    tile_masked,
    tile_output,
    tile_weight_gradient,
)

__all__ = ["mlp_bfloat16"]

BLOCK = 96
"""Samples worked on at a time: two tiles of 48."""
_TILE, _LANES = 48, 16


@njit(cache=True)
def _load_rows(source, start, count, whole, pairs, rows):
    """Columns [start, start + count) of source (features, n) as pairs, and as rows unless `rows` is 0; zeros behind `count`.

    `features` is even; `whole` (features, BLOCK) is room for a block that is not full. The last two are addresses.
    """
    features = source.shape[0]
    if count == BLOCK:
        address, stride = source.ctypes.data + start * 4, source.shape[1] * 4
    else:
        for feature in range(features):
            for i in range(count):
                whole[feature, i] = source[feature, start + i]
            for i in range(count, BLOCK):
                whole[feature, i] = np.float32(0)
        address, stride = whole.ctypes.data, BLOCK * 4
    for feature in range(0, features, 2):
        for i in range(0, BLOCK, _LANES):
            kept = rows + (feature * BLOCK + i) * 2 if rows != 0 else 0
            convert_rows(
                address + feature * stride + i * 4,
                stride,
                pairs + (feature // 2 * BLOCK + i) * 4,
                kept,
                BLOCK * 2,
            )


@njit(cache=True)
def _load_shared(words, index, start, count, pairs, first):
    """Rows from `first` of pairs become words[index[start + i]], one row of `words` (m, k) per sample."""
    for i in range(count):
        source = index[start + i]
        for k in range(words.shape[1]):
            pairs[first + k, i] = words[source, k]


@njit(cache=True)
def _forward_blocks(x, words, index, weights, sizes, y, first_block, last_block):
    n = x.shape[1]
    layers = len(sizes) - 1
    widest = sizes.max()
    ping = np.zeros((widest // 2, BLOCK), np.uint32)
    pong = np.zeros((widest // 2, BLOCK), np.uint32)
    whole = np.empty((x.shape[0], BLOCK), np.float32)
    result = np.empty((sizes[layers], BLOCK), np.float32)
    inputs_at = np.zeros((sizes[0] // 2, BLOCK), np.uint32)
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_rows(x, start, count, whole, inputs_at.ctypes.data, 0)
        _load_shared(words, index, start, count, inputs_at, x.shape[0] // 2)
        weight = weights.ctypes.data
        source, target, other = inputs_at.ctypes.data, ping.ctypes.data, pong.ctypes.data
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            for row in range(0, outputs, 8):
                a = weight + row * inputs * 2
                for column in range(0, BLOCK, _TILE):
                    b = source + column * 4
                    if layer < layers - 1:
                        out = target + (row // 2 * BLOCK + column) * 4
                        tile_forward(a, inputs * 2, b, inputs // 2, out, 0, 0, BLOCK)
                    else:
                        out = result.ctypes.data + (row * BLOCK + column) * 4
                        tile_output(a, inputs * 2, b, inputs // 2, out, 0, 0, BLOCK)
            weight += outputs * inputs * 2
            source, target, other = target, other, target
        for feature in range(y.shape[0]):
            for i in range(count):
                y[feature, start + i] = result[feature, i]


@njit(cache=True)
def _gradient_of_weights(dweight, outputs, inputs, dy, x, transposed):
    """dweight (outputs, inputs) float32 += dy (outputs, BLOCK) @ x (inputs, BLOCK)^T, both as bfloat16 rows; addresses."""
    for row in range(0, inputs, 8):  # words of two samples: (inputs, BLOCK / 2) to (BLOCK / 2, inputs)
        for column in range(0, BLOCK // 2, 8):
            transpose8(
                x + row * BLOCK * 2 + column * 4,
                BLOCK * 2,
                transposed + (column * inputs + row) * 4,
                inputs * 4,
            )
    for row in range(0, outputs, 8):
        for column in range(0, inputs, 32):
            tile_weight_gradient(
                dy + row * BLOCK * 2, BLOCK * 2, transposed + column * 4, inputs * 4, BLOCK // 2,
                dweight + (row * inputs + column) * 4, inputs * 4,
            )  # fmt: skip


@njit(cache=True)
def _backward_blocks(x, words, index, weights, turned, sizes, dy, dx, dweights, first_block, last_block):
    n = x.shape[1]
    layers = len(sizes) - 1
    widest = sizes.max()
    pairs = np.zeros((layers, widest // 2, BLOCK), np.uint32)
    rows = np.zeros((layers, widest, BLOCK), np.uint16)
    flow_pairs = np.zeros((2, widest // 2, BLOCK), np.uint32)
    flow_rows = np.zeros((2, widest, BLOCK), np.uint16)
    whole = np.empty((max(x.shape[0], dy.shape[0]), BLOCK), np.float32)
    result = np.empty((sizes[0], BLOCK), np.float32)
    transposed = np.empty(widest * BLOCK // 2, np.uint32)
    pairs_step, rows_step = widest // 2 * BLOCK * 4, widest * BLOCK * 2
    total = 0
    for layer in range(layers):
        total += sizes[layer] * sizes[layer + 1]
    shared_row = x.shape[0]
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_rows(x, start, count, whole, pairs.ctypes.data, rows.ctypes.data)
        _load_shared(words, index, start, count, pairs[0], shared_row // 2)
        for k in range(words.shape[1]):
            for i in range(0, BLOCK, _LANES):
                split_pairs(
                    pairs.ctypes.data + ((shared_row // 2 + k) * BLOCK + i) * 4,
                    rows.ctypes.data + ((shared_row + 2 * k) * BLOCK + i) * 2,
                    BLOCK * 2,
                )
        weight = weights.ctypes.data
        for layer in range(layers - 1):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            for row in range(0, outputs, 8):
                for column in range(0, BLOCK, _TILE):
                    tile_kept(
                        weight + row * inputs * 2, inputs * 2,
                        pairs.ctypes.data + layer * pairs_step + column * 4, inputs // 2,
                        pairs.ctypes.data + (layer + 1) * pairs_step + (row // 2 * BLOCK + column) * 4,
                        rows.ctypes.data + (layer + 1) * rows_step + (row * BLOCK + column) * 2,
                        0, BLOCK,
                    )  # fmt: skip
            weight += outputs * inputs * 2
        here = 0
        # rows of dy behind the last are zeros, but a layer before this one may have left something there
        flow_pairs[0, : sizes[layers] // 2] = np.uint32(0)
        flow_rows[0, : sizes[layers]] = np.uint16(0)
        _load_rows(dy, start, count, whole, flow_pairs.ctypes.data, flow_rows.ctypes.data)
        offset = total
        for step in range(layers):
            layer = layers - 1 - step
            inputs, outputs = sizes[layer], sizes[layer + 1]
            offset -= inputs * outputs
            _gradient_of_weights(
                dweights.ctypes.data + offset * 4, outputs, inputs,
                flow_rows.ctypes.data + here * rows_step, rows.ctypes.data + layer * rows_step,
                transposed.ctypes.data,
            )  # fmt: skip
            if layer == 0 and dx.shape[0] == 0:
                continue
            rows_wanted = inputs if layer > 0 else (dx.shape[0] + 7) // 8 * 8
            for row in range(0, rows_wanted, 8):
                a = turned.ctypes.data + offset * 2 + row * outputs * 2
                for column in range(0, BLOCK, _TILE):
                    b = flow_pairs.ctypes.data + here * pairs_step + column * 4
                    if layer > 0:
                        tile_masked(
                            a, outputs * 2, b, outputs // 2,
                            flow_pairs.ctypes.data + (1 - here) * pairs_step + (row // 2 * BLOCK + column) * 4,
                            flow_rows.ctypes.data + (1 - here) * rows_step + (row * BLOCK + column) * 2,
                            rows.ctypes.data + layer * rows_step + (row * BLOCK + column) * 2, BLOCK,
                        )  # fmt: skip
                    else:
                        out = result.ctypes.data + (row * BLOCK + column) * 4
                        tile_output(a, outputs * 2, b, outputs // 2, out, 0, 0, BLOCK)
            here = 1 - here
        for feature in range(dx.shape[0]):
            for i in range(count):
                dx[feature, start + i] = result[feature, i]


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(x, words, index, weights, sizes, y, workers):
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        _forward_blocks(x, words, index, weights, sizes, y, first, last)


@njit(parallel=True, cache=True)
def _backward(x, words, index, weights, turned, sizes, dy, dx, dweights, workers):
    """Fills dx (rows wanted, n; zero rows: not wanted) and dweights (workers, parameters), which comes in as zeros."""
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        _backward_blocks(x, words, index, weights, turned, sizes, dy, dx, dweights[worker], first, last)


def _words(rows: Tensor) -> np.ndarray:
    """(m, k) float32, k even, to (m, k / 2) uint32: neighbours along k as pairs of bfloat16."""
    return rows.bfloat16().contiguous().view(torch.int16).numpy().view(np.uint32)


def _even(rows: Tensor) -> Tensor:
    """With a column of zeros behind an odd number of columns."""
    return torch.nn.functional.pad(rows, (0, 1)) if rows.shape[1] % 2 else rows


def _pack(weights: tuple[Tensor, ...], own: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and their transposes as pairs, one layer after another, and the sizes they are padded to with zeros.

    `own` counts the inputs that are not shared; if odd, a column of zeros follows them, so that shared ones begin a pair.
    """
    plain = [weight.detach() for weight in weights]
    if own % 2:
        plain[0] = torch.cat([_even(plain[0][:, :own]), plain[0][:, own:]], dim=1)
    sizes = [padded(weight.shape[1], 32) for weight in plain] + [padded(plain[-1].shape[0], 8)]
    full = []
    for weight, inputs, outputs in zip(plain, sizes[:-1], sizes[1:]):
        missing = (0, inputs - weight.shape[1], 0, outputs - weight.shape[0])
        full.append(torch.nn.functional.pad(weight, missing) if any(missing) else weight)
    return (
        np.concatenate([_words(weight).ravel() for weight in full]),
        np.concatenate([_words(weight.t()).ravel() for weight in full]),
        np.array(sizes, np.int64),
    )


_NO_SHARED = (np.zeros((1, 0), np.uint32), np.zeros(0, np.int32))


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shared: Tensor | None, index: Tensor | None, *weights: Tensor) -> Tensor:
        own = x.shape[1]
        packed, turned, sizes = _pack(weights, own)
        features = feature_major(_even(x.detach()))
        extra = _NO_SHARED if shared is None else (_words(_even(shared.detach())), index.numpy())
        y = np.empty((weights[-1].shape[0], x.shape[0]), np.float32)
        if x.shape[0]:
            _forward(features, *extra, packed, sizes, y, get_num_threads())
        ctx.save_for_backward(x)
        ctx.extra, ctx.packed = extra, (packed, turned, sizes)
        ctx.shapes = [weight.shape for weight in weights]
        return torch.from_numpy(y).t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        (x,) = ctx.saved_tensors
        packed, turned, sizes = ctx.packed
        n, own = x.shape
        workers = get_num_threads()
        dx = np.empty((own if ctx.needs_input_grad[0] else 0, n), np.float32)
        dweights = np.zeros((workers, int((sizes[:-1] * sizes[1:]).sum())), np.float32)
        if n:
            flow = feature_major(_even(dy))
            _backward(
                feature_major(_even(x.detach())),
                *ctx.extra,
                packed,
                turned,
                sizes,
                flow,
                dx,
                dweights,
                workers,
            )
        summed = torch.from_numpy(dweights.sum(axis=0))
        gradients, offset = [], 0
        for number, (inputs, outputs) in enumerate(zip(sizes[:-1].tolist(), sizes[1:].tolist())):
            part = summed[offset : offset + inputs * outputs].view(outputs, inputs)
            offset += inputs * outputs
            if number == 0 and own % 2:
                part = torch.cat([part[:, :own], part[:, own + 1 :]], dim=1)
            rows, columns = ctx.shapes[number]
            gradients.append(part[:rows, :columns].contiguous())
        return (torch.from_numpy(dx).t() if ctx.needs_input_grad[0] else None, None, None, *gradients)


def mlp_bfloat16(
    x: Tensor,  # (n, k) float32, any layout; feature-major storage is read without a copy
    weights: tuple[Tensor, ...],  # each (outputs, inputs) float32; hidden layers at most any width
    shared: Tensor | None = None,  # (m, j) float32, inputs that several samples share, e.g. those of a ray
    index: Tensor | None = None,  # (n,) int32 into shared
) -> Tensor:  # (n, outputs of the last) float32, a transposed view of feature-major storage
    """Linear layers without biases, ReLU between them; the input is [x, shared[index]].

    Differentiable once with respect to x and weights, not to shared.
    """
    return _Mlp.apply(x, shared, index, *weights)
