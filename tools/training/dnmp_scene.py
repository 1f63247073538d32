"""A trained scene of mesh primitives in the source frame: what rendering, evaluation and mesh export call."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.similarity import Similarity

from ...render.cameras import Cameras
from ...render.rasterise import face_normals, fragments
from .dnmp_shading import Primitives, look_at_points, shade

if TYPE_CHECKING:
    import trimesh

__all__ = ["PrimitiveScene"]

PIXELS = 1 << 14
"""Shaded at once: bounds the memory of a frame whatever its size and layers."""
FAINT = 0.05
"""A primitive that is nowhere more opaque than this is not part of the exported surface."""


class PrimitiveScene:
    """Primitives, their appearance, and the similarity (a shift) from the source frame to theirs."""

    def __init__(
        self,
        primitives: Primitives,
        frame: Similarity,
        layers: int,
        positions: Tensor,
        ids: Tensor | None = None,
    ) -> None:
        self.primitives, self.frame, self.layers = primitives, frame, layers
        self.ids = torch.arange(len(primitives.vertices) // 42) if ids is None else ids
        """(n,) int64 numbers of the primitives, which stay theirs when others are deleted."""
        self.positions = positions
        """(c, 3) where the training cameras stand, frame of the primitives: the mesh is coloured as seen from the nearest."""

    @torch.no_grad()
    def render_view(
        self, cameras: Cameras, index: int, *, background: object = None, normals: bool = False
    ) -> dict[str, Tensor]:
        """As `FieldScene.render_view`; the sky is part of the scene, so `background` changes nothing. opacity is that of the primitives,
        "primitive" (h, w) int64 the number of the one that weighs most, -1 for none; z_depth the mean over layers by their weight, z_depth_median that of the layer at which half of a ray is stopped."""
        width, height = cameras.size(index)
        camera = cameras[index].transformed(self.frame)
        scene = self.primitives
        found = fragments(scene.vertices, scene.faces, camera, self.layers, back_faces=False)
        face, weight = found.face.flatten(0, 1), found.barycentric.flatten(0, 1)
        depth, rays = found.z_depth.flatten(0, 1), camera.image_rays(0)
        directions, origins = rays.directions, rays.origins
        seen = directions.isfinite().all(1)
        directions = torch.where(seen[:, None], directions, torch.tensor([0.0, 0.0, 1.0]))
        parts: dict[str, list[Tensor]] = {
            "colour": [],
            "opacity": [],
            "z_depth": [],
            "z_depth_median": [],
            "primitive": [],
            "normals": [],
        }
        for first in range(0, len(face), PIXELS):
            part = slice(first, first + PIXELS)
            shaded = shade(scene, face[part], weight[part], directions[part], origins[part])
            total = shaded.opacity.clamp_min(1e-6)
            median = (shaded.weights.cumsum(1) > 0.5).float().argmax(1, keepdim=True)
            parts["colour"].append(shaded.colour * seen[part][:, None])
            parts["opacity"].append(shaded.opacity)
            there = shaded.opacity > FAINT
            parts["z_depth"].append(((shaded.weights * depth[part]).sum(1) / total) * there)
            parts["z_depth_median"].append(depth[part].gather(1, median)[:, 0] * (shaded.opacity > 0.5))
            most = face[part].gather(1, shaded.weights.argmax(1, keepdim=True))[:, 0].long() // 80
            parts["primitive"].append(torch.where(there, self.ids[most.clamp_min(0)], -1))
            if normals:
                front = face_normals(scene.vertices, scene.faces[face[part].clamp_min(0).reshape(-1).long()])
                front = torch.nn.functional.normalize(front, dim=1).view(*shaded.weights.shape, 3)
                mean = (shaded.weights[..., None] * front).sum(1)
                parts["normals"].append(torch.nn.functional.normalize(mean, dim=1))
        joined = {name: torch.cat(values) for name, values in parts.items() if values}
        joined["colour"] = joined["colour"].clamp(0, 1)
        return {name: value.view(height, width, *value.shape[1:]) for name, value in joined.items()}

    @torch.no_grad()
    def surface_mesh(self, out: str | os.PathLike | None = None) -> trimesh.Trimesh:
        """All primitives as one mesh in the source frame, coloured at the vertices as seen from the nearest training camera; those that are
        transparent all over are left out. `vertex_attributes["primitive"]` numbers them, also in a .ply; written to `out` if given."""
        import trimesh

        from ..mesh.files import check_suffix, write_mesh
        from ..mesh.report import KEY, describe

        if out is not None:
            check_suffix(out)
        scene = self.primitives
        count = len(scene.vertices) // 42
        opacities, colours = [], []
        for first in range(0, len(scene.vertices), PIXELS):
            points = scene.vertices[first : first + PIXELS]
            nearest = self.positions[torch.cdist(points, self.positions).argmin(1)]
            directions = torch.nn.functional.normalize(points - nearest, dim=1)
            corner = torch.arange(first, first + len(points))
            weights = torch.tensor([1.0, 0.0, 0.0]).expand(len(points), 3).contiguous()
            seen = look_at_points(
                scene,
                corner[:, None].expand(-1, 3).contiguous(),
                weights,
                directions,
                torch.arange(len(points)).int(),
            )
            opacities.append(seen[0])
            colours.append(seen[1])
        kept = torch.cat(opacities).view(count, 42).amax(1) > FAINT
        number = torch.nonzero(kept)[:, 0]
        faces = scene.faces[:80].long()[None] + 42 * torch.arange(len(number))[:, None, None]
        vertices = self.frame.inverse().apply(
            scene.vertices.view(count, 42, 3)[kept].reshape(-1, 3).double().numpy()
        )
        rgb = (
            (torch.cat(colours).view(count, 42, 3)[kept].reshape(-1, 3) * 255).round().to(torch.uint8).numpy()
        )
        mesh = trimesh.Trimesh(
            vertices,
            faces.reshape(-1, 3).numpy(),
            vertex_colors=np.column_stack([rgb, np.full(len(rgb), 255, np.uint8)]),
            process=False,
        )
        mesh.vertex_attributes["primitive"] = self.ids[number].repeat_interleave(42).int().numpy()
        notes = [f"{count - len(number)} transparent primitives left out"] if len(number) < count else []
        facts = describe(np.asarray(mesh.vertices), np.asarray(mesh.faces)) | {
            "method": "primitives",
            "notes": notes,
        }
        mesh.metadata[KEY] = facts
        if out is not None:
            facts["notes"] += write_mesh(mesh, out)
        return mesh
