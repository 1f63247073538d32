"""Fragments on the CPU: frames of undistorted cameras by the tiled rasteriser, all other rays through a tree."""

from __future__ import annotations

import torch
from torch import Tensor

from .frame_cpu import rasterise_frame
from .tree_cpu import trace_rays
from .view import View

__all__ = ["visible"]

LONGEST_SIDE = 16384
"""Pixels. Boxes are held in 16 bits; a larger frame goes ray by ray."""


def visible(
    vertices: Tensor, faces: Tensor, view: View, layers: int, near: float, far: float, back_faces: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `fragments.fragments`: face (m, K) int32, barycentric (m, K, 3), distance (m, K) float32."""
    if view.is_pinhole_frame and max(view.shape) <= LONGEST_SIDE:
        height, width = view.shape
        found = rasterise_frame(
            vertices.numpy(), faces.numpy(), view.camera.camera_to_world[0].detach().numpy(),
            tuple(view.camera.lenses.table[0, :4].tolist()), width, height, layers, near, far, back_faces,
        )  # fmt: skip
        return tuple(torch.from_numpy(part) for part in found)
    if not len(faces):
        shape = view.count, layers
        return torch.full(shape, -1, dtype=torch.int32), torch.zeros(*shape, 3), torch.zeros(shape)
    origins, directions, _ = (part.detach().contiguous().numpy() for part in view.rays)
    found = trace_rays(vertices.numpy(), faces.numpy(), origins, directions, layers, near, far, back_faces)
    return tuple(torch.from_numpy(part) for part in found)
