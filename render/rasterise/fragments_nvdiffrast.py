"""Fragments by nvdiffrast's hardware-like rasteriser: frames of undistorted cameras on CUDA, chosen by name only.

Layers come by depth peeling, one pass each, so surfaces at one depth are merged; depth is compared in float32. Barycentrics and distances are
recomputed from the faces in float64. nvdiffrast's licence allows research and evaluation only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from .interpolation import face_normals
from .intersection import intersect
from .view import View

__all__ = ["visible"]

DEPTH_RANGE = 1e5
"""Farthest over nearest depth of the clipping planes, where no `near` says more."""
MOST_PASSES = 256


def visible(
    vertices: Tensor, faces: Tensor, view: View, layers: int, near: float, far: float, back_faces: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `fragments.fragments`: face (m, K) int32, barycentric (m, K, 3), distance (m, K) float32."""
    if not view.is_pinhole_frame:
        raise UserError(
            "rasterising: back end 'nvdiffrast' draws whole frames of undistorted cameras; use 'warp' for other rays"
        )
    dr = require("nvdiffrast.torch", None, "the back end 'nvdiffrast'")
    height, width = view.shape
    shape = height * width, layers
    face = torch.full(shape, -1, dtype=torch.int32, device=vertices.device)
    if len(faces):
        clip, padded = _clip_space(vertices, view, near)
        filled = torch.zeros(height * width, dtype=torch.int64, device=vertices.device)
        directions = view.rays[1]
        with dr.DepthPeeler(
            dr.RasterizeCudaContext(vertices.device), clip[None], faces.int().contiguous(), padded
        ) as peeler:
            for _ in range(MOST_PASSES):
                found = peeler.rasterize_next_layer()[0][0, :height, :width, 3].reshape(-1).int() - 1
                if not bool((found >= 0).any()):
                    break
                distance = intersect(vertices, faces, found[:, None], view)[1][:, 0]
                counts = (found >= 0) & (distance >= near) & (distance <= far) & (filled < layers)
                if not back_faces:
                    normal = face_normals(vertices, faces[found.clamp_min(0).long()]).double()
                    counts &= (normal * directions).sum(1) < 0
                pixel = torch.nonzero(counts)[:, 0]
                face[pixel, filled[pixel]] = found[pixel]
                filled[pixel] += 1
                if bool((filled == layers).all()):
                    break
    barycentric, distance = intersect(vertices, faces, face, view)
    return face, barycentric.float(), distance.float()


def _clip_space(vertices: Tensor, view: View, near: float) -> tuple[Tensor, list[int]]:
    """Homogeneous clip coordinates (v, 4), with row 0 of the image at y = -1, and the size they are for.

    nvdiffrast wants sides that are multiples of 8: the image is the upper left part of one.
    """
    height, width = view.shape
    fx, fy, cx, cy = view.camera.lenses.table[0, :4]
    pose = view.camera.camera_to_world[0]
    x, y, z = ((vertices.double() - pose[:3, 3]) @ pose[:3, :3]).unbind(1)
    padded = [-(-height // 8) * 8, -(-width // 8) * 8]
    farthest = float(z.max().clamp_min(1e-30)) * 1.01
    nearest = max(near * float(view.z_per_distance.min()), farthest / DEPTH_RANGE)
    depth = (farthest + nearest) / (farthest - nearest) * z - 2 * farthest * nearest / (farthest - nearest)
    clip = torch.stack(
        [2 * (fx * x + cx * z) / padded[1] - z, 2 * (fy * y + cy * z) / padded[0] - z, depth, z], 1
    )
    return clip.float().contiguous(), padded
