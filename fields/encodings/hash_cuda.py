"""The hash grid on NVIDIA GPUs, in Triton: points, table and gradients in float32.

One program works on a block of points at one level. Blocks are the fast axis of the launch, so programs in flight share
one level's rows in the second-level cache (tiny-cuda-nn's order). Within a program the corners of a cell are spread over
lanes: neighbours along x, mostly adjacent in the table, are fetched by adjacent lanes, and the features of a row together.

Once differentiable; for second derivatives use the "reference" back end. The table's gradient is summed by atomic
additions in no fixed order, so its last bits differ from run to run; values and input gradients do not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from .levels import PRIMES, GridLevels

__all__ = ["encode"]

_TILE = 2048
"""Values (points x corners x features) a program holds: 16 a lane in four warps of 32."""


@triton.jit
def _level(level, scale_ptr, entries_ptr, offset_ptr, hashed_ptr):
    """Scale, rows, rows before it and whether hashed, of one level."""
    return (
        tl.load(scale_ptr + level),
        tl.load(entries_ptr + level).to(tl.uint32),
        tl.load(offset_ptr + level),
        tl.load(hashed_ptr + level) != 0,
    )


@triton.jit
def _axis(x_ptr, point, valid, d, scale, DIMS: tl.constexpr, SMOOTH: tl.constexpr):
    """Along axis d, each (BLOCK,): cell as an unsigned number, weight of the upper corner, derivative of that by x."""
    x = tl.load(x_ptr + point * DIMS + d, mask=valid, other=0.0)
    position = tl.fma(x, scale, 0.5)
    floor = tl.floor(position)
    fraction = position - floor
    weight = fraction
    slope = tl.full(weight.shape, 1.0, tl.float32) * scale
    if SMOOTH:
        weight = fraction * fraction * (3.0 - 2.0 * fraction)
        slope = slope * 6.0 * fraction * (1.0 - fraction)
    return floor.to(tl.int32).to(tl.uint32, bitcast=True), weight, slope


@triton.jit
def _corners(
    x_ptr, point, valid, level, factor_ptr, scale, entries, hashed, DIMS: tl.constexpr, SMOOTH: tl.constexpr
):
    """Row in the level, as an unsigned number, and weight of every corner, both (BLOCK, 2^DIMS).

    Bit d of a corner's number is its step along axis d. A level's factors are the primes, or the powers of its resolution.
    """
    bits = tl.arange(0, 1 << DIMS)[None, :]
    row = tl.full([point.shape[0], 1 << DIMS], 0, tl.uint32)
    share = tl.full([point.shape[0], 1 << DIMS], 1.0, tl.float32)
    for d in tl.static_range(DIMS):
        cell, weight, _ = _axis(x_ptr, point, valid, d, scale, DIMS, SMOOTH)
        up = (bits >> d) & 1
        factor = tl.load(factor_ptr + level * DIMS + d).to(tl.uint32, bitcast=True)
        term = (cell[:, None] + up.to(tl.uint32)) * factor
        if hashed:
            row = row ^ term
        else:
            row = row + term
        share = share * tl.where(up == 1, weight[:, None], 1.0 - weight[:, None])
    if hashed:  # a hashed level has 2^k rows
        row = row & (entries - 1)
    else:
        row = row % entries
    return row, share


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
    BLOCK: tl.constexpr,
):
    level = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = point < n
    feature = tl.arange(0, FEATURES)
    scale, entries, offset, hashed = _level(level, scale_ptr, entries_ptr, offset_ptr, hashed_ptr)
    row, share = _corners(x_ptr, point, valid, level, factor_ptr, scale, entries, hashed, DIMS, SMOOTH)
    start = (offset + row.to(tl.int64)) * FEATURES
    value = tl.load(table_ptr + start[:, :, None] + feature[None, None, :])
    y = tl.sum(share[:, :, None] * value, axis=1)
    tl.store(y_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], y, mask=valid[:, None])


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
    BLOCK: tl.constexpr,
):
    level = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = point < n
    feature = tl.arange(0, FEATURES)
    scale, entries, offset, hashed = _level(level, scale_ptr, entries_ptr, offset_ptr, hashed_ptr)
    row, share = _corners(x_ptr, point, valid, level, factor_ptr, scale, entries, hashed, DIMS, SMOOTH)
    start = (offset + row.to(tl.int64)) * FEATURES
    dy = tl.load(
        dy_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], mask=valid[:, None], other=0.0
    )
    tl.atomic_add(
        dtable_ptr + start[:, :, None] + feature[None, None, :],
        share[:, :, None] * dy[:, None, :],
        mask=valid[:, None, None],
        sem="relaxed",
    )


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
    BLOCK: tl.constexpr,
):
    level = tl.program_id(1).to(tl.int64)
    point = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = point < n
    feature = tl.arange(0, FEATURES)
    scale, entries, offset, hashed = _level(level, scale_ptr, entries_ptr, offset_ptr, hashed_ptr)
    row, _ = _corners(x_ptr, point, valid, level, factor_ptr, scale, entries, hashed, DIMS, SMOOTH)
    start = (offset + row.to(tl.int64)) * FEATURES
    value = tl.load(table_ptr + start[:, :, None] + feature[None, None, :])
    dy = tl.load(
        dy_ptr + (level * FEATURES + feature)[None, :] * n + point[:, None], mask=valid[:, None], other=0.0
    )
    pull = tl.sum(value * dy[:, None, :], axis=2)  # of each corner on the loss
    bits = tl.arange(0, 1 << DIMS)[None, :]
    for d in tl.static_range(DIMS):
        _, _, slope = _axis(x_ptr, point, valid, d, scale, DIMS, SMOOTH)
        share = tl.where(((bits >> d) & 1) == 1, slope[:, None], -slope[:, None])
        for other in tl.static_range(DIMS):
            if other != d:
                _, weight, _ = _axis(x_ptr, point, valid, other, scale, DIMS, SMOOTH)
                share = share * tl.where(((bits >> other) & 1) == 1, weight[:, None], 1.0 - weight[:, None])
        tl.store(dx_ptr + (level * DIMS + d) * n + point, tl.sum(share * pull, axis=1), mask=valid)


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
    block = max(32, _TILE // (levels.features << levels.dims))
    with torch.cuda.device_of(x):
        kernel[(triton.cdiv(n, block), levels.levels)](
            x,
            *buffers,
            n,
            *_level_tables(levels, x.device),
            DIMS=levels.dims,
            FEATURES=levels.features,
            SMOOTH=interpolation == "smoothstep",
            BLOCK=block,
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
