"""The modulated perceptrons of `layers_cpu` with products in bfloat16, for CPUs with AVX-512 BF16.

Products run through the tiles of `mlp.mlp_cpu_bfloat16`; their float32 sums are normalised, modulated and clipped by the same
sweeps as in `layers_cpu`, then rounded to bfloat16 for the next product. Parameters, modulation, statistics and results are float32.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from ..mlp.mlp_cpu import feature_major
from ..mlp.mlp_cpu_bfloat16 import (
    _LANES,
    _NO_SHARED,
    _TILE,
    BLOCK,
    _even,
    _gradient_of_weights,
    _load_rows,
    _load_shared,
    _pack,
    _words,
)
from ..mlp.simd_bfloat16 import convert_rows, split_pairs, tile_output
from .layers_cpu import _finish, _finish_backward, _load_block

__all__ = ["perceptron"]


@njit(cache=True)
def _product(weight, inputs, outputs, pairs, out):
    """out (outputs, BLOCK) float32 = weights (outputs, inputs) times pairs (inputs / 2, BLOCK); addresses."""
    for row in range(0, outputs, 8):
        for column in range(0, BLOCK, _TILE):
            tile_output(
                weight + row * inputs * 2, inputs * 2, pairs + column * 4, inputs // 2,
                out + (row * BLOCK + column) * 4, 0, 0, BLOCK,
            )  # fmt: skip


@njit(cache=True)
def _narrow(source, features, pairs, rows):
    """Rounds (features, BLOCK) float32 to pairs, and to rows unless `rows` is 0; addresses, features even."""
    for feature in range(0, features, 2):
        for i in range(0, BLOCK, _LANES):
            kept = rows + (feature * BLOCK + i) * 2 if rows != 0 else 0
            convert_rows(
                source + (feature * BLOCK + i) * 4,
                BLOCK * 4,
                pairs + (feature // 2 * BLOCK + i) * 4,
                kept,
                BLOCK * 2,
            )


@njit(cache=True)
def _forward_blocks(
    x, words, index, weights, biases, sizes, counts, packed, at, groups, norm, y, first_block, last_block
):
    n = x.shape[1]
    layers = len(sizes) - 1
    widest = sizes.max()
    pairs = np.zeros((widest // 2, BLOCK), np.uint32)
    inputs_at = np.zeros((sizes[0] // 2, BLOCK), np.uint32)
    whole = np.empty((x.shape[0], BLOCK), np.float32)
    result, hat = np.empty((widest, BLOCK), np.float32), np.empty((widest, BLOCK), np.float32)
    modulation = np.empty((packed.shape[0], BLOCK), np.float32)
    mean, deviation = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for block in range(first_block, last_block):
        start = block * BLOCK
        count = min(BLOCK, n - start)
        _load_rows(x, start, count, whole, inputs_at.ctypes.data, 0)
        _load_shared(words, index, start, count, inputs_at, x.shape[0] // 2)
        _load_block(packed, start, count, modulation)
        weight, bias = weights.ctypes.data, 0
        source = inputs_at.ctypes.data
        for layer in range(layers):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _product(weight, inputs, outputs, source, result.ctypes.data)
            if layer < layers - 1:
                _finish(
                    result,
                    hat,
                    counts[layer],
                    biases[bias:],
                    modulation,
                    at[layer],
                    groups,
                    norm,
                    mean,
                    deviation,
                )
                _narrow(result.ctypes.data, outputs, pairs.ctypes.data, 0)
            weight += outputs * inputs * 2
            bias += outputs
            source = pairs.ctypes.data
        bias -= sizes[layers]
        for feature in range(y.shape[0]):
            b = biases[bias + feature]
            for i in range(count):
                y[feature, start + i] = result[feature, i] + b


@njit(cache=True)
def _backward_blocks(
    x, words, index, weights, turned, biases, sizes, counts, packed, at, groups, norm, dy, dx, dpacked, dweights, dbiases,
    first_block, last_block,
):  # fmt: skip
    n = x.shape[1]
    layers = len(sizes) - 1
    widest = sizes.max()
    total, all_biases = 0, 0
    for layer in range(layers):
        total += sizes[layer] * sizes[layer + 1]
        all_biases += sizes[layer + 1]
    pairs = np.zeros((layers, widest // 2, BLOCK), np.uint32)
    rows = np.zeros((layers, widest, BLOCK), np.uint16)
    hats = np.zeros((layers, widest, BLOCK), np.float32)
    deviations = np.zeros((layers, BLOCK), np.float32)
    flow_pairs = np.zeros((widest // 2, BLOCK), np.uint32)
    flow_rows = np.zeros((widest, BLOCK), np.uint16)
    whole = np.empty((max(x.shape[0], dy.shape[0]), BLOCK), np.float32)
    result = np.zeros((widest, BLOCK), np.float32)
    modulation = np.zeros((packed.shape[0], BLOCK), np.float32)
    dmodulation = np.zeros((packed.shape[0], BLOCK), np.float32)
    mean, scratch = np.empty(BLOCK, np.float32), np.empty((5, BLOCK), np.float32)
    transposed = np.empty(widest * BLOCK // 2, np.uint32)
    pairs_step, rows_step = widest // 2 * BLOCK * 4, widest * BLOCK * 2
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
        _load_block(packed, start, count, modulation)
        weight, bias = weights.ctypes.data, 0
        for layer in range(layers - 1):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            _product(
                weight, inputs, outputs, pairs.ctypes.data + layer * pairs_step, result.ctypes.data
            )  # fmt: skip
            _finish(
                result, hats[layer + 1], counts[layer], biases[bias:], modulation, at[layer], groups, norm, mean,
                deviations[layer + 1],
            )  # fmt: skip
            _narrow(
                result.ctypes.data, outputs, pairs.ctypes.data + (layer + 1) * pairs_step,
                rows.ctypes.data + (layer + 1) * rows_step,
            )  # fmt: skip
            weight += outputs * inputs * 2
            bias += outputs
        # rows of dy behind the last are zeros, but a layer before this one may have left something there
        flow_pairs[: sizes[layers] // 2] = np.uint32(0)
        flow_rows[: sizes[layers]] = np.uint16(0)
        _load_rows(dy, start, count, whole, flow_pairs.ctypes.data, flow_rows.ctypes.data)
        for feature in range(dy.shape[0]):
            part = np.float32(0)
            for i in range(count):
                part += dy[feature, start + i]
            dbiases[all_biases - sizes[layers] + feature, 0] += part
        offset, bias = total, all_biases - sizes[layers]
        for step in range(layers):
            layer = layers - 1 - step
            inputs, outputs = sizes[layer], sizes[layer + 1]
            offset -= inputs * outputs
            _gradient_of_weights(
                dweights.ctypes.data + offset * 4, outputs, inputs,
                flow_rows.ctypes.data, rows.ctypes.data + layer * rows_step, transposed.ctypes.data,
            )  # fmt: skip
            if layer == 0 and dx.shape[0] == 0:
                continue
            wanted = inputs if layer > 0 else (dx.shape[0] + 7) // 8 * 8
            _product(
                turned.ctypes.data + offset * 2, outputs, wanted, flow_pairs.ctypes.data, result.ctypes.data
            )  # fmt: skip
            if layer > 0:
                bias -= inputs
                _finish_backward(
                    result, rows[layer], hats[layer], counts[layer - 1], dbiases[bias:], modulation, dmodulation,
                    at[layer - 1], groups, norm, deviations[layer], scratch,
                )  # fmt: skip
                _narrow(result.ctypes.data, inputs, flow_pairs.ctypes.data, flow_rows.ctypes.data)
        for feature in range(dx.shape[0]):
            for i in range(count):
                dx[feature, start + i] = result[feature, i]
        for row in range(dpacked.shape[0]):
            for i in range(count):
                dpacked[row, start + i] = dmodulation[row, i]


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(x, words, index, weights, biases, sizes, counts, packed, at, groups, norm, y, workers):
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        _forward_blocks(
            x, words, index, weights, biases, sizes, counts, packed, at, groups, norm, y,
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _backward(
    x, words, index, weights, turned, biases, sizes, counts, packed, at, groups, norm, dy, dx, dpacked, dweights, dbiases,
    workers,
):  # fmt: skip
    """Fills dx and dpacked (zero rows: not wanted), and dweights (workers, ...) and dbiases (workers, ..., _LANES), which come in as zeros."""
    blocks = (x.shape[1] + BLOCK - 1) // BLOCK
    for worker in prange(workers):
        _backward_blocks(
            x, words, index, weights, turned, biases, sizes, counts, packed, at, groups, norm, dy, dx, dpacked,
            dweights[worker], dbiases[worker],
            worker * blocks // workers, (worker + 1) * blocks // workers,
        )  # fmt: skip


def _even_rows(array: np.ndarray) -> np.ndarray:
    """With a row of zeros below an odd number of rows."""
    if array.shape[0] % 2 == 0:
        return array
    return np.concatenate([array, np.zeros((1, array.shape[1]), np.float32)])


class _Perceptron(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, rows, groups, norm, shared, index, layers, *parameters):
        weights, biases = parameters[:layers], parameters[layers:]
        n, own = x.shape
        matrices, turned, sizes = _pack(weights, own)
        vectors = np.zeros(int(sizes[1:].sum()), np.float32)
        for bias, at in zip(biases, np.cumsum(sizes[1:]) - sizes[1:]):
            vectors[at : at + len(bias)] = bias.detach().numpy()
        modulation = np.zeros((0, n), np.float32) if packed is None else feature_major(packed)
        counts = np.array([weight.shape[0] for weight in weights], np.int64)
        where = np.array(rows if packed is not None else [-1] * layers, np.int64)
        features = _even_rows(feature_major(x))
        extra = _NO_SHARED if shared is None else (_words(_even(shared.detach())), index.numpy())
        settings = (vectors, sizes, counts, modulation, where, groups, norm == "layer")
        y = np.empty((counts[-1], n), np.float32)
        if n:
            _forward(features, *extra, matrices, *settings, y, get_num_threads())
        ctx.inputs = (features, *extra, matrices, turned, *settings)
        ctx.shapes, ctx.biases, ctx.own = [weight.shape for weight in weights], bool(biases), own
        return torch.from_numpy(y).t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        features, _, _, _, _, vectors, sizes, _, modulation, _, _, _ = ctx.inputs
        workers, n, own = get_num_threads(), features.shape[1], ctx.own
        dx = np.empty((own if ctx.needs_input_grad[0] else 0, n), np.float32)
        dpacked = np.empty((modulation.shape[0] if ctx.needs_input_grad[1] else 0, n), np.float32)
        dweights = np.zeros((workers, int((sizes[:-1] * sizes[1:]).sum())), np.float32)
        dbiases = np.zeros((workers, len(vectors), _LANES), np.float32)
        if n:
            _backward(*ctx.inputs, _even_rows(feature_major(dy)), dx, dpacked, dweights, dbiases, workers)
        summed, slopes = torch.from_numpy(dweights.sum(axis=0)), torch.from_numpy(dbiases.sum(axis=(0, 2)))
        of_weights, of_biases, offset, bias = [], [], 0, 0
        for number, (inputs, outputs) in enumerate(zip(sizes[:-1].tolist(), sizes[1:].tolist())):
            part = summed[offset : offset + inputs * outputs].view(outputs, inputs)
            if number == 0 and own % 2:
                part = torch.cat([part[:, :own], part[:, own + 1 :]], dim=1)
            rows, columns = ctx.shapes[number]
            of_weights.append(part[:rows, :columns].contiguous())
            of_biases.append(slopes[bias : bias + rows].clone())
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
) -> Tensor:  # (n, outputs of the last) float32, a transposed view of feature-major storage
    """As `layers_reference.perceptron` up to rounding; differentiable once in x, parameters and packed, not in shared."""
    return _Perceptron.apply(
        x, packed, rows, groups, norm, shared, index, len(weights), *weights, *(biases or ())
    )  # fmt: skip
