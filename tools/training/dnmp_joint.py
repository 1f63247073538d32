"""Shapes that photographs move: barycentrics of known faces with gradients to the codes of the primitives that are seen."""

from __future__ import annotations

import torch
from torch import Tensor

from ...fields.primitives import PrimitiveGeometry
from ...render.cameras import Rays
from ...render.rasterise.intersection import intersect
from ...render.rasterise.view import View
from .dnmp_shading import Primitives

__all__ = ["moved"]

GRAZING = 0.15
"""Cosine below which a surface gets no gradient from a ray: it would be larger than what the ray can tell."""


def moved(
    geometry: PrimitiveGeometry,
    scene: Primitives,  # as rasterised; its vertices give those that are not seen
    face: Tensor,  # (r, K) int32, -1 where absent
    rays: Rays,  # r
) -> tuple[Tensor, Tensor]:  # (42 n, 3) vertices, (r, K, 3) barycentrics
    """Both differentiable with respect to codes (or free vertices) and shifts; which face is seen stays as rasterised."""
    there = face >= 0
    owner = torch.unique(scene.faces[face[there].long(), 0].long() // 42)
    if not len(owner):
        return scene.vertices, torch.zeros(*face.shape, 3)
    world = geometry.centres[owner][:, None] + geometry.reach[owner][:, None, None] * geometry.local(owner)
    rows = (42 * owner[:, None] + torch.arange(42)).reshape(-1)
    vertices = scene.vertices.index_copy(0, rows, world.reshape(-1, 3))
    barycentric, _ = intersect(vertices, scene.faces, face, View.of(rays, None, None))
    with torch.no_grad():
        corners = vertices[scene.faces[face.clamp_min(0).long()].long()]
        normal = torch.linalg.cross(
            corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
        )
        cosine = (torch.nn.functional.normalize(normal, dim=-1) * rays.directions[:, None]).sum(-1).abs()
    return vertices, torch.where((cosine > GRAZING)[..., None], barycentric, barycentric.detach())
