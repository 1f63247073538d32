"""From the primitives a ray meets to its colour."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...fields.primitives import PrimitiveAppearance
from ...render.rasterise import composite_layers
from ..editing.placed import Placed
from .dnmp_far import OPEN, FarField

__all__ = ["Primitives", "Shading", "behind_surface", "look_at_points", "shade", "surface_layers"]


class Primitives(NamedTuple):
    """A scene whose shapes are known."""

    vertices: Tensor
    """(42 n, 3)."""
    faces: Tensor
    """(80 n, 3) int32."""
    appearance: PrimitiveAppearance
    half_side: float
    """Of the cube about the origin that the hash grid covers; what lies outside reads its border."""
    far: FarField | None = None
    """What the rays meet that the primitives leave open; None: the sky alone."""
    placed: Placed | None = None
    """Where the primitives of an edited scene come from; None: a scene as it was trained."""


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
    """Of points on the surface. Differentiable with respect to the appearance, not to vertices.

    Without gradients a point's result hangs, bit for bit, on that point and its direction alone.
    """
    vertices, number = scene.vertices, corners[:, 0] // 42
    if scene.placed is not None:  # the appearance is read where the primitive was when it was learned
        vertices = scene.placed.rest
        directions, ray = scene.placed.turned(number, directions, ray)
        corners = corners % 42 + 42 * scene.placed.look[number, None]
    positions = (vertices[corners] * weights[..., None]).sum(1)
    inside = (0.5 + positions / (2 * scene.half_side)).clamp(0, 1)
    features = None
    if scene.appearance.vertex is not None:
        features = torch.nn.functional.embedding_bag(
            corners, scene.appearance.vertex, per_sample_weights=weights, mode="sum"
        )
    opacity, colour = scene.appearance.surface(features, inside, directions, ray)
    return opacity, colour if scene.placed is None else scene.placed.tinted(number, colour)


def shade(
    scene: Primitives,
    face: Tensor,  # (r, K) int32, -1 where absent
    barycentric: Tensor,  # (r, K, 3)
    directions: Tensor,  # (r, 3) unit
    origins: Tensor | None = None,  # (r, 3) for the far field; None: leave it out
    generator: torch.Generator | None = None,  # in training
) -> Shading:
    """Layers blended front to back over what is behind; absent layers let everything through. Differentiable as `look_at_points` is."""
    opacity, colour = surface_layers(scene, face, barycentric, directions)
    blended = composite_layers(colour, opacity, face >= 0)
    left = 1 - blended.opacity
    behind = behind_surface(scene, left, directions, origins, generator)
    return Shading(blended.colour + left[:, None] * behind, blended.opacity, blended.weights)


def surface_layers(
    scene: Primitives,
    face: Tensor,  # (r, K) int32, -1 where absent
    barycentric: Tensor,  # (r, K, 3)
    directions: Tensor,  # (r, 3) unit
) -> tuple[Tensor, Tensor]:  # (r, K) opacity, 0 where absent; (r, K, 3) sRGB
    """What `shade` blends."""
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
    return opacity.view(-1, layers), colour.view(-1, layers, 3)


def behind_surface(
    scene: Primitives,
    left: Tensor,  # (r,) light that the primitives let through
    directions: Tensor,  # (r, 3) unit
    origins: Tensor | None = None,  # (r, 3) for the far field; None: leave it out
    generator: torch.Generator | None = None,  # in training
) -> Tensor:  # (r, 3) sRGB
    """The far field where the primitives leave much open, and the sky."""
    behind = scene.appearance.sky(directions)
    if scene.far is not None and origins is not None:
        open_rays = torch.nonzero(left.detach() > OPEN)[:, 0]
        if len(open_rays):
            rays = origins[open_rays], directions[open_rays]
            far, far_opacity = (
                scene.far.render(*rays) if generator is None else scene.far.train(*rays, generator)
            )
            behind = behind.index_copy(0, open_rays, far + (1 - far_opacity)[:, None] * behind[open_rays])
    return behind
