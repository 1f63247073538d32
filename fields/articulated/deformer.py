"""Posed space to canonical space and back: what lets a field live on the rest body and be seen in any pose.

Every vertex carries the inverse of its own blended transform (and of its pose corrective); a point near the posed surface is taken back by
a blend of its nearest vertices' inverses, with weights that fall to zero at the edge of the neighbourhood. Skin beside skin (finger on
finger, finger on palm) does not mix: of the neighbours only those count that are near the nearest one on the rest body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Deformer", "PosedSpace", "blended_transforms"]


def blended_transforms(
    weights: Tensor,  # (v, j)
    skinning: Tensor,  # (j, 3, 4) or (j, 4, 4)
) -> Tensor:  # (v, 3, 4)
    """Each vertex's transform from rest to posed. Differentiable."""
    return (weights @ skinning[:, :3].flatten(1)).unflatten(-1, (3, 4))


@dataclass(frozen=True)
class PosedSpace:
    """One pose of a `Deformer`: a table of which vertices matter in which cell of a cube, and their inverse transforms."""

    vertices: Tensor
    """(v, 3) posed, in the posed frame's unit."""
    inverse: Tensor
    """(v, 3, 4): posed to canonical."""
    cell: Tensor
    """(r, r, r) int32: row of `candidates`, -1 where the surface is further than the reach."""
    candidates: Tensor
    """(m, k) int64 vertices, nearest first."""
    origin: Tensor
    """(3,) lowest corner of the cells."""
    side: float
    """Of the cube of cells."""

    @property
    def occupied(self) -> Tensor:
        """(r, r, r) bool: cells near the surface."""
        return self.cell >= 0

    def to_canonical(
        self,
        points: Tensor,  # (n, 3) posed
    ) -> tuple[Tensor, Tensor, Tensor]:  # (n, 3), (n, 3, 3), (n,) bool
        """Canonical points, the linear part of the blended inverse, and whether a point is near the surface at all.

        Points that are not come back as they are. Differentiable with respect to points (blend weights included).
        """
        r = self.cell.shape[0]
        place = ((points.detach() - self.origin) * (r / self.side)).long()
        inside = ((place >= 0) & (place < r)).all(1)
        place = place.clamp(0, r - 1)
        row = torch.where(inside, self.cell[place[:, 0], place[:, 1], place[:, 2]], -1)
        near = row >= 0
        candidates = self.candidates[row.clamp_min(0).long()]
        offset = points[:, None] - self.vertices[candidates]
        square = offset.square().sum(-1)
        # (1 / d^2 - 1 / d_max^2), so that the furthest one counts nothing and may be exchanged for another
        furthest = square.amax(1, keepdim=True)
        weight = 1 / (square + 1e-9 + 1e-3 * furthest) - 1 / (furthest + 1e-9 + 1e-3 * furthest)
        weight = weight + 1e-6 / (square + 1e-9)
        weight = weight / weight.sum(1, keepdim=True)
        blend = (weight[..., None] * self.inverse.flatten(1)[candidates]).sum(1).unflatten(-1, (3, 4))
        canonical = (blend[..., :3] @ points[..., None])[..., 0] + blend[..., 3]
        return torch.where(near[:, None], canonical, points), blend[..., :3], near

    def jacobian(
        self,
        points: Tensor,  # (n, 3)
    ) -> Tensor:  # (n, 3, 3): d canonical / d posed
        """Exact derivative of `to_canonical`, blend weights included."""
        with torch.enable_grad():
            given = points.detach().requires_grad_()
            canonical, _, _ = self.to_canonical(given)
            rows = [
                torch.autograd.grad(canonical[:, axis].sum(), given, retain_graph=axis < 2)[0]
                for axis in range(3)
            ]
        return torch.stack(rows, 1)


class Deformer:
    """The canonical body that posed spaces are taken back to."""

    def __init__(
        self,
        canonical: Tensor,  # (v, 3) rest vertices, shape and no pose
        weights: Tensor,  # (v, j)
        *,
        neighbours: int = 6,
        apart: float = 0.012,
    ) -> None:
        """`apart`: neighbours that lie further than this (in the unit of canonical) from the nearest one at rest do not count."""
        self.canonical, self.weights = canonical, weights
        self.neighbours, self.apart = neighbours, apart

    def to_posed(
        self,
        points: Tensor,  # (n, 3) canonical
        skinning: Tensor,  # (j, 4, 4) or (j, 3, 4)
    ) -> Tensor:  # (n, 3)
        """Canonical points near the surface, moved as their nearest rest vertices' weights say. Differentiable."""
        from scipy.spatial import cKDTree

        tree = cKDTree(self.canonical.detach().cpu().numpy())
        distance, index = tree.query(points.detach().cpu().numpy(), k=self.neighbours)
        weight = torch.from_numpy(1 / (distance**2 + 1e-12)).to(points)
        weight = weight / weight.sum(1, keepdim=True)
        own = (weight[..., None] * self.weights[torch.from_numpy(index).to(points.device)]).sum(1)
        blend = blended_transforms(own, skinning)
        return (blend[..., :3] @ points[..., None])[..., 0] + blend[..., 3]

    @torch.no_grad()
    def pose(
        self,
        rest: Tensor,  # (v, 3) shaped and corrected for this pose, before skinning
        skinning: Tensor,  # (j, 4, 4) or (j, 3, 4), from rest to posed
        *,
        low: Tensor,  # (3,) lowest corner of the cube of cells, posed
        side: float,
        resolution: int = 128,
        reach: float = 0.005,  # how far from the surface points are still taken back
    ) -> PosedSpace:
        """Builds the table of one pose; some tenths of a second."""
        from scipy.spatial import cKDTree

        blend = blended_transforms(self.weights, skinning)
        posed = (blend[..., :3] @ rest[..., None])[..., 0] + blend[..., 3]
        inverse = torch.linalg.inv(blend[..., :3].double())
        shift = -(inverse @ blend[..., 3:].double())[..., 0] - (rest - self.canonical).double()
        affine = torch.cat((inverse, shift[..., None]), -1).to(rest.dtype)
        width = side / resolution
        rows = _cells_near(posed, low, width, resolution, reach + 0.87 * width)
        centres = low + (rows.to(rest.dtype) + 0.5) * width
        tree = cKDTree(posed.cpu().numpy())
        distance, index = tree.query(centres.cpu().numpy(), k=self.neighbours, workers=-1)
        close = distance[:, 0] <= reach + 0.87 * width
        index = torch.from_numpy(index[close]).to(rows.device)
        rows = rows[torch.from_numpy(close).to(rows.device)]
        nearest = self.canonical[index[:, :1]]
        foreign = (self.canonical[index] - nearest).norm(dim=-1) > self.apart
        index = torch.where(foreign, index[:, :1], index)
        cell = torch.full((resolution,) * 3, -1, dtype=torch.int32, device=rows.device)
        cell[rows[:, 0], rows[:, 1], rows[:, 2]] = torch.arange(
            len(rows), dtype=torch.int32, device=rows.device
        )
        return PosedSpace(posed, affine, cell, index, low, side)


def _cells_near(points: Tensor, low: Tensor, width: float, resolution: int, reach: float) -> Tensor:
    """(m, 3) cells whose box around a point's own cell may reach within `reach`."""
    own = torch.unique(((points - low) / width).long(), dim=0)
    steps = int(np.ceil(reach / width)) + 1
    span = torch.arange(-steps, steps + 1, device=points.device)
    around = torch.cartesian_prod(span, span, span)
    found = torch.zeros((resolution,) * 3, dtype=torch.bool, device=points.device)
    for part in own.split(4096):
        cells = (part[:, None] + around).reshape(-1, 3)
        cells = cells[((cells >= 0) & (cells < resolution)).all(1)]
        found[cells[:, 0], cells[:, 1], cells[:, 2]] = True
    return found.nonzero()
