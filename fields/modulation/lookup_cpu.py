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


@njit(cache=True)
def _corners(x, i, resolution, wrap, row, share, part, moves):
    """Rows and weights of the 2^d corners of point i of x (d, n), the position inside its cell, and what a coordinate moves it by."""
    count = 1
    row[0] = 0
    share[0] = np.float32(1)
    for axis in range(x.shape[0]):
        nodes = resolution[axis]
        value = x[axis, i]
        if wrap[axis]:
            position = (value - np.floor(value)) * np.float32(nodes)
            low = int(position) if position >= 0 and position <= nodes else 0
            inside = position - np.float32(low)
            low = low % nodes
            high = (low + 1) % nodes
            moves[axis] = np.float32(nodes)
        else:
            last = np.float32(nodes - 1)
            moves[axis] = last if value >= 0 and value <= 1 else np.float32(0)
            position = value * last
            if value > 1:
                position = last
            elif value < 0:
                position = np.float32(0)
            low = min(int(position), nodes - 2) if position >= 0 else 0
            inside = position - np.float32(low)
            high = low + 1
        part[axis] = inside
        for corner in range(count):
            base, weight = row[corner] * nodes, share[corner]
            row[corner] = base + low
            row[corner + count] = base + high
            share[corner] = weight * (np.float32(1) - inside)
            share[corner + count] = weight * inside
        count *= 2


@njit(cache=True, fastmath={"contract"})
def _forward_range(x, grid, resolution, wrap, y, start, stop):
    dims, width = x.shape[0], grid.shape[1]
    row, share = np.empty(8, np.int64), np.empty(8, np.float32)
    part, moves = np.empty(3, np.float32), np.empty(3, np.float32)
    total = np.empty(width, np.float32)
    for i in range(start, stop):
        _corners(x, i, resolution, wrap, row, share, part, moves)
        for c in range(width):
            total[c] = share[0] * grid[row[0], c]
        for corner in range(1, 1 << dims):
            source, weight = grid[row[corner]], share[corner]
            for c in range(width):
                total[c] += weight * source[c]
        for c in range(width):
            y[c, i] = total[c]


@njit(cache=True, fastmath={"contract"})
def _backward_range(x, grid, resolution, wrap, dy, dgrid, dx, start, stop, worker, workers):
    """For points from start to stop and the nodes of `worker`; all nodes if there is one worker."""
    dims, width = x.shape[0], grid.shape[1]
    row, share = np.empty(8, np.int64), np.empty(8, np.float32)
    part, moves = np.empty(3, np.float32), np.empty(3, np.float32)
    gradient = np.empty(width, np.float32)
    for i in range(start, stop):
        _corners(x, i, resolution, wrap, row, share, part, moves)
        for c in range(width):
            gradient[c] = dy[c, i]
        for corner in range(1 << dims):
            if workers == 1 or row[corner] // _RUN % workers == worker:
                target, weight = dgrid[row[corner]], share[corner]
                for c in range(width):
                    target[c] += weight * gradient[c]
        if dx.shape[0] > 0:
            for axis in range(dims):
                dx[axis, i] = np.float32(0)
            for corner in range(1 << dims):
                source = grid[row[corner]]
                product = np.float32(0)
                for c in range(width):
                    product += gradient[c] * source[c]
                for axis in range(dims):
                    # a corner's weight without this axis' factor; bit `axis` of the corner says which side it is on
                    weight = np.float32(1)
                    for other in range(dims):
                        if other != axis:
                            upper = corner >> other & 1
                            weight *= part[other] if upper else np.float32(1) - part[other]
                    sign = moves[axis] if corner >> axis & 1 else -moves[axis]
                    dx[axis, i] += sign * weight * product


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
