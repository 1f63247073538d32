"""Fused perceptrons for the CPU: all layers of a block of samples while they sit in the first cache.

Activations are feature-major, (features, samples), so that samples are the SIMD lanes and a weight is a broadcast:
no layer needs a transposed or repacked matrix. The backward pass recomputes the block's activations instead of
reading them back from memory; at 2 x 64 hidden units that costs a quarter of the arithmetic and saves 1.5 KB of
traffic per sample. Each worker sums weight gradients privately, so there are no atomics and one thread count gives
one result.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from ..vector_ir import LANES
from .simd import tile_rows4, tile_weight_gradient, transpose8

__all__ = ["BLOCK", "feature_major", "mlp", "padded"]

BLOCK = 96
"""Samples worked on at a time: a multiple of both tile widths (3 x 8 and 3 x 16), small enough for a 32 KiB cache."""
_COLUMNS = 3 * LANES
_GRADIENT_ROWS = 4 * (LANES // 8)


@njit(cache=True, fastmath={"contract"})
def _layer(weight, outputs, inputs, x, y, relu):
    """y (outputs, BLOCK) = weight (outputs, inputs) @ x (inputs, BLOCK), at addresses in bytes."""
    for row in range(0, outputs, 4):
        for column in range(0, BLOCK, _COLUMNS):
            tile_rows4(
                weight + row * inputs * 4,
                inputs * 4,
                4,
                x + column * 4,
                BLOCK * 4,
                y + (row * BLOCK + column) * 4,
                BLOCK * 4,
                inputs,
                relu,
            )


@njit(cache=True, fastmath={"contract"})
def _layer_input_gradient(weight, outputs, inputs, dy, dx):
    """dx (inputs, BLOCK) = weight^T @ dy (outputs, BLOCK)."""
    for row in range(0, inputs, 4):
        for column in range(0, BLOCK, _COLUMNS):
            tile_rows4(
                weight + row * 4,
                4,
                inputs * 4,
                dy + column * 4,
                BLOCK * 4,
                dx + (row * BLOCK + column) * 4,
                BLOCK * 4,
                outputs,
                False,
            )


@njit(cache=True, fastmath={"contract"})
def _layer_weight_gradient(dweight, outputs, inputs, dy, x, transposed):
    """dweight (outputs, inputs) += dy (outputs, BLOCK) @ x^T; `transposed` is scratch of BLOCK * inputs floats."""
    for row in range(0, inputs, 8):
        for column in range(0, BLOCK, 8):
            transpose8(
                x + (row * BLOCK + column) * 4,
                BLOCK * 4,
                transposed + (column * inputs + row) * 4,
                inputs * 4,
            )
    for row in range(0, outputs, _GRADIENT_ROWS):
        for column in range(0, inputs, 16):
            tile_weight_gradient(
                dy + row * BLOCK * 4,
                BLOCK * 4,
                4,
                transposed + column * 4,
                inputs * 4,
                dweight + (row * inputs + column) * 4,
                inputs * 4,
                BLOCK,
                False,
            )


@njit(cache=True, fastmath={"contract"})
def _load_block(array, start, count, block):
    """Copies columns [start, start + count) of array (features, n) into block (>= features, BLOCK), zero padded.

    Copying also avoids cache-set conflicts: rows of `array` may lie a power of two apart.
    """
    features = array.shape[0]
    for feature in range(features):
        for i in range(count):
            block[feature, i] = array[feature, start + i]
        for i in range(count, BLOCK):
            block[feature, i] = np.float32(0)
    for feature in range(features, block.shape[0]):
        for i in range(BLOCK):
            block[feature, i] = np.float32(0)


@njit(cache=True, fastmath={"contract"})
def _load_shared(shared, index, start, count, block, row):
    """Rows from `row` of block become shared[index[start + i]], one row of `shared` (m, k) per sample."""
    for i in range(count):
        source = index[start + i]
        for feature in range(shared.shape[1]):
            block[row + feature, i] = shared[source, feature]


@njit(cache=True)
def _forward_blocks(x, shared, index, weights, sizes, y, first_block, last_block):
    n = x.shape[1]
    layers = sizes.shape[0] - 1
    widest = sizes.max()
    ping = np.empty((widest, BLOCK), np.float32)
    pong = np.empty((widest, BLOCK), np.float32)
    first = ping[: sizes[0]]
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_block(x, start, count, first)
        _load_shared(shared, index, start, count, first, x.shape[0])
        offset = 0
        source, target = ping.ctypes.data, pong.ctypes.data
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _layer(weights.ctypes.data + offset * 4, outputs, inputs, source, target, layer < layers - 1)
            offset += inputs * outputs
            source, target = target, source
        result = ping if layers % 2 == 0 else pong
        for feature in range(y.shape[0]):
            for i in range(count):
                y[feature, start + i] = result[feature, i]


@njit(cache=True)
def _backward_blocks(x, shared, index, weights, sizes, dy, dx, dweights, first_block, last_block):
    n = x.shape[1]
    layers = sizes.shape[0] - 1
    widest = sizes.max()
    total = 0
    for layer in range(layers):
        total += sizes[layer] * sizes[layer + 1]
    kept = np.empty((layers, widest, BLOCK), np.float32)
    ping = np.empty((widest, BLOCK), np.float32)
    pong = np.empty((widest, BLOCK), np.float32)
    transposed = np.empty(widest * BLOCK, np.float32)
    first = kept[0, : sizes[0]]
    layer_bytes = widest * BLOCK * 4
    kept_data = kept.ctypes.data
    weight_data = weights.ctypes.data
    gradient_data = dweights.ctypes.data
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_block(x, start, count, first)
        _load_shared(shared, index, start, count, first, x.shape[0])
        offset = 0
        for layer in range(layers - 1):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _layer(
                weight_data + offset * 4,
                outputs,
                inputs,
                kept_data + layer * layer_bytes,
                kept_data + (layer + 1) * layer_bytes,
                True,
            )
            offset += inputs * outputs
        _load_block(dy, start, count, ping[: sizes[layers]])
        incoming, outgoing = ping, pong
        offset = total
        for step in range(layers):
            layer = layers - 1 - step
            inputs, outputs = sizes[layer], sizes[layer + 1]
            offset -= inputs * outputs
            _layer_weight_gradient(
                gradient_data + offset * 4,
                outputs,
                inputs,
                incoming.ctypes.data,
                kept_data + layer * layer_bytes,
                transposed.ctypes.data,
            )
            if layer > 0 or dx.shape[0] > 0:
                _layer_input_gradient(
                    weight_data + offset * 4, outputs, inputs, incoming.ctypes.data, outgoing.ctypes.data
                )
            if layer > 0:
                for feature in range(inputs):
                    for i in range(BLOCK):
                        value = outgoing[feature, i]
                        outgoing[feature, i] = value if kept[layer, feature, i] > 0 else np.float32(0)
                incoming, outgoing = outgoing, incoming
            else:
                for feature in range(dx.shape[0]):
                    for i in range(count):
                        dx[feature, start + i] = outgoing[feature, i]


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(x, shared, index, weights, sizes, y, workers):
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        _forward_blocks(x, shared, index, weights, sizes, y, first, last)


@njit(parallel=True, cache=True)
def _backward(x, shared, index, weights, sizes, dy, dx, dweights, workers):
    """Fills dx (rows wanted, n; zero rows: not wanted) and dweights (workers, parameters), which comes in as zeros."""
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        first, last = worker * blocks // workers, (worker + 1) * blocks // workers
        _backward_blocks(x, shared, index, weights, sizes, dy, dx, dweights[worker], first, last)


def padded(width: int, multiple: int) -> int:
    """The next multiple."""
    return (width + multiple - 1) // multiple * multiple


def _pack(weights: tuple[Tensor, ...]) -> tuple[np.ndarray, np.ndarray]:
    """All weights (out, in) padded with zeros to the tiles' sizes, one after another: inputs to 16, results to a tile's rows."""
    sizes = [padded(weight.shape[1], 16) for weight in weights]
    sizes.append(padded(weights[-1].shape[0], _GRADIENT_ROWS))
    parts = []
    for weight, inputs, outputs in zip(weights, sizes[:-1], sizes[1:]):
        part = np.zeros((outputs, inputs), np.float32)
        part[: weight.shape[0], : weight.shape[1]] = weight.detach().numpy()
        parts.append(part.ravel())
    return np.concatenate(parts), np.array(sizes, np.int64)


def feature_major(x: Tensor) -> np.ndarray:
    """(n, k) to a contiguous (k, n) array; free when `x` is the transposed view that our kernels return."""
    return x.detach().t().contiguous().numpy()


_NO_SHARED = (np.zeros((1, 0), np.float32), np.zeros(0, np.int32))


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, shared: Tensor | None, index: Tensor | None, *weights: Tensor) -> Tensor:
        packed, sizes = _pack(weights)
        features = feature_major(x)
        extra = _NO_SHARED if shared is None else (shared.detach().contiguous().numpy(), index.numpy())
        y = np.empty((weights[-1].shape[0], x.shape[0]), np.float32)
        if x.shape[0]:
            _forward(features, *extra, packed, sizes, y, get_num_threads())
        ctx.save_for_backward(x, *weights)
        ctx.extra = extra
        return torch.from_numpy(y).t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, *weights = ctx.saved_tensors
        packed, sizes = _pack(weights)
        workers = get_num_threads()
        n = x.shape[0]
        dx = np.empty((x.shape[1] if ctx.needs_input_grad[0] else 0, n), np.float32)
        dweights = np.zeros((workers, len(packed)), np.float32)
        if n:
            _backward(feature_major(x), *ctx.extra, packed, sizes, feature_major(dy), dx, dweights, workers)
        summed = dweights.sum(axis=0)
        gradients, offset = [], 0
        for weight, inputs, outputs in zip(weights, sizes[:-1], sizes[1:]):
            part = summed[offset : offset + inputs * outputs].reshape(outputs, inputs)
            gradients.append(torch.from_numpy(part[: weight.shape[0], : weight.shape[1]].copy()))
            offset += inputs * outputs
        return (torch.from_numpy(dx).t() if ctx.needs_input_grad[0] else None, None, None, *gradients)


def mlp(
    x: Tensor,  # (n, k) float32, any layout; feature-major storage is read without a copy
    weights: tuple[Tensor, ...],  # each (outputs, inputs) float32
    shared: Tensor | None = None,  # (m, j) float32, inputs that several samples share, e.g. those of a ray
    index: Tensor | None = None,  # (n,) int32 into shared
) -> Tensor:  # (n, outputs of the last), a transposed view of feature-major storage
    """Linear layers without biases, ReLU between them; the input is [x, shared[index]].

    Differentiable once with respect to x and weights, not to shared.
    """
    return _Mlp.apply(x, shared, index, *weights)
