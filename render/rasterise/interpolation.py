"""Vertex attributes at fragments, and the normals of a mesh."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .fragments import Fragments

__all__ = ["face_normals", "interpolate", "vertex_normals"]


def interpolate(
    attributes: Tensor,  # (v, c)
    faces: Tensor,  # (f, 3)
    found: Fragments,
) -> Tensor:  # (..., K, c)
    """Attributes of vertices at each fragment, weighted by its barycentrics; 0 in absent layers.

    Perspective is accounted for, since barycentrics are those of the point in space. `faces` may be other than those rasterised,
    row for row, as with texture coordinates that have seams. Differentiable with respect to attributes, and through the
    barycentrics to vertices.
    """
    if attributes.ndim != 2:
        raise UserError(f"interpolate: attributes of shape {tuple(attributes.shape)}; give (v, c)")
    flat = found.face.reshape(-1)
    there = torch.nonzero(flat >= 0)[:, 0]
    result = attributes.new_zeros(len(flat), attributes.shape[1])
    if len(there):
        weights = found.barycentric.reshape(-1, 3)[there].to(attributes.dtype)
        corners = faces[flat[there].long()].long()
        if int(corners.max()) >= len(attributes):
            raise UserError(
                f"interpolate: {len(attributes)} attributes, but a face has the corner {int(corners.max())}"
            )
        # sums each row of three on the fly: the (n, 3, c) values are never held
        values = torch.nn.functional.embedding_bag(
            corners, attributes, per_sample_weights=weights, mode="sum"
        )
        result = result.index_copy(0, there, values)
    return result.reshape(*found.face.shape, -1)


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:  # (f, 3)
    """Normals of length twice the face's area, towards where its corners run counter-clockwise. Differentiable."""
    a, b, c = vertices[faces.long()].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:  # (v, 3)
    """Unit normals, the mean of the faces around a vertex weighted by area; 0 where there is none. Differentiable."""
    normals = face_normals(vertices, faces)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total = total.index_add(0, faces[:, corner].long(), normals)
    return torch.nn.functional.normalize(total, dim=1, eps=torch.finfo(vertices.dtype).tiny ** 0.5)
