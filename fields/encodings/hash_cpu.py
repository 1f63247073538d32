"""The hash grid on the CPU: level by level, points in blocks, no atomics.

A level's table is worked on by all points before the next one is touched, so it stays in the shared cache; within a
level, corner indices of a block of points are computed with SIMD and then gathered. Forward, each worker takes a
range of points. Backward, each worker owns whole levels, so that scattered additions never collide and one thread
count gives one result. The definition is tiny-cuda-nn's, see `levels.py` and Mueller et al. 2022, section 3.

Once differentiable; for second derivatives use the "reference" back end.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from fieldstone.core.memory import zeros_in_large_pages

from ..mlp.simd import dense_corners, hashed_corners, interpolate_row, prefetch, scatter_row
from ..vector_ir import LANES
from .levels import PRIMES, GridLevels

__all__ = ["encode"]

TAKES_KNOWN_VALUES = True

BLOCK = 64
"""Points whose corner indices are computed together."""


@njit(cache=True)
def _corners(x, start, count, scale, factors, entries, hashed, smooth, dims, index, weight, frac, padded):
    """Rows within the level, index (2^D, BLOCK), and weights (2^D, BLOCK) of `count` points from `start`.

    Also leaves frac (D, BLOCK), the position within the cell before smoothing. `dims` is a tuple whose length is D: a
    length is known when the kernel is compiled. `padded` (D, BLOCK) is room for a last block that is not full.
    """
    if count == BLOCK:
        source, x_row = x.ctypes.data + start * 4, x.shape[1] * 4
    else:
        for d in range(len(dims)):
            for i in range(count):
                padded[d, i] = x[d, start + i]
        source, x_row = padded.ctypes.data, BLOCK * 4
    factor, at_index, at_weight, at_frac = (
        factors.ctypes.data, index.ctypes.data, weight.ctypes.data, frac.ctypes.data
    )  # fmt: skip
    largest = np.uint32(0)
    for i in range(0, count, LANES):
        if hashed:
            hashed_corners(
                source + i * 4, x_row, scale, factor, entries, smooth,
                at_index + i * 4, at_weight + i * 4, at_frac + i * 4, BLOCK * 4, dims,
            )  # fmt: skip
        else:
            row = dense_corners(
                source + i * 4, x_row, scale, factor, entries, smooth,
                at_index + i * 4, at_weight + i * 4, at_frac + i * 4, BLOCK * 4, dims,
            )  # fmt: skip
            largest = max(largest, row)
    if largest >= entries:  # only for points outside [0, 1]
        for c in range(1 << len(dims)):
            for i in range(count):
                index[c, i] = index[c, i] % entries


@njit(cache=True)
def _stream_in(table, begin, end, points, sink):
    """Reads table[begin:end] in memory order, if `points` random look-ups would touch most of its lines anyway.

    A level's table has usually been pushed out to memory since it was last used, and a stream of lines arrives several
    times faster than the same lines in random order (plain loads: prefetch instructions do not start the stream). A point
    touches about 4.5 lines of a hashed level. `sink` (1,) takes a sum, so that the loads are not optimised away.
    """
    if 64 * points > end - begin:
        total = np.float32(0)
        for i in range(begin, end, 16):
            total += table[i]
        sink[0] += total


@njit(cache=True, fastmath={"contract"})
def _forward_range(
    x, table, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, y, first, last
):  # fmt: skip
    n = x.shape[1]
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    padded = np.zeros((len(dims), BLOCK), np.float32)
    sink = np.zeros(1, np.float32)
    index_address, weight_address, out = index.ctypes.data, weight.ctypes.data, y.ctypes.data
    for level in range(len(scale)):
        address = table.ctypes.data + offset[level] * width * 4
        # each worker its share: all workers are on the same level at about the same time
        size = np.int64(entries[level]) * width
        begin = offset[level] * width
        _stream_in(table, begin + size * first // n, begin + size * last // n, last - first, sink)
        for start in range(first, last, BLOCK):
            count = min(BLOCK, last - start)
            _corners(
                x, start, count, scale[level], factors[level], entries[level], hashed[level],
                smooth, dims, index, weight, frac, padded,
            )  # fmt: skip
            if hashed[level]:  # x-neighbours nearly always share a cache line: the first prime is 1
                for c in range(0, corners, 2):
                    for i in range(count):
                        prefetch(address + np.int64(index[c, i]) * (width * 4))
            for i in range(count):
                interpolate_row(
                    address, index_address + i * 4, weight_address + i * 4, BLOCK * 4,
                    out + (level * width * n + start + i) * 4, n * 4, features, corner_tuple,
                )  # fmt: skip


@njit(cache=True, fastmath={"contract"})
def _scatter_level(
    x, dy, level, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, dtable
):  # fmt: skip
    n = x.shape[1]
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    padded = np.zeros((len(dims), BLOCK), np.float32)
    index_address, weight_address, source = index.ctypes.data, weight.ctypes.data, dy.ctypes.data
    address = dtable.ctypes.data + offset[level] * width * 4
    begin = offset[level] * width
    _stream_in(dtable, begin, begin + np.int64(entries[level]) * width, n, np.zeros(1, np.float32))
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        _corners(
            x, start, count, scale[level], factors[level], entries[level], hashed[level],
            smooth, dims, index, weight, frac, padded,
        )  # fmt: skip
        if hashed[level]:
            for c in range(0, corners, 2):
                for i in range(count):
                    prefetch(address + np.int64(index[c, i]) * (width * 4))
        for i in range(count):
            scatter_row(
                address, index_address + i * 4, weight_address + i * 4, BLOCK * 4,
                source + (level * width * n + start + i) * 4, n * 4, features, corner_tuple,
            )  # fmt: skip


@njit(cache=True, fastmath={"contract"})
def _input_gradient_range(
    x, table, dy, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, dx, first, last
):  # fmt: skip
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    padded = np.zeros((len(dims), BLOCK), np.float32)
    value = np.empty(corners, np.float32)
    for level in range(len(scale)):
        base = offset[level] * width
        for start in range(first, last, BLOCK):
            count = min(BLOCK, last - start)
            _corners(
                x, start, count, scale[level], factors[level], entries[level], hashed[level],
                smooth, dims, index, weight, frac, padded,
            )  # fmt: skip
            for i in range(count):
                for c in range(corners):
                    row = base + np.int64(index[c, i]) * width
                    projected = np.float32(0)
                    for f in range(width):
                        projected += table[row + f] * dy[level * width + f, start + i]
                    value[c] = projected
                for d in range(len(dims)):
                    slope = np.float32(0)
                    for c in range(corners):
                        if c & (1 << d) == 0:
                            product = value[c | (1 << d)] - value[c]
                            for other in range(len(dims)):
                                if other != d:
                                    f = frac[other, i]
                                    if smooth:
                                        f = f * f * (np.float32(3) - np.float32(2) * f)
                                    product *= f if c & (1 << other) else np.float32(1) - f
                            slope += product
                    if smooth:
                        f = frac[d, i]
                        slope *= np.float32(6) * f * (np.float32(1) - f)
                    dx[d, start + i] += scale[level] * slope


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(
    x, table, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, y, workers
):  # fmt: skip
    n = x.shape[1]
    for worker in prange(workers):
        _forward_range(
            x, table, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, y,
            worker * n // workers, (worker + 1) * n // workers,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _table_gradient(
    x, dy, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, order, dtable
):  # fmt: skip
    """dtable (P,) += gradient; `order` (workers, levels at most) names the levels each worker owns, -1 for none."""
    for worker in prange(order.shape[0]):
        for turn in range(order.shape[1]):
            if order[worker, turn] >= 0:
                _scatter_level(
                    x, dy, order[worker, turn], scale, factors, entries, offset, hashed,
                    smooth, dims, features, corner_tuple, dtable,
                )  # fmt: skip


@njit(parallel=True, cache=True)
def _input_gradient(
    x, table, dy, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, dx, workers
):  # fmt: skip
    """dx (D, n), which comes in as zeros."""
    n = x.shape[1]
    for worker in prange(workers):
        _input_gradient_range(
            x, table, dy, scale, factors, entries, offset, hashed, smooth, dims, features, corner_tuple, dx,
            worker * n // workers, (worker + 1) * n // workers,
        )  # fmt: skip


def _owners(levels: GridLevels, workers: int) -> np.ndarray:
    """Which levels each worker scatters into, (workers, L) padded with -1: longest first to the least loaded.

    A level whose table leaves the second cache costs about 2.5 times one that stays in it (measured).
    """
    cost = [1.0 if hashed else 0.4 for hashed in levels.hashed]
    workers = min(workers, len(cost))
    loads = [0.0] * workers
    owned: list[list[int]] = [[] for _ in range(workers)]
    for level in sorted(range(len(cost)), key=lambda level: -cost[level]):
        worker = loads.index(min(loads))
        loads[worker] += cost[level]
        owned[worker].append(level)
    order = np.full((workers, max(map(len, owned))), -1, np.int64)
    for worker, mine in enumerate(owned):
        order[worker, : len(mine)] = mine
    return order


def _factors(levels: GridLevels) -> np.ndarray:
    """(L, D) uint32: what a cell's coordinates are multiplied by, primes or the strides of a row-major level."""
    exponents = np.arange(levels.dims)
    strides = [[int(r) ** int(e) & 0xFFFFFFFF for e in exponents] for r in levels.resolution]
    primes = list(PRIMES[: levels.dims])
    rows = [primes if hashed else row for hashed, row in zip(levels.hashed, strides, strict=True)]
    return np.array(rows, np.uint32)


def _arguments(levels: GridLevels, interpolation: str) -> tuple:
    return (
        levels.scale.astype(np.float32),
        _factors(levels),
        levels.entries.astype(np.uint32),
        levels.offset.astype(np.int64),
        levels.hashed,
        interpolation == "smoothstep",
        (0,) * levels.dims,
        (0,) * levels.features,
        (0,) * (1 << levels.dims),
    )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        table: Tensor,
        levels: GridLevels,
        interpolation: str,
        parameter: Tensor,
        known: Tensor | None,
    ) -> Tensor:
        arguments = _arguments(levels, interpolation)
        if known is None:
            points = x.detach().t().contiguous().numpy()
            y = np.empty((len(levels.scale) * levels.features, x.shape[0]), np.float32)
            if x.shape[0]:
                _forward(points, table.detach().numpy(), *arguments, y, get_num_threads())
            result = torch.from_numpy(y).t()
        else:
            result = known.view_as(known)
        ctx.save_for_backward(x, table)
        ctx.levels, ctx.arguments, ctx.parameter = levels, arguments, parameter
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, table = ctx.saved_tensors
        points = x.detach().t().contiguous().numpy()
        dy = dy.t().contiguous().numpy()
        dtable = dx = None
        if ctx.needs_input_grad[1]:
            in_place = getattr(ctx.parameter, "gradient_in_place", False)
            if in_place and ctx.parameter.grad is not None:
                buffer = ctx.parameter.grad
            else:
                buffer = zeros_in_large_pages(table.shape)
                if in_place:
                    ctx.parameter.grad = buffer
                else:
                    dtable = buffer
            order = _owners(ctx.levels, get_num_threads())
            _table_gradient(points, dy, *ctx.arguments, order, buffer.numpy())
        if ctx.needs_input_grad[0]:
            gradient = np.zeros_like(points)
            _input_gradient(points, table.detach().numpy(), dy, *ctx.arguments, gradient, get_num_threads())
            dx = torch.from_numpy(gradient).t()
        return dx, dtable, None, None, None, None


def encode(
    x: Tensor,  # (n, D) float32 in [0, 1]
    table: Tensor,  # (P,) float32, tiny-cuda-nn's layout
    levels: GridLevels,
    interpolation: str = "linear",
    known: Tensor | None = None,  # (n, L * F) the result, if it has been computed before
) -> Tensor:  # (n, L * F) float32, a transposed view of feature-major storage
    """Looks up and interpolates every level. Once differentiable with respect to x and table.

    If `table.gradient_in_place` is true, the table's gradient is added straight into `table.grad` (created at need) and autograd
    sees none: for training loops, where a fresh gradient of the table's size each step would cost more than the scatter.
    """
    if x.dtype != torch.float32 or table.dtype != torch.float32:
        raise TypeError(
            f"the cpu back end takes float32, got x {x.dtype} and table {table.dtype}; use backend='reference'"
        )
    return _Encode.apply(x, table, levels, interpolation, table, known)
