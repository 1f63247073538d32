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

from ..mlp.simd import prefetch
from .levels import GridLevels

__all__ = ["encode"]

BLOCK = 64
"""Points whose corner indices are computed together."""

_PRIMES = np.array([1, 2654435761, 805459861, 3674653429], np.uint32)


@njit(inline="always")
def _corners(x, start, count, scale, resolution, entries, hashed, smooth, dims, index, weight, frac, low, high):
    """Rows within the level, index (2^D, BLOCK), and weights (2^D, BLOCK) of `count` points from `start`.

    Also leaves frac (D, BLOCK), the position within the cell before smoothing. `dims` is a tuple whose length is D:
    a length is known when the kernel is compiled, so every loop over dimensions or corners is unrolled.
    """
    stride = np.uint32(1)
    for d in range(len(dims)):
        factor = _PRIMES[d] if hashed else stride
        for i in range(count):
            position = scale * x[d, start + i] + np.float32(0.5)
            cell = np.floor(position)
            frac[d, i] = position - cell
            corner = np.uint32(np.int32(cell))
            low[i] = np.uint32(corner * factor)
            high[i] = np.uint32(np.uint32(corner + np.uint32(1)) * factor)
        if d == 0:
            for i in range(count):
                f = frac[d, i]
                if smooth:
                    f = f * f * (np.float32(3) - np.float32(2) * f)
                index[0, i] = low[i]
                index[1, i] = high[i]
                weight[0, i] = np.float32(1) - f
                weight[1, i] = f
        else:
            half = 1 << d
            for c in range(half):
                if hashed:
                    for i in range(count):
                        index[half + c, i] = index[c, i] ^ high[i]
                        index[c, i] = index[c, i] ^ low[i]
                else:
                    for i in range(count):
                        index[half + c, i] = np.uint32(index[c, i] + high[i])
                        index[c, i] = np.uint32(index[c, i] + low[i])
                for i in range(count):
                    f = frac[d, i]
                    if smooth:
                        f = f * f * (np.float32(3) - np.float32(2) * f)
                    weight[half + c, i] = weight[c, i] * f
                    weight[c, i] = weight[c, i] * (np.float32(1) - f)
        stride = np.uint32(stride * resolution)
    if hashed:  # a hashed level is full, hence a power of two
        mask = np.uint32(entries - np.uint32(1))
        for c in range(1 << len(dims)):
            for i in range(count):
                index[c, i] = index[c, i] & mask
    else:  # inside [0, 1] an index passes the end by less than one table; a division only where that is not enough
        for c in range(1 << len(dims)):
            beyond = np.uint32(0)
            for i in range(count):
                row = index[c, i]
                row = np.uint32(row - entries) if row >= entries else row
                index[c, i] = row
                beyond = beyond | np.uint32(row >= entries)
            if beyond:
                for i in range(count):
                    index[c, i] = index[c, i] % entries


@njit(parallel=True, cache=True, fastmath={"contract"})
def _forward(x, table, scale, resolution, entries, offset, hashed, smooth, dims, features, y, workers):
    n = x.shape[1]
    for worker in prange(workers):
        corners = 1 << len(dims)
        width = len(features)
        index = np.empty((corners, BLOCK), np.uint32)
        weight = np.empty((corners, BLOCK), np.float32)
        frac = np.empty((len(dims), BLOCK), np.float32)
        low = np.empty(BLOCK, np.uint32)
        high = np.empty(BLOCK, np.uint32)
        total = np.empty(width, np.float32)
        first, last = worker * n // workers, (worker + 1) * n // workers
        for level in range(len(scale)):
            base = offset[level] * width
            address = table.ctypes.data + base * 4
            for start in range(first, last, BLOCK):
                count = min(BLOCK, last - start)
                _corners(
                    x, start, count, scale[level], resolution[level], entries[level], hashed[level],
                    smooth, dims, index, weight, frac, low, high,
                )  # fmt: skip
                if hashed[level]:
                    for c in range(0, corners, 2):  # x-neighbours nearly always share a cache line: the first prime is 1
                        for i in range(count):
                            prefetch(address + np.int64(index[c, i]) * (width * 4))
                for i in range(count):
                    for f in range(width):
                        total[f] = np.float32(0)
                    for c in range(corners):
                        row = base + np.int64(index[c, i]) * width
                        for f in range(width):
                            total[f] += weight[c, i] * table[row + f]
                    for f in range(width):
                        y[level * width + f, start + i] = total[f]


@njit(parallel=True, cache=True, fastmath={"contract"})
def _table_gradient(x, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, order, dtable):
    """dtable (P,) += gradient; `order` (workers, levels at most) names the levels each worker owns, -1 for none."""
    n = x.shape[1]
    for worker in prange(order.shape[0]):
        corners = 1 << len(dims)
        width = len(features)
        index = np.empty((corners, BLOCK), np.uint32)
        weight = np.empty((corners, BLOCK), np.float32)
        frac = np.empty((len(dims), BLOCK), np.float32)
        low = np.empty(BLOCK, np.uint32)
        high = np.empty(BLOCK, np.uint32)
        for turn in range(order.shape[1]):
            level = order[worker, turn]
            if level < 0:
                continue
            base = offset[level] * width
            address = dtable.ctypes.data + base * 4
            for start in range(0, n, BLOCK):
                count = min(BLOCK, n - start)
                _corners(
                    x, start, count, scale[level], resolution[level], entries[level], hashed[level],
                    smooth, dims, index, weight, frac, low, high,
                )  # fmt: skip
                if hashed[level]:
                    for c in range(0, corners, 2):
                        for i in range(count):
                            prefetch(address + np.int64(index[c, i]) * (width * 4))
                for i in range(count):
                    for c in range(corners):
                        row = base + np.int64(index[c, i]) * width
                        for f in range(width):
                            dtable[row + f] += weight[c, i] * dy[level * width + f, start + i]


@njit(parallel=True, cache=True, fastmath={"contract"})
def _input_gradient(x, table, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, dx, workers):
    """dx (D, n), which comes in as zeros."""
    n = x.shape[1]
    for worker in prange(workers):
        corners = 1 << len(dims)
        width = len(features)
        index = np.empty((corners, BLOCK), np.uint32)
        weight = np.empty((corners, BLOCK), np.float32)
        frac = np.empty((len(dims), BLOCK), np.float32)
        low = np.empty(BLOCK, np.uint32)
        high = np.empty(BLOCK, np.uint32)
        value = np.empty(corners, np.float32)
        first, last = worker * n // workers, (worker + 1) * n // workers
        for level in range(len(scale)):
            base = offset[level] * width
            for start in range(first, last, BLOCK):
                count = min(BLOCK, last - start)
                _corners(
                    x, start, count, scale[level], resolution[level], entries[level], hashed[level],
                    smooth, dims, index, weight, frac, low, high,
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


def _arguments(levels: GridLevels, interpolation: str) -> tuple:
    return (
        levels.scale.astype(np.float32),
        levels.resolution.astype(np.uint32),
        levels.entries.astype(np.uint32),
        levels.offset.astype(np.int64),
        levels.hashed,
        interpolation == "smoothstep",
        (0,) * levels.dims,
        (0,) * levels.features,
    )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, levels: GridLevels, interpolation: str, parameter: Tensor) -> Tensor:
        points = x.detach().t().contiguous().numpy()
        y = np.empty((len(levels.scale) * levels.features, x.shape[0]), np.float32)
        arguments = _arguments(levels, interpolation)
        _forward(points, table.detach().numpy(), *arguments, y, get_num_threads())
        ctx.save_for_backward(x, table)
        ctx.levels, ctx.arguments, ctx.parameter = levels, arguments, parameter
        return torch.from_numpy(y).t()

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
                buffer = torch.zeros_like(table)
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
        return dx, dtable, None, None, None


def encode(
    x: Tensor,  # (n, D) float32 in [0, 1]
    table: Tensor,  # (P,) float32, tiny-cuda-nn's layout
    levels: GridLevels,
    interpolation: str = "linear",
) -> Tensor:  # (n, L * F) float32, a transposed view of feature-major storage
    """Looks up and interpolates every level. Once differentiable with respect to x and table.

    If `table.gradient_in_place` is true, the table's gradient is added straight into `table.grad` (created at need) and autograd
    sees none: for training loops, where a fresh gradient of the table's size each step would cost more than the scatter.
    """
    if x.dtype != torch.float32 or table.dtype != torch.float32:
        raise TypeError(f"the cpu back end takes float32, got x {x.dtype} and table {table.dtype}; use backend='reference'")
    return _Encode.apply(x, table, levels, interpolation, table)
