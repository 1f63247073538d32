"""The hash grid on NVIDIA GPUs, in Triton: points, table and gradients in float32.

One program works on a block of points at one level. Blocks are the fast axis of the launch, so programs in flight share
one level's rows in the second-level cache (tiny-cuda-nn's order). A point has two lanes, one for each step along x; the other
steps are worked off in registers. The rows of x-neighbours are mostly adjacent, so that the pair's loads, and above all its atomic
additions, are mostly one transaction of the cache. Every tile is laid out by lane, features together, which leaves Triton's
compiler nothing to exchange but the sum of the pair.

Once differentiable; for second derivatives use the "reference" back end. The table's gradient is summed by atomic
additions in no fixed order, so its last bits differ from run to run; values and input gradients do not.
"""

# ruff: noqa: RUF005 - Triton has no unpacking in tuples

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .levels import PRIMES, GridLevels

__all__ = ["encode"]

_LANES = 128
"""Lanes of a program: four warps of 32, 64 points."""


@triton.jit
def _axes(x_ptr, point, valid, up, level, scale, factor_ptr, DIMS: tl.constexpr, SMOOTH: tl.constexpr):
    """Of each axis: term of the row, weight, and derivative of the weight by x, each for the lower and the upper vertex.

    Along the first axis a lane has one vertex, as `up` says: both entries are that one. A level's factors are the
    primes, or the powers of its resolution.
    """
    axes = ()
    for d in tl.static_range(DIMS):
        position = tl.fma(tl.load(x_ptr + point * DIMS + d, mask=valid, other=0.0), scale, 0.5)
        floor = tl.floor(position)
        fraction = position - floor
        weight = fraction
        slope = tl.full(weight.shape, 1.0, tl.float32) * scale
        if SMOOTH:
            weight = fraction * fraction * (3.0 - 2.0 * fraction)
            slope = slope * 6.0 * fraction * (1.0 - fraction)
        factor = tl.load(factor_ptr + level * DIMS + d).to(tl.uint32, bitcast=True)
        low = floor.to(tl.int32).to(tl.uint32, bitcast=True) * factor
        if d == 0:
            term = tl.where(up, low + factor, low)
            weight = tl.where(up, weight, 1.0 - weight)
            slope = tl.where(up, slope, -slope)
            axes = axes + ((term, term, weight, weight, slope, slope),)
        else:
            axes = axes + ((low, low + factor, 1.0 - weight, weight, -slope, slope),)
    return axes


@triton.jit
def _rows(axes, entries, HASHED: tl.constexpr, DIMS: tl.constexpr):
    """Row within the level of each of the lane's corners; bit d - 1 of a corner's number is its step along axis d."""
    reciprocal = tl.full([], 0xFFFFFFFF, tl.uint32) // entries
    rows = ()
    for corner in tl.static_range(1 << (DIMS - 1)):
        row = axes[0][0]
        for d in tl.static_range(1, DIMS):
            if HASHED:
                row = row ^ axes[d][(corner >> (d - 1)) & 1]
            else:
                row = row + axes[d][(corner >> (d - 1)) & 1]
        if HASHED:  # a hashed level has 2^k rows
            row = row & (entries - 1)
        else:  # modulo, by a quotient that may come out one too small
            row = row - tl.umulhi(row, reciprocal) * entries
            row = tl.where(row >= entries, row - entries, row)
        rows = rows + (row.to(tl.int32, bitcast=True),)
    return rows


@triton.jit
def _share(axes, corner: tl.constexpr, along: tl.constexpr, DIMS: tl.constexpr):
    """Weight of a corner, or its derivative by x along an axis; along -1: the weight."""
    share = axes[0][2 + (2 if along == 0 else 0)]
    for d in tl.static_range(1, DIMS):
        share = share * axes[d][2 + ((corner >> (d - 1)) & 1) + (2 if along == d else 0)]
    return share


@triton.jit
def _cells(
    x_ptr,
    n,
    point,
    up,
    scale_ptr,
    factor_ptr,
    entries_ptr,
    offset_ptr,
    hashed_ptr,
    DIMS: tl.constexpr,
    SMOOTH: tl.constexpr,
):
    """This program's level, the rows before it, and of each lane the corners' rows and the axes."""
    level = tl.program_id(1).to(tl.int64)
    entries = tl.load(entries_ptr + level).to(tl.uint32)
    scale = tl.load(scale_ptr + level)
    axes = _axes(x_ptr, point, point < n, up, level, scale, factor_ptr, DIMS, SMOOTH)
    if tl.load(hashed_ptr + level) != 0:
        rows = _rows(axes, entries, True, DIMS)
    else:
        rows = _rows(axes, entries, False, DIMS)
    return level, tl.load(offset_ptr + level), rows, axes


@triton.jit
def _value_kernel(
    x_ptr,  # (n, DIMS)
    table_ptr,  # (P,)
    y_ptr,  # (L * FEATURES, n)
    n,
    scale_ptr,
    factor_ptr,
    entries_ptr,
    offset_ptr,
    hashed_ptr,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    SMOOTH: tl.constexpr,
    LANES: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * (LANES // 2)
    lane = tl.arange(0, LANES)
    level, offset, rows, axes = _cells(
        x_ptr,
        n,
        first + lane // 2,
        lane % 2 == 1,
        scale_ptr,
        factor_ptr,
        entries_ptr,
        offset_ptr,
        hashed_ptr,
        DIMS,
        SMOOTH,
    )
    feature = tl.arange(0, FEATURES)
    table_ptr += offset * FEATURES
    y = tl.zeros([LANES, FEATURES], tl.float32)
    for corner in tl.static_range(1 << (DIMS - 1)):
        value = tl.load(table_ptr + (rows[corner] * FEATURES)[:, None] + feature[None, :])
        y += _share(axes, corner, -1, DIMS)[:, None] * value
    y = tl.sum(tl.reshape(y, [LANES // 2, 2, FEATURES]), axis=1)
    point = first + tl.arange(0, LANES // 2)
    tl.store(y_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], y, mask=(point < n)[:, None])


@triton.jit
def _table_gradient_kernel(
    x_ptr,  # (n, DIMS)
    dy_ptr,  # (L * FEATURES, n)
    dtable_ptr,  # (P,), added to
    n,
    scale_ptr,
    factor_ptr,
    entries_ptr,
    offset_ptr,
    hashed_ptr,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    SMOOTH: tl.constexpr,
    LANES: tl.constexpr,
):
    lane = tl.arange(0, LANES)
    point = tl.program_id(0).to(tl.int64) * (LANES // 2) + lane // 2
    level, offset, rows, axes = _cells(
        x_ptr,
        n,
        point,
        lane % 2 == 1,
        scale_ptr,
        factor_ptr,
        entries_ptr,
        offset_ptr,
        hashed_ptr,
        DIMS,
        SMOOTH,
    )
    feature = tl.arange(0, FEATURES)
    dtable_ptr += offset * FEATURES
    valid = (point < n)[:, None]
    dy = tl.load(dy_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], mask=valid, other=0.0)
    for corner in tl.static_range(1 << (DIMS - 1)):
        to = dtable_ptr + (rows[corner] * FEATURES)[:, None] + feature[None, :]
        tl.atomic_add(to, _share(axes, corner, -1, DIMS)[:, None] * dy, mask=valid, sem="relaxed")


@triton.jit
def _input_gradient_kernel(
    x_ptr,  # (n, DIMS)
    table_ptr,  # (P,)
    dy_ptr,  # (L * FEATURES, n)
    dx_ptr,  # (L, DIMS, n)
    n,
    scale_ptr,
    factor_ptr,
    entries_ptr,
    offset_ptr,
    hashed_ptr,
    DIMS: tl.constexpr,
    FEATURES: tl.constexpr,
    SMOOTH: tl.constexpr,
    LANES: tl.constexpr,
):
    first = tl.program_id(0).to(tl.int64) * (LANES // 2)
    lane = tl.arange(0, LANES)
    point = first + lane // 2
    level, offset, rows, axes = _cells(
        x_ptr,
        n,
        point,
        lane % 2 == 1,
        scale_ptr,
        factor_ptr,
        entries_ptr,
        offset_ptr,
        hashed_ptr,
        DIMS,
        SMOOTH,
    )
    feature = tl.arange(0, FEATURES)
    table_ptr += offset * FEATURES
    valid = (point < n)[:, None]
    dy = tl.load(dy_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], mask=valid, other=0.0)
    pulls = ()  # of each corner on the loss
    for corner in tl.static_range(1 << (DIMS - 1)):
        value = tl.load(table_ptr + (rows[corner] * FEATURES)[:, None] + feature[None, :])
        pulls = pulls + (tl.sum(value * dy, axis=1),)
    to = first + tl.arange(0, LANES // 2)
    for d in tl.static_range(DIMS):
        dx = tl.zeros([LANES], tl.float32)
        for corner in tl.static_range(1 << (DIMS - 1)):
            dx += pulls[corner] * _share(axes, corner, d, DIMS)
        dx = tl.sum(tl.reshape(dx, [LANES // 2, 2]), axis=1)
        tl.store(dx_ptr + (level * DIMS + d) * n + to, dx, mask=to < n)


@lru_cache(maxsize=16)
def _level_tables(levels: GridLevels, device: torch.device) -> tuple[Tensor, ...]:
    """Scale (L,), factors (L, D), rows, rows before and hashed, (L,) each, on the device; 32 bits of unsigned as int32."""
    powers = [[int(r) ** d for d in range(levels.dims)] for r in levels.resolution]
    factor = np.where(levels.hashed[:, None], np.array([PRIMES[: levels.dims]]), np.array(powers, object))
    arrays = (
        levels.scale.copy(),
        (factor.astype(object) & 0xFFFFFFFF).astype(np.uint32).view(np.int32),
        levels.entries.astype(np.int32),
        levels.offset.copy(),
        levels.hashed.astype(np.int32),
    )
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


def _launch(kernel, x: Tensor, buffers: tuple[Tensor, ...], levels: GridLevels, interpolation: str) -> None:
    n = x.shape[0]
    with torch.cuda.device_of(x):
        kernel[(triton.cdiv(n, _LANES // 2), levels.levels)](
            x,
            *buffers,
            n,
            *_level_tables(levels, x.device),
            DIMS=levels.dims,
            FEATURES=levels.features,
            SMOOTH=interpolation == "smoothstep",
            LANES=_LANES,
            num_warps=_LANES // 32,
            enable_fp_fusion=True,
        )


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, table: Tensor, levels: GridLevels, interpolation: str, parameter: Tensor):
        x = x.contiguous()
        y = x.new_empty(levels.levels * levels.features, x.shape[0])
        _launch(_value_kernel, x, (table.contiguous(), y), levels, interpolation)
        ctx.save_for_backward(x, table)
        ctx.levels, ctx.interpolation, ctx.parameter = levels, interpolation, parameter
        return y.t()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy: Tensor):
        x, table = ctx.saved_tensors
        levels, dy = ctx.levels, dy.t().contiguous()
        dx = dtable = None
        if ctx.needs_input_grad[1]:
            in_place = getattr(ctx.parameter, "gradient_in_place", False)
            if in_place and ctx.parameter.grad is None:
                ctx.parameter.grad = torch.zeros_like(table)
            buffer = ctx.parameter.grad if in_place else torch.zeros_like(table)
            dtable = None if in_place else buffer
            _launch(_table_gradient_kernel, x, (dy, buffer), levels, ctx.interpolation)
        if ctx.needs_input_grad[0]:
            partial = x.new_empty(levels.levels, levels.dims, x.shape[0])
            _launch(_input_gradient_kernel, x, (table, dy, partial), levels, ctx.interpolation)
            dx = partial.sum(0).t()
        return dx, dtable, None, None, None


def encode(
    x: Tensor,  # (n, D) float32 in [0, 1]; cells beyond wrap around the table
    table: Tensor,  # (P,) float32, tiny-cuda-nn's layout
    levels: GridLevels,
    interpolation: str = "linear",
) -> Tensor:  # (n, L * F) float32, a transposed view of feature-major storage
    """Looks up and interpolates every level. Once differentiable with respect to x and table.

    If `table.gradient_in_place` is true, the table's gradient is added to `table.grad` (created at need) and autograd sees none, as
    with the "cpu" back end. Raises `TypeError` for another dtype.
    """
    if x.dtype != torch.float32 or table.dtype != torch.float32:
        raise TypeError(
            f"the cuda back end takes float32, got x {x.dtype} and table {table.dtype}; use backend='reference'"
        )
    return _Encode.apply(x, table, levels, interpolation, table)
