"""Adam's update in one sweep: test, update and zero the gradient while its cache line is at hand.

Floor: the gradient is read once (4 bytes an entry); only cache lines with a non-zero gradient cost more (value, gradient,
two moments and a count, read and written: 36 bytes an entry). A list of touched rows would save the scan but costs a
store per corner in the scatter; at the batch sizes we train with most lines are touched, so the scan is cheaper.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor

from ..vector_ir import LANES
from .adam import AdamState
from .adam_simd import adam_lanes

__all__ = ["update"]

_CHUNK = 1 << 14


@njit(cache=True)
def _update_range(p, g, m, v, count, first, second, lr, beta1, beta2, eps, decay, sparse, start, stop):
    last = np.int32(len(first) - 1)
    at_p, at_g, at_m, at_v, at_count = (
        p.ctypes.data,
        g.ctypes.data,
        m.ctypes.data,
        v.ctypes.data,
        count.ctypes.data,
    )
    at_first, at_second = first.ctypes.data, second.ctypes.data
    for i in range(start, stop, LANES):
        adam_lanes(
            at_p + i * 4, at_g + i * 4, at_m + i * 4, at_v + i * 4, at_count + i * 2,
            at_first, at_second, last, lr, beta1, beta2, eps, decay, sparse,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _update(p, g, m, v, count, first, second, lr, beta1, beta2, eps, decay, sparse):
    """All arrays of one length, a multiple of LANES."""
    n = p.shape[0]
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        _update_range(
            p, g, m, v, count, first, second, lr, beta1, beta2, eps, decay, sparse,
            chunk * _CHUNK, min(n, (chunk + 1) * _CHUNK),
        )  # fmt: skip


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
    """Updates `parameter` and `state` in place and zeroes `gradient`; see `GridAdam`. All contiguous float32."""
    if not (parameter.is_contiguous() and gradient.is_contiguous()):
        raise ValueError(
            f"the fused update needs contiguous tensors, got strides {parameter.stride()}, {gradient.stride()}"
        )
    arrays = [
        tensor.view(-1).numpy() for tensor in (parameter, gradient, state.first, state.second, state.count)
    ]
    first, second = (np.ascontiguousarray(corrections[:, k].numpy()) for k in (0, 1))
    numbers = [np.float32(value) for value in (lr, *betas, eps, weight_decay)]
    whole = len(arrays[0]) // LANES * LANES
    _update(*(array[:whole] for array in arrays), first, second, *numbers, sparse)
    rest = len(arrays[0]) - whole
    if rest:  # a last vector that is not full
        padded = [np.zeros(LANES, array.dtype) for array in arrays]
        for part, array in zip(padded, arrays, strict=True):
            part[:rest] = array[whole:]
        _update(*padded, first, second, *numbers, sparse)
        for part, array in zip(padded, arrays, strict=True):
            array[whole:] = part[:rest]
