"""Adam's update on NVIDIA GPUs, in Triton: test, update and zero the gradient in one sweep.

Floor: the gradient is read once (4 bytes an entry); four neighbours of which one has a gradient cost 32 bytes an entry more (value,
moments and count read, they and the gradient written). Each lane takes four neighbours, in loads and stores of 16 bytes.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .adam import AdamState

__all__ = ["update"]

_BLOCK, _WIDTH = 256, 4
"""Lanes' worth of entries in a program, and entries of each."""


@triton.jit(do_not_specialize=["last"])
def _update_kernel(
    parameter_ptr,  # (n,)
    gradient_ptr,  # (n,), zeroed
    first_ptr,  # (n,)
    second_ptr,  # (n,)
    count_ptr,  # (n,) int16
    correction_ptr,  # (last + 1, 2), all 1 in row `last` and beyond
    n,
    last,
    lr,
    beta1,
    rest1,  # 1 - beta1, worked out in float64
    beta2,
    rest2,
    eps,
    decay,
    SPARSE: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    lane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = lane[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    held = i < n
    gradient = tl.load(gradient_ptr + i, mask=held, other=0.0)
    touched = held
    if SPARSE:
        touched = gradient != 0.0
        # the same for all entries of a lane, so that they are loaded and stored at once
        held = held & (tl.max(touched.to(tl.int32), axis=1) > 0)[:, None]
    value = tl.load(parameter_ptr + i, mask=held, other=0.0)
    mean = tl.load(first_ptr + i, mask=held, other=0.0)
    spread = tl.load(second_ptr + i, mask=held, other=0.0)
    count = tl.load(count_ptr + i, mask=held, other=0).to(tl.int32)
    total = gradient + decay * value
    first = beta1 * mean + rest1 * total
    second = beta2 * spread + rest2 * total * total
    # counts saturate: the corrections are 1 long before
    counted = tl.minimum(count + 1, 32767)
    early = touched & (counted < last)
    correction1 = tl.load(correction_ptr + counted * 2, mask=early, other=1.0)
    correction2 = tl.load(correction_ptr + counted * 2 + 1, mask=early, other=1.0)
    size = tl.sqrt_rn(second * correction2) + eps
    moved = value - tl.div_rn(lr * (first * correction1), size)
    tl.store(parameter_ptr + i, tl.where(touched, moved, value), mask=held)
    tl.store(first_ptr + i, tl.where(touched, first, mean), mask=held)
    tl.store(second_ptr + i, tl.where(touched, second, spread), mask=held)
    tl.store(count_ptr + i, tl.where(touched, counted, count).to(tl.int16), mask=held)
    tl.store(gradient_ptr + i, tl.zeros([BLOCK, WIDTH], tl.float32), mask=held)


def update(
    parameter: Tensor,
    gradient: Tensor,
    state: AdamState,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    sparse: bool,
    corrections: Tensor,
) -> None:
    """Updates `parameter` and `state` in place and zeroes `gradient`; see `GridAdam`. All contiguous float32 on one device."""
    if not (parameter.is_contiguous() and gradient.is_contiguous()):
        raise ValueError(
            f"the fused update needs contiguous tensors, got strides {parameter.stride()}, {gradient.stride()}"
        )
    n = parameter.numel()
    if n == 0:
        return
    with torch.cuda.device_of(parameter):
        _update_kernel[(triton.cdiv(n, _BLOCK * _WIDTH),)](
            parameter, gradient, state.first, state.second, state.count, corrections,
            n, len(corrections) - 1,
            float(lr), betas[0], 1 - betas[0], betas[1], 1 - betas[1], float(eps), float(weight_decay),
            SPARSE=bool(sparse), BLOCK=_BLOCK, WIDTH=_WIDTH, num_warps=_BLOCK // 32,
        )  # fmt: skip
