"""From the primitives a ray meets to its colour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...fields.primitives import PrimitiveAppearance
from ...render.rasterise import composite_layers

__all__ = ["Primitives", "Shading", "look_at_points", "shade"]


class Primitives(NamedTuple):
    """A scene whose shapes are known."""

    vertices: Tensor
    """(42 n, 3)."""
    faces: Tensor
    """(80 n, 3) int32."""
    appearance: PrimitiveAppearance
    half_side: float
    """Of the cube about the origin that the hash grid covers; what lies outside reads its border."""


class Shading(NamedTuple):
    colour: Tensor
    """(r, 3) sRGB, the sky included."""
    opacity: Tensor
    """(r,) of the primitives."""
    weights: Tensor
    """(r, K) of the layers."""


def look_at_points(
    scene: Primitives,
    corners: Tensor,  # (n, 3) int64 vertices
    weights: Tensor,  # (n, 3) barycentrics
    directions: Tensor,  # (r, 3) unit, looking along
    ray: Tensor,  # (n,) int32, the direction of each point
) -> tuple[Tensor, Tensor]:  # (n,) opacity, (n, 3) sRGB
    """Of points on the surface. Differentiable with respect to the appearance, not to vertices."""
    positions = (scene.vertices[corners] * weights[..., None]).sum(1)
    inside = (0.5 + positions / (2 * scene.half_side)).clamp(0, 1)
    features = None
    if scene.appearance.vertex is not None:
        features = torch.nn.functional.embedding_bag(
            corners, scene.appearance.vertex, per_sample_weights=weights, mode="sum"
        )
    return scene.appearance.surface(features, inside, directions, ray)


def shade(
    scene: Primitives,
    face: Tensor,  # (r, K) int32, -1 where absent
    barycentric: Tensor,  # (r, K, 3)
    directions: Tensor,  # (r, 3) unit
) -> Shading:
    """Layers blended front to back over the sky; absent layers let everything through. Differentiable as `look_at_points` is."""
    layers = face.shape[1]
    flat = face.reshape(-1)
    there = torch.nonzero(flat >= 0)[:, 0]
    opacity = torch.zeros(len(flat))
    colour = torch.zeros(len(flat), 3)
    if len(there):
        corners = scene.faces[flat[there].long()].long()
        ray = (there // layers).int()
        seen = look_at_points(scene, corners, barycentric.reshape(-1, 3)[there], directions, ray)
        opacity, colour = opacity.index_copy(0, there, seen[0]), colour.index_copy(0, there, seen[1])
    blended = composite_layers(colour.view(-1, layers, 3), opacity.view(-1, layers), face >= 0)
    sky = scene.appearance.sky(directions)
    return Shading(blended.colour + (1 - blended.opacity)[:, None] * sky, blended.opacity, blended.weights)
