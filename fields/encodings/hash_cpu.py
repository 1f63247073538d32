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

from ..mlp.simd import interpolate_row, prefetch, scatter_row
from .levels import GridLevels

__all__ = ["encode"]

TAKES_KNOWN_VALUES = True

BLOCK = 64
"""Points whose corner indices are computed together."""

_PRIMES = np.array([1, 2654435761, 805459861, 3674653429], np.uint32)


@njit(inline="always")
def _place(coordinate, scale, smooth):
    """Cell, position within it, and interpolation weight of the upper corner, along one axis."""
    position = scale * coordinate + np.float32(0.5)
    cell = np.floor(position)
    frac = position - cell
    weight = frac * frac * (np.float32(3) - np.float32(2) * frac) if smooth else frac
    return np.uint32(np.int32(cell)), frac, weight


@njit(inline="always")
def _corners(x, start, count, scale, resolution, entries, hashed, smooth, dims, index, weight, frac):
    """Rows within the level, index (2^D, BLOCK), and weights (2^D, BLOCK) of `count` points from `start`.

    Also leaves frac (D, BLOCK), the position within the cell before smoothing. `dims` is a tuple whose length is D:
    a length is known when the kernel is compiled, so loops over dimensions or corners are unrolled.
    """
    one = np.float32(1)
    start_dim = 3 if len(dims) == 3 else 1
    if (
        len(dims) == 3
    ):  # the common case in one loop that vectorises; other dimensions grow corner by corner below
        for i in range(count):
            cx, frac[0, i], wx = _place(x[0, start + i], scale, smooth)
            cy, frac[1, i], wy = _place(x[1, start + i], scale, smooth)
            cz, frac[2, i], wz = _place(x[2, start + i], scale, smooth)
            fy = _PRIMES[1] if hashed else resolution
            fz = _PRIMES[2] if hashed else np.uint32(resolution * resolution)
            y0, z0 = np.uint32(cy * fy), np.uint32(cz * fz)
            x1, y1, z1 = np.uint32(cx + np.uint32(1)), np.uint32(y0 + fy), np.uint32(z0 + fz)
            if hashed:
                r00, r10, r01, r11 = y0 ^ z0, y1 ^ z0, y0 ^ z1, y1 ^ z1
                index[0, i], index[1, i] = cx ^ r00, x1 ^ r00
                index[2, i], index[3, i] = cx ^ r10, x1 ^ r10
                index[4, i], index[5, i] = cx ^ r01, x1 ^ r01
                index[6, i], index[7, i] = cx ^ r11, x1 ^ r11
            else:
                r00, r10 = np.uint32(y0 + z0), np.uint32(y1 + z0)
                r01, r11 = np.uint32(y0 + z1), np.uint32(y1 + z1)
                index[0, i], index[1, i] = np.uint32(cx + r00), np.uint32(x1 + r00)
                index[2, i], index[3, i] = np.uint32(cx + r10), np.uint32(x1 + r10)
                index[4, i], index[5, i] = np.uint32(cx + r01), np.uint32(x1 + r01)
                index[6, i], index[7, i] = np.uint32(cx + r11), np.uint32(x1 + r11)
            w00, w10 = (one - wy) * (one - wz), wy * (one - wz)
            w01, w11 = (one - wy) * wz, wy * wz
            weight[0, i], weight[1, i] = (one - wx) * w00, wx * w00
            weight[2, i], weight[3, i] = (one - wx) * w10, wx * w10
            weight[4, i], weight[5, i] = (one - wx) * w01, wx * w01
            weight[6, i], weight[7, i] = (one - wx) * w11, wx * w11
    else:
        for i in range(count):
            cell, frac[0, i], w = _place(x[0, start + i], scale, smooth)
            index[0, i], index[1, i] = cell, np.uint32(cell + np.uint32(1))
            weight[0, i], weight[1, i] = one - w, w
        stride = resolution
        for d in range(start_dim, len(dims)):
            factor = _PRIMES[d] if hashed else stride
            half = 1 << d
            for i in range(count):
                cell, frac[d, i], w = _place(x[d, start + i], scale, smooth)
                low = np.uint32(cell * factor)
                high = np.uint32(low + factor)
                for c in range(half):
                    row, product = index[c, i], weight[c, i]
                    index[half + c, i] = row ^ high if hashed else np.uint32(row + high)
                    index[c, i] = row ^ low if hashed else np.uint32(row + low)
                    weight[half + c, i] = product * w
                    weight[c, i] = product * (one - w)
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
                row = min(
                    row, np.uint32(row - entries)
                )  # the difference wraps to a large number where row < entries
                index[c, i] = row
                beyond = max(beyond, row)
            if beyond >= entries:
                for i in range(count):
                    index[c, i] = index[c, i] % entries


@njit(cache=True, fastmath={"contract"})
def _forward_range(
    x, table, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, y, first, last
):  # fmt: skip
    n = x.shape[1]
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    index_address, weight_address, out = index.ctypes.data, weight.ctypes.data, y.ctypes.data
    for level in range(len(scale)):
        address = table.ctypes.data + offset[level] * width * 4
        for start in range(first, last, BLOCK):
            count = min(BLOCK, last - start)
            _corners(
                x, start, count, scale[level], resolution[level], entries[level], hashed[level],
                smooth, dims, index, weight, frac,
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
    x, dy, level, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, dtable
):  # fmt: skip
    n = x.shape[1]
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    index_address, weight_address, source = index.ctypes.data, weight.ctypes.data, dy.ctypes.data
    address = dtable.ctypes.data + offset[level] * width * 4
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        _corners(
            x, start, count, scale[level], resolution[level], entries[level], hashed[level],
            smooth, dims, index, weight, frac,
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
    x, table, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, dx, first, last
):  # fmt: skip
    corners, width = len(corner_tuple), len(features)
    index = np.empty((corners, BLOCK), np.uint32)
    weight = np.empty((corners, BLOCK), np.float32)
    frac = np.empty((len(dims), BLOCK), np.float32)
    value = np.empty(corners, np.float32)
    for level in range(len(scale)):
        base = offset[level] * width
        for start in range(first, last, BLOCK):
            count = min(BLOCK, last - start)
            _corners(
                x, start, count, scale[level], resolution[level], entries[level], hashed[level],
                smooth, dims, index, weight, frac,
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
    x, table, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, y, workers
):  # fmt: skip
    n = x.shape[1]
    for worker in prange(workers):
        _forward_range(
            x, table, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, y,
            worker * n // workers, (worker + 1) * n // workers,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _table_gradient(
    x, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, order, dtable
):  # fmt: skip
    """dtable (P,) += gradient; `order` (workers, levels at most) names the levels each worker owns, -1 for none."""
    for worker in prange(order.shape[0]):
        for turn in range(order.shape[1]):
            if order[worker, turn] >= 0:
                _scatter_level(
                    x, dy, order[worker, turn], scale, resolution, entries, offset, hashed,
                    smooth, dims, features, corner_tuple, dtable,
                )  # fmt: skip


@njit(parallel=True, cache=True)
def _input_gradient(
    x, table, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, dx, workers
):  # fmt: skip
    """dx (D, n), which comes in as zeros."""
    n = x.shape[1]
    for worker in prange(workers):
        _input_gradient_range(
            x, table, dy, scale, resolution, entries, offset, hashed, smooth, dims, features, corner_tuple, dx,
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
