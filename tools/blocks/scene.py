"""The scene of a run of mesh primitives: of one training, or joined from blocks while it is rendered."""

from __future__ import annotations

import gc
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...datasets.block import Block
from ...render.cameras import Cameras
from ...render.rasterise import composite_layers, face_normals, fragments
from ..editing.arranged import arranged
from ..editing.arrangement import Arrangement
from ..editing.edit_list import arrangement_of, edits_path
from ..editing.parts import load_part, part_runs, trained_places
from ..training.dnmp_scene import FAINT, PIXELS, PrimitiveScene
from ..training.dnmp_shading import behind_surface, surface_layers
from ..training.run import Run

if TYPE_CHECKING:
    import trimesh

__all__ = ["BlockScene", "scene_of"]

HELD = 2
"""Blocks in memory at once: rendering takes one after another, and a camera that moves goes on with those it had."""


def scene_of(run: Run, now: Arrangement | None = None) -> PrimitiveScene | BlockScene:
    """The scene of a run of method dnmp as its own edits have it, or as `now`. UserError for a run of another method."""
    parts = part_runs(run)
    if "blocks" in run.config:
        return BlockScene(run, parts, now)
    method, trained = load_part(parts[0])
    scene = method.scene()
    if now is None and not edits_path(run).is_file():
        return scene
    return arranged(scene, arrangement_of(run, trained.there) if now is None else now)


class BlockScene:
    """Blocks that were trained apart, as one scene in the source frame. At most `HELD` of them are in memory.

    A picture takes the blocks one after another: each finds its own nearest surfaces, and of all of them the nearest stay. That is what
    rasterising all blocks at once would find, in the memory of one block and one frame. Behind the surfaces is the sky of the block in
    which the camera stands; near a border, of both, by nearness.
    """

    def __init__(self, run: Run, parts: list[Run], now: Arrangement | None = None) -> None:
        self.run, self.parts = run, parts
        trained = [trained_places(part) for part in parts]
        self.first = np.cumsum([0, *(len(each.there) for each in trained)])
        if now is None:
            now = arrangement_of(run, np.concatenate([each.there for each in trained]))
        self.arrangement = now
        self.blocks: list[Block] = [part.cameras_only.block for part in parts]
        self._held: OrderedDict[int, PrimitiveScene] = OrderedDict()
        self._bounds: dict[int, np.ndarray] = {}
        """(2, 3) of each block's primitives, source frame, from when it was first loaded."""

    def part(self, number: int) -> PrimitiveScene:
        """Block `number` with the primitives it brings to the scene; may push another one out of memory."""
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        while len(self._held) >= HELD:
            self._held.popitem(last=False)
            gc.collect()
        scene = arranged(load_part(self.parts[number])[0].scene(), self.arrangement, int(self.first[number]))
        self._held[number] = scene
        if number not in self._bounds:
            corners = scene.primitives.vertices.double().numpy()
            corners = corners if len(corners) else np.full((1, 3), np.nan)
            low, high = corners.min(0), corners.max(0)
            self._bounds[number] = scene.frame.inverse().apply(np.stack([low, high]))
        return scene

    @torch.no_grad()
    def render_view(
        self, cameras: Cameras, index: int, *, background: object = None, normals: bool = False
    ) -> dict[str, Tensor]:
        """As `PrimitiveScene.render_view`."""
        width, height = cameras.size(index)
        camera = cameras[index]
        nearest = _Nearest(width * height, self.run.config["settings"]["layers"], normals)
        place = camera.positions[0].double().numpy()
        block = self.blocks[0]
        away = np.array([float(block.distance(place[None], n)[0]) for n in range(len(self.parts))])
        for number in np.argsort(away, kind="stable"):
            if number in self._bounds and _outside(camera, self._bounds[number]):
                continue
            nearest.add(self.part(int(number)), camera)
        return self._finished(nearest, camera, away, width, height)

    def _finished(self, nearest: _Nearest, camera: Cameras, away: np.ndarray, width: int, height: int):
        weight = _sky_weights(away, self.blocks[0].margin)
        depth, opacity = nearest.z_depth, nearest.opacity
        there = nearest.distance.isfinite()
        blended = composite_layers(nearest.colour, opacity, there)
        left = 1 - blended.opacity
        colour = blended.colour
        directions, origins, seen = _rays(camera)
        behind = torch.zeros_like(colour)
        for number in np.flatnonzero(weight):
            part = self.part(int(number))
            shift = torch.from_numpy(part.frame.translation)
            for first in range(0, len(colour), PIXELS):
                rows = slice(first, first + PIXELS)
                behind[rows] += float(weight[number]) * behind_surface(
                    part.primitives, left[rows], directions[rows], origins[rows] + shift
                )
        colour = ((colour + left[:, None] * behind) * seen[:, None]).clamp(0, 1)
        total = blended.opacity.clamp_min(1e-6)
        solid = blended.opacity > FAINT
        median = (blended.weights.cumsum(1) > 0.5).float().argmax(1, keepdim=True)
        most = blended.weights.argmax(1, keepdim=True)
        view = {
            "colour": colour,
            "opacity": blended.opacity,
            "z_depth": (blended.weights * depth).sum(1) / total * solid,
            "z_depth_median": depth.gather(1, median)[:, 0] * (blended.opacity > 0.5),
            "primitive": torch.where(solid, nearest.primitive.gather(1, most)[:, 0], -1),
        }
        if nearest.normals is not None:
            mean = (blended.weights[..., None] * nearest.normals).sum(1)
            view["normals"] = torch.nn.functional.normalize(mean, dim=1)
        return {name: value.view(height, width, *value.shape[1:]) for name, value in view.items()}

    def surface_mesh(self, out: str | os.PathLike | None = None) -> trimesh.Trimesh:
        """As `PrimitiveScene.surface_mesh`, over all blocks; each primitive once, from the block that owns it."""
        import trimesh

        from ..mesh.files import check_suffix, write_mesh
        from ..mesh.report import KEY, describe

        if out is not None:
            check_suffix(out)
        meshes = [
            self.part(number).surface_mesh()
            for number in range(len(self.parts))
            if len(self.part(number).ids)
        ]
        mesh = trimesh.util.concatenate(meshes)
        mesh.vertex_attributes["primitive"] = np.concatenate(
            [each.vertex_attributes["primitive"] for each in meshes]
        )
        notes = [note for each in meshes for note in each.metadata[KEY]["notes"]]
        facts = describe(np.asarray(mesh.vertices), np.asarray(mesh.faces)) | {
            "method": "primitives",
            "notes": notes,
        }
        mesh.metadata[KEY] = facts
        if out is not None:
            facts["notes"] += write_mesh(mesh, out)
        return mesh


class _Nearest:
    """The K nearest surfaces of each pixel among the blocks that were added."""

    def __init__(self, pixels: int, layers: int, normals: bool) -> None:
        self.distance = torch.full((pixels, layers), torch.inf)
        self.z_depth, self.opacity = torch.zeros(2, pixels, layers).unbind(0)
        self.colour = torch.zeros(pixels, layers, 3)
        self.primitive = torch.full((pixels, layers), -1)
        self.normals = torch.zeros(pixels, layers, 3) if normals else None

    def add(self, part: PrimitiveScene, camera: Cameras) -> None:
        pixels, layers = self.distance.shape
        scene = part.primitives
        if not len(part.ids):
            return
        local = camera.transformed(part.frame)
        found = fragments(scene.vertices, scene.faces, local, layers, back_faces=False)
        directions, _, _ = _rays(camera)
        for first in range(0, pixels, PIXELS):
            rows = slice(first, first + PIXELS)
            distance = found.distance.flatten(0, 1)[rows]
            face = found.face.flatten(0, 1)[rows]
            # what lies behind the farthest that is kept cannot enter
            face = torch.where(distance < self.distance[rows, -1:], face, -1)
            there = face >= 0
            if not there.any():
                continue
            opacity, colour = surface_layers(
                scene, face, found.barycentric.flatten(0, 1)[rows], directions[rows]
            )
            self._merge(
                rows,
                torch.where(there, distance, torch.inf),
                z_depth=found.z_depth.flatten(0, 1)[rows] * there,
                opacity=opacity,
                colour=colour,
                primitive=torch.where(there, part.ids[(face.long() // 80).clamp_min(0)], -1),
                normals=None if self.normals is None else _normals(part, face),
            )

    def _merge(self, rows: slice, distance: Tensor, **values: Tensor | None) -> None:
        kept = distance.shape[1]
        both = torch.cat([self.distance[rows], distance], 1)
        order = both.argsort(dim=1, stable=True)[:, :kept]
        self.distance[rows] = both.gather(1, order)
        for name, value in values.items():
            if value is None:
                continue
            held = getattr(self, name)
            joined = torch.cat([held[rows], value], 1)
            at = order if joined.ndim == 2 else order[..., None].expand(-1, -1, joined.shape[2])
            held[rows] = joined.gather(1, at)


def _normals(part: PrimitiveScene, face: Tensor) -> Tensor:  # (r, K, 3) source frame
    scene = part.primitives
    front = face_normals(scene.vertices, scene.faces[face.clamp_min(0).reshape(-1).long()])
    return torch.nn.functional.normalize(front, dim=1).view(*face.shape, 3)


def _rays(camera: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Directions and origins of all pixels in the source frame, and which have one."""
    rays = camera.image_rays(0)
    seen = rays.directions.isfinite().all(1)
    directions = torch.where(seen[:, None], rays.directions, torch.tensor([0.0, 0.0, 1.0]))
    return directions.float(), rays.origins.double(), seen


def _sky_weights(
    away: np.ndarray,  # (b,) of the camera from each box
    margin: float,
) -> np.ndarray:
    """Shares of the blocks' skies, adding to 1: all of the nearest one's, passing over to the next within the margin of a border."""
    over = away - away.min()
    weight = np.where(over == 0, 1.0, np.clip(1 - over / max(margin, 1e-9), 0, 1))
    weight[np.argsort(weight, kind="stable")[:-2]] = 0.0  # of two at most, so that memory does not grow
    return weight / weight.sum()


def _outside(camera: Cameras, bounds: np.ndarray) -> bool:
    """Whether a box is surely not in a picture; cameras with distortion are not judged."""
    if not np.isfinite(bounds).all():
        return True
    if camera.models[0] not in ("PINHOLE", "SIMPLE_PINHOLE"):
        return False
    corners = np.stack(np.meshgrid(*bounds.T, indexing="ij"), -1).reshape(-1, 3)
    pose = camera.camera_to_world[0].double().numpy()
    local = (corners - pose[:3, 3]) @ pose[:3, :3]
    if (local[:, 2] <= 0).all():
        return True
    width, height = camera.size(0)
    edges = torch.tensor([[0.0, height / 2], [width, height / 2], [width / 2, 0], [width / 2, height]])
    ways = camera.unproject(edges.double(), torch.tensor([0])).numpy()
    slopes = (
        local[:, 0] < ways[0, 0] / ways[0, 2] * local[:, 2],
        local[:, 0] > ways[1, 0] / ways[1, 2] * local[:, 2],
        local[:, 1] < ways[2, 1] / ways[2, 2] * local[:, 2],
        local[:, 1] > ways[3, 1] / ways[3, 2] * local[:, 2],
    )
    # beyond one side of the pyramid with all corners; the sides pass through the camera, so this holds for corners behind it too
    return any(side.all() for side in slopes)
