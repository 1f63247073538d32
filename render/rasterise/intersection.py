"""Where a ray meets the plane of a known face, with gradients to the corners and to the ray.

For corners V_j, barycentrics b_j, a ray o + t d and the face's normal n, moving a corner by dV_j moves the hit along the ray by
dt = n . sum_j b_j dV_j / (n . d), and the barycentrics by db_i = g_i . (dt d - sum_j b_j dV_j), where g_i is the gradient of b_i
in the plane. With G = sum_i (dL/db_i) g_i, every gradient is a multiple of one vector,
q = (dL/dt + G . d) n / (n . d) - G: it is b_j q for corner j, -q for the origin and -t q for the direction. Derived here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .view import View

__all__ = ["intersect", "ray_plane"]

CHUNK = 1 << 16
"""Fragments taken at once: bounds the temporaries (about 1 kB each) whatever the image and the layers."""


def ray_plane(
    corners: Tensor,  # (n, 3, 3)
    origins: Tensor,  # (n, 3)
    directions: Tensor,  # (n, 3)
) -> tuple[Tensor, Tensor]:  # (n, 3) barycentrics, (n,) multiples of the direction
    """The point of each ray in the plane of its triangle, inside or not. Plain torch: differentiable any number of times."""
    a, b, c = corners.unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    distance = (normal * (a - origins)).sum(1) / (normal * directions).sum(1)
    towards = corners - (origins + distance[:, None] * directions)[:, None]
    a, b, c = towards.unbind(1)
    areas = torch.stack([(normal * torch.linalg.cross(*pair)).sum(1) for pair in ((b, c), (c, a), (a, b))], 1)
    return areas / normal.square().sum(1, keepdim=True), distance


class _Intersection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, origins, directions, faces, face):
        ctx.save_for_backward(vertices, origins, directions, faces, face)
        barycentric = torch.empty(len(face), 3, dtype=vertices.dtype, device=vertices.device)
        distance = torch.empty(len(face), dtype=vertices.dtype, device=vertices.device)
        for part in _parts(len(face)):
            corners = vertices[faces[face[part].long()].long()].double()
            barycentric[part], distance[part] = ray_plane(
                corners, origins[part].double(), directions[part].double()
            )
        return barycentric, distance

    @staticmethod
    @once_differentiable
    def backward(ctx, d_barycentric, d_distance):
        vertices, origins, directions, faces, face = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        d_vertices = torch.zeros_like(vertices, dtype=torch.float64) if wanted[0] else None
        d_origins = torch.zeros_like(origins) if wanted[1] else None
        d_directions = torch.zeros_like(directions) if wanted[2] else None
        for part in _parts(len(face)):
            corner_index = faces[face[part].long()].long()
            corners = vertices[corner_index].double()
            origin, direction = origins[part].double(), directions[part].double()
            barycentric, distance = ray_plane(corners, origin, direction)
            a, b, c = corners.unbind(1)
            normal = torch.linalg.cross(b - a, c - a)
            opposite = torch.stack([c - b, a - c, b - a], 1)
            # g_i = n x (the edge opposite corner i) / |n|^2
            along = (d_barycentric[part].double()[:, :, None] * opposite).sum(1)
            inward = torch.linalg.cross(normal, along) / normal.square().sum(1, keepdim=True)
            slope = d_distance[part].double() + (inward * direction).sum(1)
            pull = (slope / (normal * direction).sum(1))[:, None] * normal - inward
            if d_vertices is not None:
                d_vertices.index_add_(
                    0, corner_index.reshape(-1), (barycentric[:, :, None] * pull[:, None]).reshape(-1, 3)
                )
            if d_origins is not None:
                d_origins[part] = -pull.to(d_origins.dtype)
            if d_directions is not None:
                d_directions[part] = (-distance[:, None] * pull).to(d_directions.dtype)
        return (
            None if d_vertices is None else d_vertices.to(vertices.dtype),
            d_origins,
            d_directions,
            None,
            None,
        )


def _parts(count: int) -> list[slice]:
    return [slice(first, first + CHUNK) for first in range(0, count, CHUNK)]


def intersect(
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    face: Tensor,  # (..., K) int32, -1 where absent
    view: View,
) -> tuple[Tensor, Tensor]:  # (..., K, 3), (..., K)
    """Barycentrics and distance of known faces on the rays of `view`, in the dtype of `vertices`, 0 where absent.

    Computed in float64, a chunk at a time. Differentiable once with respect to vertices and to the origins and directions of
    bare rays. A face seen edge-on has a gradient like 1 / cosine of the angle of incidence: weigh or leave out such hits.
    """
    layers = face.shape[-1]
    flat = face.reshape(-1)
    there = torch.nonzero(flat >= 0)[:, 0]
    origins, directions = view.rows(there // layers)
    found, along = _Intersection.apply(vertices, origins, directions, faces, flat[there])
    barycentric = torch.zeros(len(flat), 3, dtype=vertices.dtype, device=vertices.device).index_copy(
        0, there, found
    )
    distance = torch.zeros(len(flat), dtype=vertices.dtype, device=vertices.device).index_copy(
        0, there, along
    )
    return barycentric.reshape(*face.shape, 3), distance.reshape(face.shape)
