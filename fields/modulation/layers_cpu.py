"""Fused modulated perceptrons for the CPU: the blocks and tiles of `mlp.mlp_cpu`, with norm and modulation between layers.

Samples are the SIMD lanes, so a sample's scale, shift, mean and deviation are rows of a block: normalising and modulating is a
sweep over a block that lies in the first cache, two to six operations a value beside the hundred of its product. The
backward pass recomputes a block and keeps normalised values beside activations.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from ..mlp.mlp_cpu import (
    _GRADIENT_ROWS,
    BLOCK,
    _layer,
    _layer_input_gradient,
    _layer_weight_gradient,
    _load_block,
    _load_shared,
    feature_major,
    padded,
)
from .layers_reference import EPSILON

__all__ = ["perceptron"]

_EPSILON = np.float32(EPSILON)
_LANES = 16


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _finish(h, hat, count, bias, modulation, row, groups, norm, mean, deviation):
    """h (>= count, BLOCK), the product, becomes the layer's result in place; hat gets what is modulated.

    modulation (j, BLOCK), its rows from `row` are gamma - 1, then beta of each of `groups` runs of channels; row -1: none.
    deviation gets 1 / sqrt(variance + eps) of each sample if `norm`, else ones.
    """
    for i in range(BLOCK):
        mean[i] = np.float32(0)
        deviation[i] = np.float32(0) if norm else np.float32(1)
    if norm:
        share = np.float32(1) / np.float32(count)
        for f in range(count):
            b = bias[f]
            for i in range(BLOCK):
                value = h[f, i] + b
                h[f, i] = value
                mean[i] += value
        for i in range(BLOCK):
            mean[i] *= share
        for f in range(count):
            for i in range(BLOCK):
                apart = h[f, i] - mean[i]
                h[f, i] = apart
                deviation[i] += apart * apart
        for i in range(BLOCK):
            deviation[i] = np.float32(1) / np.sqrt(deviation[i] * share + _EPSILON)
    size = count // groups
    for group in range(groups):
        if row >= 0:
            gamma, beta = modulation[row + group], modulation[row + groups + group]
            for f in range(group * size, (group + 1) * size):
                b = np.float32(0) if norm else bias[f]
                for i in range(BLOCK):
                    value = (h[f, i] + b) * deviation[i]
                    hat[f, i] = value
                    h[f, i] = max(value + value * gamma[i] + beta[i], np.float32(0))
        else:
            for f in range(group * size, (group + 1) * size):
                b = np.float32(0) if norm else bias[f]
                for i in range(BLOCK):
                    value = (h[f, i] + b) * deviation[i]
                    hat[f, i] = value
                    h[f, i] = max(value, np.float32(0))


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _finish_backward(
    d, result, hat, count, dbias, modulation, dmodulation, row, groups, norm, deviation, scratch
):
    """d (>= count, BLOCK), the gradient of a layer's result, becomes that of its product.

    dbias (count, _LANES) gets sums to be summed along its rows; scratch is (5, BLOCK).
    The norm's own sums over channels are those of the modulation times gamma, which all channels of a run share.
    """
    a, b, of_mean, of_size, scale = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for i in range(BLOCK):
        of_mean[i] = np.float32(0)
        of_size[i] = np.float32(0)
    size = count // groups
    share = np.float32(1) / np.float32(count)
    for group in range(groups):
        for i in range(BLOCK):
            a[i] = np.float32(0)
            b[i] = np.float32(0)
        # short loops over few arrays: LLVM checks that they lie apart, and gives up on many
        for f in range(group * size, (group + 1) * size):
            for i in range(BLOCK):
                value = d[f, i] if result[f, i] > 0 else np.float32(0)
                d[f, i] = value
                a[i] += value * hat[f, i]
            for i in range(BLOCK):
                b[i] += d[f, i]
        if row >= 0:
            for i in range(BLOCK):
                dmodulation[row + group, i] = a[i]
                dmodulation[row + groups + group, i] = b[i]
            gamma = modulation[row + group]
            for i in range(BLOCK):
                a[i] += a[i] * gamma[i]
                b[i] += b[i] * gamma[i]
        for i in range(BLOCK):
            of_size[i] += a[i] * share
            of_mean[i] += b[i] * share
    for group in range(groups):
        if row >= 0:
            for i in range(BLOCK):
                scale[i] = np.float32(1) + modulation[row + group, i]
        else:
            for i in range(BLOCK):
                scale[i] = np.float32(1)
        if norm:
            for f in range(group * size, (group + 1) * size):
                for i in range(BLOCK):
                    d[f, i] = d[f, i] * scale[i] - of_mean[i] - hat[f, i] * of_size[i]
                for i in range(BLOCK):
                    d[f, i] *= deviation[i]
        elif row >= 0:
            for f in range(group * size, (group + 1) * size):
                for i in range(BLOCK):
                    d[f, i] *= scale[i]
    for f in range(count):  # sums in lanes: a sum along a row waits for itself
        for i in range(_LANES):
            part = np.float32(0)
            for k in range(0, BLOCK, _LANES):
                part += d[f, k + i]
            dbias[f, i] += part


@njit(cache=True)
def _forward_blocks(
    x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, y, first_block, last_block
):
    n = x.shape[1]
    layers = sizes.shape[0] - 1
    widest = sizes.max()
    ping, pong = np.empty((widest, BLOCK), np.float32), np.empty((widest, BLOCK), np.float32)
    hat = np.empty((widest, BLOCK), np.float32)  # not wanted here, but in place the sweep would not vectorise
    modulation = np.empty((packed.shape[0], BLOCK), np.float32)
    mean, deviation = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_block(x, start, count, ping[: sizes[0]])
        _load_shared(shared, index, start, count, ping, x.shape[0])
        _load_block(packed, start, count, modulation)
        offset, bias = 0, 0
        source, target = ping, pong
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _layer(
                weights.ctypes.data + offset * 4,
                outputs,
                inputs,
                source.ctypes.data,
                target.ctypes.data,
                False,
            )
            if layer < layers - 1:
                _finish(
                    target,
                    hat,
                    counts[layer],
                    biases[bias:],
                    modulation,
                    rows[layer],
                    groups,
                    norm,
                    mean,
                    deviation,
                )
            offset += inputs * outputs
            bias += outputs
            source, target = target, source
        bias -= sizes[layers]
        for feature in range(y.shape[0]):
            b = biases[bias + feature]
            for i in range(count):
                y[feature, start + i] = source[feature, i] + b


@njit(cache=True)
def _backward_blocks(
    x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, dy, dx, dpacked, dweights, dbiases,
    first_block, last_block,
):  # fmt: skip
    n = x.shape[1]
    layers = sizes.shape[0] - 1
    widest = sizes.max()
    total, all_biases = 0, 0
    for layer in range(layers):
        total += sizes[layer] * sizes[layer + 1]
        all_biases += sizes[layer + 1]
    kept = np.zeros((layers, widest, BLOCK), np.float32)
    hats = np.zeros((layers, widest, BLOCK), np.float32)
    deviations = np.zeros((layers, BLOCK), np.float32)
    flow = np.zeros((2, widest, BLOCK), np.float32)
    modulation = np.zeros((packed.shape[0], BLOCK), np.float32)
    dmodulation = np.zeros((packed.shape[0], BLOCK), np.float32)
    mean, scratch = np.empty(BLOCK, np.float32), np.empty((5, BLOCK), np.float32)
    transposed = np.empty(widest * BLOCK, np.float32)
    first = kept[0, : sizes[0]]
    layer_bytes = widest * BLOCK * 4
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_block(x, start, count, first)
        _load_shared(shared, index, start, count, first, x.shape[0])
        _load_block(packed, start, count, modulation)
        offset, bias = 0, 0
        for layer in range(layers - 1):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _layer(
                weights.ctypes.data + offset * 4, outputs, inputs,
                kept.ctypes.data + layer * layer_bytes, kept.ctypes.data + (layer + 1) * layer_bytes, False,
            )  # fmt: skip
            _finish(
                kept[layer + 1], hats[layer + 1], counts[layer], biases[bias:], modulation, rows[layer], groups, norm,
                mean, deviations[layer + 1],
            )  # fmt: skip
            offset += inputs * outputs
            bias += outputs
        here = 0
        _load_block(dy, start, count, flow[0, : sizes[layers]])
        for feature in range(dy.shape[0]):
            part = np.float32(0)
            for i in range(count):
                part += flow[0, feature, i]
            dbiases[all_biases - sizes[layers] + feature, 0] += part
        offset, bias = total, all_biases - sizes[layers]
        for step in range(layers):
            layer = layers - 1 - step
            inputs, outputs = sizes[layer], sizes[layer + 1]
            offset -= inputs * outputs
            _layer_weight_gradient(
                dweights.ctypes.data + offset * 4, outputs, inputs,
                flow.ctypes.data + here * layer_bytes, kept.ctypes.data + layer * layer_bytes,
                transposed.ctypes.data,
            )  # fmt: skip
            if layer == 0 and dx.shape[0] == 0:
                continue
            _layer_input_gradient(
                weights.ctypes.data + offset * 4, outputs, inputs,
                flow.ctypes.data + here * layer_bytes, flow.ctypes.data + (1 - here) * layer_bytes,
            )  # fmt: skip
            here = 1 - here
            if layer > 0:
                bias -= inputs
                _finish_backward(
                    flow[here], kept[layer], hats[layer], counts[layer - 1], dbiases[bias:], modulation,
                    dmodulation, rows[layer - 1], groups, norm, deviations[layer], scratch,
                )  # fmt: skip
        for feature in range(dx.shape[0]):
            for i in range(count):
                dx[feature, start + i] = flow[here, feature, i]
        for row in range(dpacked.shape[0]):
            for i in range(count):
                dpacked[row, start + i] = dmodulation[row, i]


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, y, workers):
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        _forward_blocks(
            x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, y,
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _backward(
    x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, dy, dx, dpacked, dweights, dbiases,
    workers,
):  # fmt: skip
    """Fills dx and dpacked (zero rows: not wanted), and dweights (workers, ...) and dbiases (workers, ..., _LANES), which come in as zeros."""
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        _backward_blocks(
            x, shared, index, weights, biases, sizes, counts, packed, rows, groups, norm, dy, dx, dpacked,
            dweights[worker], dbiases[worker],
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


def _pack(weights: list[Tensor], biases: list[Tensor] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and biases padded with zeros to the tiles' sizes, one layer after another, and the sizes."""
    sizes = [padded(weight.shape[1], 16) for weight in weights]
    sizes.append(padded(weights[-1].shape[0], _GRADIENT_ROWS))
    matrices, vectors = [], []
    for number, (weight, inputs, outputs) in enumerate(zip(weights, sizes[:-1], sizes[1:])):
        matrix, vector = np.zeros((outputs, inputs), np.float32), np.zeros(outputs, np.float32)
        matrix[: weight.shape[0], : weight.shape[1]] = weight.detach().numpy()
        if biases is not None:
            vector[: weight.shape[0]] = biases[number].detach().numpy()
        matrices.append(matrix.ravel())
        vectors.append(vector)
    return np.concatenate(matrices), np.concatenate(vectors), np.array(sizes, np.int64)


_NO_SHARED = (np.zeros((1, 0), np.float32), np.zeros(0, np.int32))


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, rows, groups, norm, shared, index, layers, *parameters):
        weights, biases = list(parameters[:layers]), list(parameters[layers:]) or None
        n = x.shape[0]
        extra = _NO_SHARED if shared is None else (shared.detach().contiguous().numpy(), index.numpy())
        modulation = np.zeros((0, n), np.float32) if packed is None else feature_major(packed)
        counts = np.array([weight.shape[0] for weight in weights], np.int64)
        matrices, vectors, sizes = _pack(weights, biases)
        where = np.array(rows if packed is not None else [-1] * layers, np.int64)
        ctx.inputs = (
            feature_major(x), *extra, matrices, vectors, sizes, counts, modulation, where, groups, norm == "layer"
        )  # fmt: skip
        ctx.weights, ctx.biases = [weight.shape for weight in weights], biases is not None
        y = np.empty((counts[-1], n), np.float32)
        if n:
            _forward(*ctx.inputs, y, get_num_threads())
        return torch.from_numpy(y).t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, _, _, matrices, vectors, sizes, _, modulation, _, _, _ = ctx.inputs
        workers, n = get_num_threads(), x.shape[1]
        dx = np.empty((x.shape[0] if ctx.needs_input_grad[0] else 0, n), np.float32)
        dpacked = np.zeros((modulation.shape[0] if ctx.needs_input_grad[1] else 0, n), np.float32)
        dweights = np.zeros((workers, len(matrices)), np.float32)
        dbiases = np.zeros((workers, len(vectors), _LANES), np.float32)
        if n:
            _backward(*ctx.inputs, feature_major(dy), dx, dpacked, dweights, dbiases, workers)
        summed, slopes = dweights.sum(axis=0), dbiases.sum(axis=(0, 2))
        of_weights, of_biases, offset, bias = [], [], 0, 0
        for shape, inputs, outputs in zip(ctx.weights, sizes[:-1], sizes[1:]):
            part = summed[offset : offset + inputs * outputs].reshape(outputs, inputs)
            of_weights.append(torch.from_numpy(part[: shape[0], : shape[1]].copy()))
            of_biases.append(torch.from_numpy(slopes[bias : bias + shape[0]].copy()))
            offset += inputs * outputs
            bias += outputs
        return (
            torch.from_numpy(dx).t() if ctx.needs_input_grad[0] else None,
            torch.from_numpy(dpacked).t() if ctx.needs_input_grad[1] else None,
            None, None, None, None, None, None,
            *of_weights,
            *(of_biases if ctx.biases else ()),
        )  # fmt: skip


def perceptron(
    x: Tensor,  # (n, k) float32, any layout; feature-major storage is read without a copy
    weights: tuple[Tensor, ...],
    biases: tuple[Tensor, ...] | None,
    packed: Tensor | None = None,  # (n, j)
    rows: tuple[int, ...] = (),
    norm: str = "none",  # or "layer"
    shared: Tensor | None = None,
    index: Tensor | None = None,
    groups: int = 1,
) -> Tensor:  # (n, outputs of the last), a transposed view of feature-major storage
    """As `layers_reference.perceptron`; differentiable once with respect to x, parameters and packed, not to shared."""
    return _Perceptron.apply(
        x, packed, rows, groups, norm, shared, index, len(weights), *weights, *(biases or ())
    )  # fmt: skip
