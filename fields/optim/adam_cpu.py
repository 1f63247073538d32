"""Adam's update in one sweep: test, update and zero the gradient while its cache line is at hand.

Floor: the gradient is read once (4 bytes an entry); only cache lines with a non-zero gradient cost more (value, two
moments and a count, read and written: 36 bytes an entry). A list of touched rows would save the scan but costs a
store per corner in the scatter; at the batch sizes we train with most lines are touched, so the scan is cheaper.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from torch import Tensor

from .adam import AdamState

__all__ = ["update"]

_LINE = 16  # float32 values in a cache line
_CHUNK = 1 << 14


@njit(parallel=True, cache=True, fastmath={"contract"})
def _update(p, g, m, v, count, corrections, lr, beta1, beta2, eps, decay, sparse):
    n = p.shape[0]
    one = np.float32(1)
    last = len(corrections) - 1
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        for start in range(chunk * _CHUNK, min(n, (chunk + 1) * _CHUNK), _LINE):
            stop = min(n, start + _LINE)
            if sparse:
                total = np.float32(0)
                for i in range(start, stop):
                    total = max(total, abs(g[i]))
                if total == 0:
                    continue
            for i in range(start, stop):
                gradient = g[i]
                if not sparse or gradient != 0:
                    gradient += decay * p[i]
                    times = count[i] + 1
                    first = beta1 * m[i] + (one - beta1) * gradient
                    second = beta2 * v[i] + (one - beta2) * gradient * gradient
                    k = min(times, last)
                    p[i] -= lr * (first * corrections[k, 0]) / (np.sqrt(second * corrections[k, 1]) + eps)
                    m[i] = first
                    v[i] = second
                    count[i] = times
                    g[i] = np.float32(0)


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
    _update(
        *(
            tensor.view(-1).numpy()
            for tensor in (parameter, gradient, state.first, state.second, state.count)
        ),
        corrections.numpy(),
        np.float32(lr),
        np.float32(betas[0]),
        np.float32(betas[1]),
        np.float32(eps),
        np.float32(weight_decay),
        sparse,
    )
