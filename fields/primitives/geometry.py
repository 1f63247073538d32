"""Thousands of primitives as one mesh: a code and a small shift each, decoded by the frozen network."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError

from .icosphere import template
from .shape_space import CODE, ShapeSpace, bundled_shapes
from .surface import chamfer, laplacian, surface_samples
from .voxels import Voxels

__all__ = ["STARTS", "PrimitiveGeometry"]

STARTS = ("encoder", "pca", "sphere")
LAPLACIAN, OUTSIDE = 0.08, 1.0
"""Weights of roughness and of what leaves the voxel by more than a quarter, both of lengths in half diagonals."""
ENCODED = 4096
"""Voxels encoded at once."""
THINNEST = 0.04
"""Half the thickness, in half diagonals, of the disc that a flat patch's points start from."""


class PrimitiveGeometry(nn.Module):
    """n primitives of one or more sizes, in the frame of the voxels.

    The paper's: a code of unit length and a shift each, sphere start, all scales alike (Lu, Xu et al. 2023, section 3; the released trainer keeps scales
    apart). Ours: the start is the encoder's answer to the points in the voxel, their principal ellipsoid, or the sphere; the loss compares surface and
    points both ways; and primitives come and go: those that are not `alive` have no faces, and `place` makes them anew.
    """

    def __init__(
        self,
        count: int,
        shapes: ShapeSpace | None = None,
        *,
        free: bool = False,  # vertices themselves are learned, not codes: to compare
        spare: int = 0,  # more primitives, not alive
    ) -> None:
        super().__init__()
        count += spare
        # a copy: a run that brings its own decoder must not change that of others
        self.shapes = copy.deepcopy(bundled_shapes() if shapes is None else shapes)
        self.codes = nn.Parameter(self.shapes.sphere.expand(count, CODE).clone())
        self.shifts = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("centres", torch.zeros(count, 3))
        self.register_buffer("reach", torch.ones(count))
        self.register_buffer("alive", torch.arange(count) < count - spare)
        self.free = nn.Parameter(template().vertices.expand(count, 42, 3).clone()) if free else None

    @staticmethod
    def of(
        voxels: list[Voxels],
        start: str = "encoder",
        shapes: ShapeSpace | None = None,
        *,
        free: bool = False,
        spare: int = 0,
    ) -> PrimitiveGeometry:
        """One primitive a voxel, the scales after one another."""
        count = sum(len(each.centres) for each in voxels)
        made = PrimitiveGeometry(count, shapes, free=free, spare=spare)
        first = 0
        for each in voxels:
            made.place(torch.arange(first, first + len(each.centres)), each, start)
            first += len(each.centres)
        return made

    @torch.no_grad()
    def place(self, rows: Tensor, voxels: Voxels, start: str = "encoder") -> None:
        """Puts the primitives `rows` (k,) int64 into k voxels, alive and in the shape they start from. UserError for a start that there is not."""
        if start not in STARTS:
            raise UserError(f"primitives: start {start!r}; there are {', '.join(STARTS)}")
        self.centres[rows] = torch.from_numpy(voxels.centres)
        self.reach[rows] = voxels.half_diagonal
        self.alive[rows], self.shifts[rows] = True, 0.0
        self.codes[rows] = self.shapes.sphere
        if start != "sphere":
            points = torch.from_numpy(voxels.points)
            for first in range(0, len(rows), ENCODED):
                part = slice(first, first + ENCODED)
                wanted = points[part] if start == "encoder" else _ellipsoids(points[part])
                self.codes[rows[part]] = self.shapes.encoder(wanted)
                if start == "pca":
                    self._approach(rows[part], wanted)
        if self.free is not None:
            self.free[rows] = self.shapes.decoder(self.codes[rows])

    @torch.enable_grad()
    def _approach(self, rows: Tensor, wanted: Tensor, steps: int = 40) -> None:
        """Codes whose shapes are near the wanted vertices (k, 42, 3), from those that `rows` have."""
        codes = self.codes[rows].detach().requires_grad_()
        optimiser = torch.optim.Adam([codes], lr=0.05)
        for _ in range(steps):
            optimiser.zero_grad()
            (self.shapes.decoder(codes) - wanted).square().sum(-1).mean(1).sum().backward()
            optimiser.step()
        with torch.no_grad():
            self.codes[rows] = nn.functional.normalize(codes, dim=1)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def faces(self) -> Tensor:
        """(80 a, 3) int32 of the a primitives that are alive."""
        first = 42 * torch.nonzero(self.alive)[:, 0].int()
        return (template().faces.int().to(first.device)[None] + first[:, None, None]).reshape(-1, 3)

    def local(self, chosen: Tensor | slice = slice(None)) -> Tensor:
        """(k, 42, 3) vertices of the chosen primitives about their voxels' middles, in half diagonals. Differentiable."""
        shape = self.shapes.decoder(self.codes[chosen]) if self.free is None else self.free[chosen]
        return shape + self.shifts[chosen][:, None]

    def vertices(self) -> Tensor:
        """(42 n, 3), of those that are not alive too. Differentiable with respect to codes (or free vertices) and shifts."""
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
        if self.free is not None:
            bad |= ~torch.isfinite(self.free).flatten(1).all(1)
        count = int(bad.sum())
        if count:
            warnings.warn(
                f"{count} of {len(self)} primitives had codes that are not finite; they are spheres again",
                stacklevel=2,
            )
            self.codes[bad], self.shifts[bad] = self.shapes.sphere, 0.0
            if self.free is not None:
                self.free[bad] = template().vertices
        # those that have it already stay bit for bit, so that a run that is taken up again goes on exactly
        done = (self.codes.norm(dim=1, keepdim=True) - 1).abs() < 1e-5
        self.codes.copy_(torch.where(done, self.codes, nn.functional.normalize(self.codes, dim=1, eps=1e-6)))
        return count


def _ellipsoids(points: Tensor) -> Tensor:  # (n, m, 3) -> (n, 42, 3)
    """The template stretched along the principal axes of each set of points: a disc where they are flat. Twice the standard deviation is the radius of
    a disc with as much spread."""
    middle = points.mean(1, keepdim=True)
    spread = (points - middle).transpose(1, 2) @ (points - middle) / points.shape[1]
    square, axes = torch.linalg.eigh(spread)
    axes = (
        axes * torch.linalg.det(axes)[:, None, None].sign()
    )  # kept right-handed, so that faces stay turned outwards
    radii = (2 * square.clamp_min(0).sqrt()).clamp_min(THINNEST)
    return middle + (template().vertices.to(points) * radii[:, None]) @ axes.transpose(1, 2)
