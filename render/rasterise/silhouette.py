"""Silhouettes that fade over a band of pixels: a gradient for outlines that do not overlap yet."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .contour import MeshEdges, crossings, visible_ends
from .fragments import Fragments

__all__ = ["soft_silhouette"]

REACH = 8.0
"""Multiples of the softness from the outline beyond which a pixel is simply 0 or 1 (sigmoid(8) = 0.9997)."""
CANDIDATES = 4
"""Crossings nearest to a pixel whose edges are tried."""


def soft_silhouette(
    found: Fragments,  # of a frame; the first layer counts
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    softness: float,  # pixels
    edges: MeshEdges | None = None,  # of `mesh_edges`: compute it once where the topology stays
) -> Tensor:  # (h, w) in [0, 1]
    """sigmoid(signed distance to the outline / softness), distance in pixels and positive inside.

    The profile is that of Liu et al. (2019, equation 1, with a distance instead of its square); but the distance is to the outline of what
    is covered, not to every face, so that the inside of an object is 1 however many faces it has. The outline is that of
    covered against empty pixels: contours within the object do not count. Differentiable with respect to the vertices of the outline. Edges
    are straight between their projected ends, which a strongly distorted lens does not make them.
    """
    if not softness > 0:
        raise UserError(f"soft silhouette: softness {softness}; give pixels above 0")
    height, width = found.view.shape if len(found.view.shape) == 2 else (0, 0)
    inner, outer, share, ends = crossings(found, vertices, faces, edges)
    covered = (found.face[..., 0] >= 0).reshape(-1)
    free = ~covered[outer]
    inner, outer, share, ends = inner[free], outer[free], share[free].detach(), ends[free]
    hard = covered.to(vertices.dtype)
    if not len(inner):
        return hard.reshape(height, width)
    pixels, nearest = _near_outline(inner, outer, share, width, height, REACH * softness)
    first, second = visible_ends(vertices, ends, found)
    place = torch.stack([pixels % width, pixels // width], 1).to(vertices.dtype) + 0.5
    distance = _to_segment(place[:, None], first[nearest], second[nearest]).amin(1)
    signed = torch.where(covered[pixels], distance, -distance)
    return hard.index_copy(0, pixels, torch.sigmoid(signed / softness)).reshape(height, width)


def _near_outline(
    inner: Tensor, outer: Tensor, share: Tensor, width: int, height: int, reach: float
) -> tuple[Tensor, Tensor]:
    """Pixels (p,) within `reach` of a crossing, and the crossings (p, CANDIDATES) nearest to each."""
    from scipy.spatial import cKDTree

    ends = [torch.stack([each % width, each // width], 1).double() + 0.5 for each in (inner, outer)]
    places = (ends[0] + share.double()[:, None] * (ends[1] - ends[0])).cpu().numpy()
    number = torch.arange(height * width)
    centres = torch.stack([number % width, number // width], 1).double().numpy() + 0.5
    count = min(CANDIDATES, len(places))
    distance, nearest = cKDTree(places).query(centres, k=count, distance_upper_bound=reach)
    distance, nearest = (
        torch.from_numpy(distance).reshape(-1, count),
        torch.from_numpy(nearest).reshape(-1, count),
    )
    close = torch.isfinite(distance[:, 0])
    nearest = torch.where(torch.isfinite(distance), nearest, nearest[:, :1])[close]
    return number[close].to(inner.device), nearest.to(inner.device)


def _to_segment(place: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Distance of points to segments, all (..., 2) -> (...); infinite where an end has no image."""
    sound = (first.isfinite() & second.isfinite()).all(-1)
    first, second = torch.where(sound[..., None], first, 0), torch.where(sound[..., None], second, 1)
    along = second - first
    share = (((place - first) * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    offset = place - first - share[..., None] * along
    distance = offset.square().sum(-1).clamp_min(1e-12).sqrt()
    return torch.where(sound, distance, torch.inf)
