"""Signed distance to a triangle mesh: exact nearest point, inside told by the generalised winding number (Jacobson et al. 2013)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends

__all__ = ["NEAREST", "Nearest", "nearest", "signed_distance"]

NEAREST = Backends("nearest point")
NEAREST.add(Backend("cpu", "fieldstone.fields.articulated.signed_distance_cpu", ("cpu",)))
NEAREST.add(Backend("reference", "fieldstone.fields.articulated.signed_distance_reference", ("cpu", "cuda")))


class Nearest(NamedTuple):
    """Where n points are nearest to a mesh."""

    face: Tensor
    """(n,) int64."""
    barycentric: Tensor
    """(n, 3) of the nearest point."""
    winding: Tensor
    """(n,) winding number: 1 inside a closed mesh, 0 outside, between near holes."""


@torch.no_grad()
def nearest(
    points: Tensor,  # (n, 3)
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3) counter-clockwise from outside
    *,
    backend: str = "auto",
) -> Nearest:
    """Every face is looked at: right for any mesh, and quick for the few thousand faces of a hand. Not differentiable."""
    return NEAREST.load(backend, points.device.type).nearest(points, vertices, faces)


def signed_distance(
    points: Tensor,  # (n, 3)
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    *,
    backend: str = "auto",
) -> Tensor:  # (n,)
    """Negative inside (winding number above one half). Cap an open hand first: at a hole the sign changes half-way.

    Differentiable with respect to points and vertices where the nearest point is unique (the nearest point itself may be held fixed:
    its motion along the surface does not change the distance to first order).
    """
    found = nearest(points, vertices, faces, backend=backend)
    corners = vertices[faces[found.face]]
    place = (found.barycentric[..., None] * corners).sum(1)
    offset = points - place
    square = offset.square().sum(1)
    distance = torch.where(
        square > 0, torch.where(square > 0, square, torch.ones_like(square)).sqrt(), square
    )
    return torch.where(found.winding > 0.5, -distance, distance)
