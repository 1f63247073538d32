"""Sines and cosines of coordinates at doubling frequencies, in tiny-cuda-nn's definition and order.

Mildenhall et al. 2020 (NeRF), equation 4; tiny-cuda-nn, frequency.h. For coordinate c and octave l the outputs
2 (c * octaves + l) and the next are sin(2^l pi x_c) and cos(2^l pi x_c): coordinates slowest, then octaves, then sine before
cosine. NeRF's own code puts octaves before coordinates and leaves pi out; the identity is not among the outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends
from fieldstone.core.errors import UserError

__all__ = ["FREQUENCIES", "encoding_with_coordinates", "frequency_encoding", "with_coordinates"]

FREQUENCIES = Backends("frequency encoding")
FREQUENCIES.add(Backend("cpu", "fieldstone.fields.encodings.frequency_cpu", ("cpu",)))
FREQUENCIES.add(Backend("reference", "fieldstone.fields.encodings.frequency", ("cpu", "cuda")))


def frequency_encoding(
    x: Tensor,  # (n, D); one period of the lowest octave is [-1, 1]
    octaves: int,  # 1 to 30; float32 resolves about 20 of them over [0, 1]
) -> Tensor:  # (n, D * octaves * 2)
    """Any float dtype; differentiable with respect to x, any number of times.

    Raises `UserError` for other octaves, `ValueError` for x of another shape.
    """
    if octaves not in range(1, 31):
        raise UserError(f"frequency encoding: octaves must be a whole number from 1 to 30, got {octaves!r}")
    if x.ndim != 2:
        raise ValueError(f"frequency encoding: expected coordinates (n, D), got {tuple(x.shape)}")
    octave = 2.0 ** torch.arange(octaves, dtype=x.dtype, device=x.device)
    # scaling by a power of two is exact, and so is dropping whole periods of 2: only the product with pi rounds
    angle = math.pi * torch.remainder(x[:, :, None] * octave, 2.0)  # (n, D, octaves)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def with_coordinates(
    x: Tensor,  # (n, D)
    octaves: int,
) -> Tensor:  # (n, D * (1 + 2 * octaves))
    """x itself, then `frequency_encoding(x, octaves)`: what NeRF's networks read, in plain torch."""
    return torch.cat([x, frequency_encoding(x, octaves)], dim=1)


def encoding_with_coordinates(x: Tensor, octaves: int, backend: str = "auto") -> Tensor:
    """`with_coordinates` by the fastest back end there is for x; that of the CPU is differentiable once."""
    if octaves not in range(1, 31):
        raise UserError(f"frequency encoding: octaves must be a whole number from 1 to 30, got {octaves!r}")
    return FREQUENCIES.load(backend, x.device.type).with_coordinates(x, octaves)
