"""Linear interpolation in a small grid of vectors on the CPU: all values of a point from one set of corners.

The grid is small (it stays in a cache), so time goes into cells and weights; they are found once a point and serve every
layer's scale and shift, which lie beside each other. Results are feature-major, as the perceptrons take them. Gradients
of a small grid are summed privately by each worker; in a large one each worker owns some nodes and goes over all points for them. So
there are no atomics.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from fieldstone.core.memory import zeros_in_large_pages

__all__ = ["interpolate"]

_LARGE = 1 << 16
"""Values from which a grid's gradient is summed in one place."""
_RUN = 32
"""Nodes in a row that one worker owns."""
_BLOCK = 64
"""Points whose corners are found together."""


@njit(cache=True, fastmath={"contract"})
def _corners(x, start, count, resolution, wrap, rows, shares, parts, moves):
    """Rows and weights (first 2^d rows of _BLOCK) of the corners of points start to start + count of x (d, n), their positions inside their
    cells, and what a coordinate moves them by (d, _BLOCK). Loops over points without branches, so that they become vector code."""
    corners = 1
    below, above = rows[8], rows[9]
    for i in range(count):
        rows[0, i] = 0
        shares[0, i] = np.float32(1)
    for axis in range(x.shape[0]):
        nodes = np.int32(resolution[axis])
        at, part, move = x[axis, start : start + count], parts[axis], moves[axis]
        if wrap[axis]:
            for i in range(count):
                value = at[i]
                turn = value - np.floor(value)
                position = turn * np.float32(nodes)
                position = position if position >= 0 and position <= np.float32(nodes) else np.float32(0)
                low = np.int32(position)
                inside = position - np.float32(low)
                part[i] = inside if turn == turn else turn  # no number stays none
                move[i] = np.float32(nodes)
                low = low if low < nodes else np.int32(0)
                below[i] = low
                above[i] = low + 1 if low + 1 < nodes else 0
        else:
            last = np.float32(nodes - 1)
            for i in range(count):
                value = at[i]
                held = value if value > 0 else np.float32(0)
                held = held if held < 1 else np.float32(1)
                position = held * last
                low = np.int32(position)
                low = low if low < nodes - 2 else nodes - 2
                inside = position - np.float32(low)
                part[i] = inside if value == value else value
                move[i] = last if held == value else np.float32(0)
                below[i] = low
                above[i] = low + 1
        for corner in range(corners - 1, -1, -1):
            row, share = rows[corner], shares[corner]
            upper_row, upper_share = rows[corner + corners], shares[corner + corners]
            for i in range(count):
                base, weight = row[i] * nodes, share[i]
                upper_row[i] = base + above[i]
                row[i] = base + below[i]
                upper_share[i] = weight * part[i]
                share[i] = weight * (np.float32(1) - part[i])
        corners *= 2


@njit(cache=True, fastmath={"contract"})
def _forward_range(x, grid, resolution, wrap, y, start, stop):
    dims, width = x.shape[0], grid.shape[1]
    rows, shares = np.empty((10, _BLOCK), np.int32), np.empty((8, _BLOCK), np.float32)
    parts, moves = np.empty((3, _BLOCK), np.float32), np.empty((3, _BLOCK), np.float32)
    total = np.empty(width, np.float32)
    for first in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - first)
        _corners(x, first, count, resolution, wrap, rows, shares, parts, moves)
        for i in range(count):
            source, weight = grid[rows[0, i]], shares[0, i]
            for c in range(width):
                total[c] = weight * source[c]
            for corner in range(1, 1 << dims):
                source, weight = grid[rows[corner, i]], shares[corner, i]
                for c in range(width):
                    total[c] += weight * source[c]
            for c in range(width):
                y[c, first + i] = total[c]


@njit(cache=True, fastmath={"contract"})
def _backward_range(x, grid, resolution, wrap, dy, dgrid, dx, start, stop, worker, workers):
    """For points from start to stop and the nodes of `worker`; all nodes if there is one worker."""
    dims, width = x.shape[0], grid.shape[1]
    rows, shares = np.empty((10, _BLOCK), np.int32), np.empty((8, _BLOCK), np.float32)
    parts, moves = np.empty((3, _BLOCK), np.float32), np.empty((3, _BLOCK), np.float32)
    gradient = np.empty(width, np.float32)
    for first in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - first)
        _corners(x, first, count, resolution, wrap, rows, shares, parts, moves)
        for i in range(count):
            for c in range(width):
                gradient[c] = dy[c, first + i]
            for corner in range(1 << dims):
                row = rows[corner, i]
                if workers == 1 or row // _RUN % workers == worker:
                    target, weight = dgrid[row], shares[corner, i]
                    for c in range(width):
                        target[c] += weight * gradient[c]
            if dx.shape[0] > 0:
                for axis in range(dims):
                    dx[axis, first + i] = np.float32(0)
                for corner in range(1 << dims):
                    source = grid[rows[corner, i]]
                    product = np.float32(0)
                    for c in range(width):
                        product += gradient[c] * source[c]
                    for axis in range(dims):
                        # a corner's weight without this axis' factor; bit `axis` of the corner says which side it is on
                        weight = np.float32(1)
                        for other in range(dims):
                            if other != axis:
                                upper = corner >> other & 1
                                weight *= parts[other, i] if upper else np.float32(1) - parts[other, i]
                        sign = moves[axis, i] if corner >> axis & 1 else -moves[axis, i]
                        dx[axis, first + i] += sign * weight * product


# The parallel loops hold nothing but a call: Numba's parallel passes take many seconds over a body of any size.


@njit(parallel=True, cache=True)
def _forward(x, grid, resolution, wrap, y, workers):
    n = x.shape[1]
    for worker in prange(workers):
        _forward_range(x, grid, resolution, wrap, y, worker * n // workers, (worker + 1) * n // workers)


@njit(parallel=True, cache=True)
def _backward(x, grid, resolution, wrap, dy, dgrid, dx, workers):
    """Adds to dgrid (workers, nodes, c) and fills dx (d, n), or not if it has no rows."""
    n = x.shape[1]
    for worker in prange(workers):
        _backward_range(
            x, grid, resolution, wrap, dy, dgrid[worker], dx,
            worker * n // workers, (worker + 1) * n // workers, 0, 1,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _backward_owned(x, grid, resolution, wrap, dy, dgrid, dx, workers):
    """Adds to dgrid (nodes, c); dx has no rows."""
    for worker in prange(workers):
        _backward_range(x, grid, resolution, wrap, dy, dgrid, dx, 0, x.shape[1], worker, workers)


def _feature_major(x: Tensor) -> np.ndarray:
    return x.detach().t().contiguous().numpy()


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coordinates: Tensor, grid: Tensor, resolution: tuple[int, ...], wrap: tuple[bool, ...]):
        x = _feature_major(coordinates)
        shape, periodic = np.array(resolution, np.int64), np.array(wrap, np.bool_)
        y = np.empty((grid.shape[1], len(coordinates)), np.float32)
        values = grid.detach().contiguous().numpy()
        if x.shape[1]:
            _forward(x, values, shape, periodic, y, get_num_threads())
        ctx.inputs, ctx.grid = (x, values, shape, periodic), grid
        return torch.from_numpy(y).t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, values, shape, periodic = ctx.inputs
        workers = get_num_threads()
        dx = np.empty((x.shape[0] if ctx.needs_input_grad[0] else 0, x.shape[1]), np.float32)
        dgrid = None
        if ctx.needs_input_grad[0] or values.size < _LARGE:
            sums = np.zeros((workers, *values.shape), np.float32)
            _backward(x, values, shape, periodic, _feature_major(dy), sums, dx, workers)
            dgrid = torch.from_numpy(sums.sum(axis=0))
        else:
            in_place = getattr(ctx.grid, "gradient_in_place", False)
            buffer = ctx.grid.grad if in_place else None
            if buffer is None:
                buffer = zeros_in_large_pages(values.shape)
            _backward_owned(x, values, shape, periodic, _feature_major(dy), buffer.numpy(), dx, workers)
            if in_place:
                ctx.grid.grad = buffer
            else:
                dgrid = buffer
        return torch.from_numpy(dx).t() if ctx.needs_input_grad[0] else None, dgrid, None, None


def interpolate(
    coordinates: Tensor,  # (n, d) float32, d at most 3
    grid: Tensor,  # (nodes, c) float32, row-major, the last coordinate fastest
    resolution: tuple[int, ...],
    wrap: tuple[bool, ...],
) -> Tensor:  # (n, c), a transposed view of feature-major storage
    """As `lookup_reference.interpolate`; differentiable once.

    If `grid.gradient_in_place` is true and the coordinates need no gradient, that of a large grid is added straight into `grid.grad`,
    as for hash grids, and autograd sees none.
    """
    if math.prod(resolution) != grid.shape[0]:
        raise ValueError(
            f"grid has {grid.shape[0]} nodes, resolution {resolution} wants {math.prod(resolution)}"
        )
    return _Interpolate.apply(coordinates, grid, tuple(resolution), tuple(wrap))
