"""Adam's update on NVIDIA GPUs, in Triton: test, update and zero the gradient in one sweep.

Floor: the gradient is read once (4 bytes an entry); an entry that has one costs 32 bytes more (gradient, value, two moments and a count
written, all but the gradient read). Loads and stores of entries without a gradient are masked, so what lies in sectors of
32 bytes without one is not moved.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .adam import AdamState

__all__ = ["update"]

_BLOCK = 1024


@triton.jit(do_not_specialize=["last"])
def _update_kernel(
    parameter_ptr,  # (n,)
    gradient_ptr,  # (n,), zeroed
    first_ptr,  # (n,)
    second_ptr,  # (n,)
    count_ptr,  # (n,) int16
    correction_ptr,  # (last + 1, 2), constant from row `last` on
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
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    touched = i < n
    gradient = tl.load(gradient_ptr + i, mask=touched, other=0.0)
    if SPARSE:
        touched = touched & (gradient != 0.0)
    value = tl.load(parameter_ptr + i, mask=touched, other=0.0)
    total = gradient + decay * value
    first = beta1 * tl.load(first_ptr + i, mask=touched, other=0.0) + rest1 * total
    second = beta2 * tl.load(second_ptr + i, mask=touched, other=0.0) + rest2 * total * total
    # counts saturate: the corrections are 1 long before
    count = tl.minimum(tl.load(count_ptr + i, mask=touched, other=0).to(tl.int32) + 1, 32767)
    row = tl.minimum(count, last) * 2
    correction1 = tl.load(correction_ptr + row, mask=touched, other=1.0)
    correction2 = tl.load(correction_ptr + row + 1, mask=touched, other=1.0)
    size = tl.sqrt_rn(second * correction2) + eps
    value = value - tl.div_rn(lr * (first * correction1), size)
    tl.store(parameter_ptr + i, value, mask=touched)
    tl.store(first_ptr + i, first, mask=touched)
    tl.store(second_ptr + i, second, mask=touched)
    tl.store(count_ptr + i, count.to(tl.int16), mask=touched)
    tl.store(gradient_ptr + i, tl.zeros([BLOCK], tl.float32), mask=touched)


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
        _update_kernel[(triton.cdiv(n, _BLOCK),)](
            parameter, gradient, state.first, state.second, state.count, corrections,
            n, len(corrections) - 1,
            float(lr), betas[0], 1 - betas[0], betas[1], 1 - betas[1], float(eps), float(weight_decay),
            SPARSE=bool(sparse), BLOCK=_BLOCK,
        )  # fmt: skip
