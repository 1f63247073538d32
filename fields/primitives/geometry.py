"""Thousands of primitives as one mesh: a code and a small shift each, decoded by the frozen network."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from .icosphere import template
from .shape_space import CODE, ShapeSpace, bundled_shapes
from .surface import chamfer, laplacian, surface_samples
from .voxels import Voxels

__all__ = ["STARTS", "PrimitiveGeometry"]

STARTS = ("encoder", "sphere")
LAPLACIAN, OUTSIDE = 0.08, 1.0
"""Weights of roughness and of what leaves the voxel by more than a quarter, both of lengths in half diagonals."""
ENCODED = 4096
"""Voxels encoded at once."""


class PrimitiveGeometry(nn.Module):
    """n primitives of one or more sizes, in the frame of the voxels.

    The paper's: a code of unit length and a shift each, sphere start, all scales alike (Lu, Xu et al. 2023, section 3; the released trainer keeps scales
    apart). Ours: the start is the encoder's answer to the points in the voxel, or the sphere; the loss compares surface and points both ways.
    """

    def __init__(self, count: int, shapes: ShapeSpace | None = None) -> None:
        super().__init__()
        # a copy: a run that brings its own decoder must not change that of others
        self.shapes = copy.deepcopy(bundled_shapes() if shapes is None else shapes)
        self.codes = nn.Parameter(self.shapes.sphere.expand(count, CODE).clone())
        self.shifts = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("centres", torch.zeros(count, 3))
        self.register_buffer("reach", torch.ones(count))

    @staticmethod
    def of(
        voxels: list[Voxels], start: str = "encoder", shapes: ShapeSpace | None = None
    ) -> PrimitiveGeometry:
        """One primitive a voxel, the scales after one another."""
        made = PrimitiveGeometry(sum(len(each.centres) for each in voxels), shapes)
        with torch.no_grad():
            made.centres.copy_(torch.cat([torch.from_numpy(each.centres) for each in voxels]))
            made.reach.copy_(
                torch.cat([torch.full((len(each.centres),), each.half_diagonal) for each in voxels])
            )
            if start == "encoder":
                points = torch.cat([torch.from_numpy(each.points) for each in voxels])
                for first in range(0, len(points), ENCODED):
                    part = slice(first, first + ENCODED)
                    made.codes[part] = made.shapes.encoder(points[part])
        return made

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def faces(self) -> Tensor:
        """(80 n, 3) int32."""
        first = 42 * torch.arange(len(self), dtype=torch.int32, device=self.codes.device)
        return (template().faces.int().to(first.device)[None] + first[:, None, None]).reshape(-1, 3)

    def local(self, chosen: Tensor | slice = slice(None)) -> Tensor:
        """(k, 42, 3) vertices of the chosen primitives about their voxels' middles, in half diagonals. Differentiable."""
        return self.shapes.decoder(self.codes[chosen]) + self.shifts[chosen][:, None]

    def vertices(self) -> Tensor:
        """(42 n, 3). Differentiable with respect to codes and shifts."""
        return (self.centres[:, None] + self.reach[:, None, None] * self.local()).reshape(-1, 3)

    def point_loss(
        self,
        chosen: Tensor,  # (k,) int64 primitives
        points: Tensor,  # (k, m, 3) of their voxels, about the middle, in half diagonals
        weights: Tensor,  # (80, s, 3) barycentrics of the samples
    ) -> Tensor:
        """Surface to points and back, roughness, and what sticks out of the voxel; in half diagonals. Differentiable."""
        local = self.local(chosen)
        out, back = chamfer(surface_samples(local, weights), points)
        outside = (local.abs() - 1.25 / 3**0.5).clamp_min(0).sum((1, 2)) / 42
        return (out + back + LAPLACIAN * laplacian(local) + OUTSIDE * outside).mean()

    @torch.no_grad()
    def tidy(self) -> int:
        """Brings codes to unit length; those that are not finite start again as spheres, are counted, and warned of."""
        bad = ~(torch.isfinite(self.codes).all(1) & torch.isfinite(self.shifts).all(1))
        count = int(bad.sum())
        if count:
            warnings.warn(
                f"{count} of {len(self)} primitives had codes that are not finite; they are spheres again",
                stacklevel=2,
            )
            self.codes[bad], self.shifts[bad] = self.shapes.sphere, 0.0
        # those that have it already stay bit for bit, so that a run that is taken up again goes on exactly
        done = (self.codes.norm(dim=1, keepdim=True) - 1).abs() < 1e-5
        self.codes.copy_(torch.where(done, self.codes, nn.functional.normalize(self.codes, dim=1, eps=1e-6)))
        return count
