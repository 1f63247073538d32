"""Symmetric quantisation of weights and grids to a few bits, and training through it.

Lee et al. 2024 (CAM) quantise to 8 bits: q = round(w / s), s = max|w| / (2^(b-1) - 1), one s a tensor, gradients straight through
(Bengio et al. 2013). Grids keep gamma - 1 and beta, so both are quantised as they stand. Ours: s is rounded up to 16
significant bits (fewer above 9 bits), so that q s is exact in float32 and, up to 11 bits, quantising a quantised tensor changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["check_bits", "dequantise", "quantise", "scale_of", "straight_through"]


def check_bits(bits: int) -> int:
    """`bits` if it is a whole number from 2 to 16, else `UserError`."""
    if bits not in range(2, 17):
        raise UserError(f"bits {bits!r}: must be a whole number from 2 to 16")
    return bits


def scale_of(
    w: Tensor,  # any shape
    bits: int,
) -> float:
    """The step s; 0 for a tensor of zeros. `UserError` for values that are not finite."""
    largest = float(w.detach().abs().max()) if w.numel() else 0.0
    if not np.isfinite(largest):
        raise UserError(
            "quantisation: the tensor has values that are not finite; train again with a lower rate"
        )
    if largest == 0:
        return 0.0
    step = largest / (2 ** (check_bits(bits) - 1) - 1)
    mantissa, exponent = np.frexp(step)
    kept = min(16, 25 - bits)
    return float(np.ldexp(np.ceil(mantissa * 2**kept), int(exponent) - kept))


def quantise(w: Tensor, bits: int) -> tuple[Tensor, float]:
    """Symbols (int32, the shape of w, within +-(2^(bits-1) - 1)) and their step."""
    step = scale_of(w, bits)
    if step == 0:
        return torch.zeros(w.shape, dtype=torch.int32), 0.0
    most = 2 ** (bits - 1) - 1
    symbols = torch.round(w.detach().double() / step).clamp(-most, most)
    return symbols.int().cpu(), step


def dequantise(symbols: Tensor, step: float) -> Tensor:
    """float32 values of symbols; exact."""
    return (symbols.double() * step).float()


def straight_through(bits: int) -> Callable[[Tensor], Tensor]:
    """A function that quantises forward and hands the gradient on unchanged, for training what will be packed.

    The step never leaves the tensor's device, so that a GPU need not be waited for; a tensor that is not finite gives one that is none.
    """
    check_bits(bits)
    most = 2 ** (bits - 1) - 1
    kept = min(16, 25 - bits)

    def quantised(w: Tensor) -> Tensor:
        if not w.numel():
            return w
        with torch.no_grad():
            # `scale_of`, on the device
            mantissa, exponent = torch.frexp(w.abs().max().double() / most)
            step = torch.ldexp(torch.ceil(mantissa * 2**kept), exponent - kept).float()
            symbols = torch.round(w / step.clamp(min=torch.finfo(torch.float32).tiny)).clamp(-most, most)
            apart = symbols * step - w
        return w + apart

    return quantised
