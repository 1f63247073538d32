"""Where the primitives of an edited scene come from, as shading needs it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Placed", "linear_from_srgb", "srgb_from_linear"]


class Placed(NamedTuple):
    """m primitives made of n trained ones. Appearance is read where the trained primitive was, from the direction in which the camera
    would have stood then, and tinted afterwards."""

    rest: Tensor
    """(42 n, 3) vertices of the trained primitives."""
    look: Tensor
    """(m,) int64: the trained primitive whose appearance it has."""
    turn: Tensor
    """(m,) int64 row of `rotations`; 0 for primitives that were not turned."""
    rotations: Tensor
    """(k, 3, 3) float32: directions of the scene to those of the trained primitive; the first is the identity."""
    tint: Tensor
    """(m,) int64 row of `tints`; 0 for the colour as it was learned."""
    tints: Tensor
    """(j, 3, 4) float32: affine maps of linear RGB."""

    def turned(
        self,
        number: Tensor,  # (n,) int64 primitive of each point
        directions: Tensor,  # (r, 3)
        ray: Tensor,  # (n,) int32
    ) -> tuple[Tensor, Tensor]:
        """Directions with those of turned primitives behind them, and which of them each point has."""
        turn = self.turn[number]
        rows = torch.nonzero(turn)[:, 0]
        if not len(rows):
            return directions, ray
        own = torch.einsum("nij,nj->ni", self.rotations[turn[rows]], directions[ray[rows].long()])
        fresh = torch.arange(len(directions), len(directions) + len(rows), dtype=ray.dtype)
        return torch.cat([directions, own]), ray.index_copy(0, rows, fresh)

    def tinted(
        self,
        number: Tensor,  # (n,) int64 primitive of each point
        colour: Tensor,  # (n, 3) sRGB
    ) -> Tensor:  # (n, 3) sRGB; rows without a tint as they came
        tint = self.tint[number]
        rows = torch.nonzero(tint)[:, 0]
        if not len(rows):
            return colour
        affine = self.tints[tint[rows]]
        linear = linear_from_srgb(colour[rows])
        changed = torch.einsum("nij,nj->ni", affine[:, :, :3], linear) + affine[:, :, 3]
        return colour.index_copy(0, rows, srgb_from_linear(changed.clamp(0, 1)))


def linear_from_srgb(colour: Tensor) -> Tensor:
    """Of values in [0, 1] (IEC 61966-2-1)."""
    return torch.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(colour: Tensor) -> Tensor:
    """Inverse of `linear_from_srgb`."""
    return torch.where(
        colour <= 0.0031308, colour * 12.92, 1.055 * colour.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    )
