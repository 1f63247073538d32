"""A synthetic scene with exact ground truth: pictures, depths, normals and the true surface, in its source
frame.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from ...render.cameras import Cameras
from . import raycast
from .materials import linear_to_srgb, material_tables
from .shapes import Body, shape_tables
from .still_life import still_life

__all__ = ["SyntheticScene"]

# A turn, a scale and a shift, so that a result that leaves in a wrong frame is seen to.
_TO_SOURCE = Similarity(
    0.8,
    np.array([[math.cos(0.3), -math.sin(0.3), 0.0], [math.sin(0.3), math.cos(0.3), 0.0], [0.0, 0.0, 1.0]]),
    np.array([0.3, -0.2, 0.5]),
)
_FIELD_OF_VIEW = math.radians(45.0)
_MOST_CROSSINGS = 32


class SyntheticScene:
    """Bodies made of implicit shapes, in metres, z up; by default the bundled still life.

    Every array that goes in or out is in the source frame: `to_source` of the scene's own axes. Points and
    results are numpy, float64 unless a comment says otherwise. Nothing here is differentiable.
    """

    def __init__(self, bodies: tuple[Body, ...] | None = None, to_source: Similarity = _TO_SOURCE):
        bodies = still_life() if bodies is None else tuple(bodies)
        self.bodies = bodies
        self.to_source = to_source
        self._shapes = shape_tables(bodies)
        self._materials = material_tables([body.material for body in bodies])

    @property
    def centre(self) -> np.ndarray:
        """(3,) middle of the cube that holds the scene."""
        return self.to_source.apply(np.zeros(3))

    @property
    def half_side(self) -> float:
        """Half the side of that cube, which is parallel to the source axes; its side is the scene's size."""
        return float(self.to_source.scale)

    @cached_property
    def _to_scene(self) -> Similarity:
        return self.to_source.inverse()

    def signed_distance(self, points: np.ndarray) -> np.ndarray:  # (n, 3) -> (n,)
        """Implicit function of the true surface, negative inside; its Lipschitz constant is 1.

        The exact distance outside, except near smooth blends, where it is a lower bound; inside always a
        lower bound in size. For the distance itself see `surface_distance`.
        """
        return self.to_source.scale * raycast.distances(self._shapes, self._local(points))[0]

    def closest_points(self, points: np.ndarray) -> np.ndarray:  # (n, 3) -> (n, 3)
        """Points of the true surface: each given one moved along the gradient, by Newton's method.

        For points near the surface the closest one to first order.
        """
        local = self._local(points)
        for _ in range(12):
            distance, body = raycast.distances(self._shapes, local)
            gradient = raycast.gradients(self._shapes, local, body)
            square = np.maximum((gradient**2).sum(1), 1e-2)
            local = local - (distance / square)[:, None] * gradient
        return self.to_source.apply(local)

    def surface_distance(self, points: np.ndarray) -> np.ndarray:  # (n, 3) -> (n,)
        """Unsigned distance to the true surface: that to `closest_points`, an upper bound, exact in the limit."""
        points = np.asarray(points, np.float64)
        return np.linalg.norm(points - self.closest_points(points), axis=1)

    def normals(self, points: np.ndarray) -> np.ndarray:  # (n, 3) -> (n, 3)
        """Outward unit normals at surface points."""
        local = self._local(points)
        gradient = raycast.gradients(self._shapes, local, raycast.distances(self._shapes, local)[1])
        return self.to_source.rotate(_unit(gradient))

    def colour(
        self,
        points: np.ndarray,  # (n, 3) on the surface
        normals: np.ndarray,  # (n, 3) unit, outwards
        directions: np.ndarray,  # (n, 3) unit, looking along
    ) -> np.ndarray:
        """sRGB in [0, 1], (n, 3), of surface points as seen along directions."""
        local = self._local(points)
        body = raycast.distances(self._shapes, local)[1]
        linear = raycast.shade_points(
            self._shapes, self._materials, body, local, self._turned(normals), self._turned(directions)
        )
        return linear_to_srgb(linear)

    def render(
        self,
        cameras: Cameras,
        index: int,
        *,
        samples: int = 2,
        geometry: bool = True,
    ) -> dict[str, np.ndarray]:
        """One view, float32.

        "colour" (h, w, 3): sRGB in [0, 1], not premultiplied by alpha, the mean in linear light of the
        samples that hit, 0 where none does; "alpha" (h, w): share of the samples x samples rays of a pixel
        that hit. With `geometry` also, exact at the pixel's centre and 0 where its ray misses: "z_depth" (h,
        w) in metres and "normals" (h, w, 3), unit.
        """
        if samples < 1:
            raise UserError(f"render: samples per pixel side must be at least 1, got {samples}")
        width, height = cameras.size(index)
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        corner = np.stack([column, row], -1).reshape(-1, 1, 2).astype(np.float64)
        offset = (np.arange(samples) + 0.5) / samples
        offsets = np.stack(np.meshgrid(offset, offset), -1).reshape(1, -1, 2)
        camera = cameras[index].transformed(self._to_scene)

        origins, directions, _ = _rays(camera, corner + offsets)
        seen = np.isfinite(directions).all((1, 2))
        pixels = np.zeros((height * width, 4))
        pixels[seen] = raycast.pixel_colours(
            self._shapes, self._materials, np.ascontiguousarray(origins[seen, 0]), directions[seen]
        )
        pixels = pixels.reshape(height, width, 4)
        view = {
            "colour": linear_to_srgb(pixels[..., :3]).astype(np.float32),
            "alpha": pixels[..., 3].astype(np.float32),
        }
        if geometry:
            origins, directions, z_per_distance = (rays[:, 0] for rays in _rays(camera, corner + 0.5))
            along = np.full(len(origins), np.inf)
            body = np.zeros(len(origins), np.int64)
            seen = np.isfinite(directions).all(1)
            along[seen], body[seen] = raycast.trace(self._shapes, origins[seen], directions[seen])
            hit = np.isfinite(along)
            z_depth, normals = np.zeros(len(hit)), np.zeros((len(hit), 3))
            z_depth[hit] = along[hit] * self.to_source.scale * z_per_distance[hit]
            points = origins[hit] + along[hit, None] * directions[hit]
            normals[hit] = self.to_source.rotate(_unit(raycast.gradients(self._shapes, points, body[hit])))
            view["z_depth"] = z_depth.reshape(height, width).astype(np.float32)
            view["normals"] = normals.reshape(height, width, 3).astype(np.float32)
        return view

    def surface_points(self, count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 3) spread uniformly by area over the true surface, and their normals (n, 3).

        Where random lines, uniform in direction and place, cross a surface, the crossings are uniform by
        area (Cauchy-Crofton formula; Santalo, "Integral geometry and geometric probability", chapter 14),
        thin parts and concavities included.
        """
        found: list[np.ndarray] = []
        total, radius = 0, math.sqrt(3.0)
        while total < count:
            lines = max(count, 256)
            direction = _unit(generator.normal(size=(lines, 3)))
            across = _unit(np.cross(direction, _unit(generator.normal(size=(lines, 3)))))
            place = across * (radius * np.sqrt(generator.random((lines, 1))))
            origin = place - radius * direction
            along, crossed = raycast.crossings(self._shapes, origin, direction, 2 * radius, _MOST_CROSSINGS)
            line, which = np.nonzero(np.arange(_MOST_CROSSINGS) < crossed[:, None])
            found.append(origin[line] + along[line, which][:, None] * direction[line])
            total += len(line)
            if len(found) >= 20 and total < 1e-4 * lines:
                raise UserError(
                    "surface_points: next to none of the scene's surface lies within its unit cube"
                )
        local = np.concatenate(found)
        # The crossings of one line depend on each other: shuffled, any first part is a fair sample.
        local = local[generator.permutation(len(local))[:count]]
        points = self.closest_points(self.to_source.apply(local))
        return points, self.normals(points)

    def visible_surface_points(
        self, count: int, cameras: Cameras, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 3) uniform by area over what at least one camera sees of the surface; normals (n, 3)."""
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        total = 0
        while total < count:
            points, normals = self.surface_points(count, generator)
            seen = self.visible(points, normals, cameras)
            kept.append((points[seen], normals[seen]))
            total += int(seen.sum())
            if len(kept) >= 5 and total < 0.01 * count:
                raise UserError(
                    f"visible_surface_points: the {len(cameras)} cameras see next to nothing of the scene"
                )
        points, normals = (np.concatenate(part)[:count] for part in zip(*kept))
        return points, normals

    def visible(self, points: np.ndarray, normals: np.ndarray, cameras: Cameras) -> np.ndarray:
        """Whether at least one camera sees each surface point, (n,) bool: in its picture, facing it, unhidden."""
        seen = np.zeros(len(points), bool)
        positions = cameras.camera_to_world[:, :3, 3].numpy()
        for camera in range(len(cameras)):
            rest = np.nonzero(~seen)[0]
            towards = positions[camera] - points[rest]
            rest = rest[(towards * normals[rest]).sum(1) > 0]
            index = torch.full((len(rest),), camera)
            pixels, z_depth = cameras.project(torch.from_numpy(points[rest]), index)
            pixels, z_depth = pixels.numpy(), z_depth.numpy()
            width, height = cameras.size(camera)
            inside = (z_depth > 0) & ((pixels > 0) & (pixels < [width, height])).all(1)
            rest = rest[inside]
            eye = np.broadcast_to(self._local(positions[camera : camera + 1]), (len(rest), 3))
            seen[rest] = raycast.seen_from(
                self._shapes, self._local(points[rest]), np.ascontiguousarray(eye), 2e-3
            )
        return seen

    def surface_mesh(self, resolution: int = 192):
        """The true surface as a `trimesh.Trimesh`: marching cubes on the implicit function, vertices then
        moved onto it.

        `resolution` is the number of cells along each side of the scene's cube.
        """
        import trimesh
        from skimage.measure import marching_cubes

        if resolution < 8:
            raise UserError(f"surface_mesh: resolution must be at least 8, got {resolution}")
        axis = np.linspace(-1.0, 1.0, resolution + 1)
        values = np.empty((resolution + 1,) * 3, np.float32)
        for plane, x in zip(values, axis):
            y, z = np.meshgrid(axis, axis, indexing="ij")
            points = np.stack([np.full(y.shape, x), y, z], -1).reshape(-1, 3)
            plane[:] = raycast.distances(self._shapes, points)[0].reshape(plane.shape)
        vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
        vertices = self.closest_points(self.to_source.apply(vertices * (2.0 / resolution) - 1.0))
        return trimesh.Trimesh(vertices, faces, process=False)

    def cameras(self, split: str = "train", *, count: int | None = None, size: int = 200) -> Cameras:
        """Square pinhole cameras all round the scene that look at its middle.

        "train" (60 by default) covers every height from well below the stand to almost overhead; "test" (12)
        winds round between them at other places. The same arguments give the same cameras.
        """
        if split not in ("train", "test"):
            raise UserError(f'synthetic cameras: the splits are "train" and "test", not {split!r}')
        train = split == "train"
        count = (60 if train else 12) if count is None else count
        if count < 1 or size < 8:
            raise UserError(f"synthetic cameras: need at least 1 camera of 8 pixels, got {count} of {size}")
        place = (np.arange(count) + 0.5) / count
        # Equal steps in height are equal areas of the sphere; the golden angle keeps neighbours apart.
        lowest, highest = (-0.72, 0.95) if train else (-0.45, 0.80)
        height = highest + (lowest - highest) * place
        turn = np.arange(count) * math.pi * (3.0 - math.sqrt(5.0)) + (0.0 if train else 0.9)
        generator = np.random.default_rng(7 if train else 8)
        radius = generator.uniform(2.5, 2.9, count)
        across = np.sqrt(1.0 - height**2)
        eyes = radius[:, None] * np.stack([across * np.cos(turn), across * np.sin(turn), height], 1)
        target = np.array([0.0, 0.0, -0.14]) + generator.uniform(-0.05, 0.05, (count, 3))
        poses = np.stack([_look_at(eye, at) for eye, at in zip(eyes, target)])
        focal = 0.5 * size / math.tan(_FIELD_OF_VIEW / 2)
        return Cameras.pinhole(self.to_source.apply_to_poses(poses), focal, size, size)

    def _local(self, points: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._to_scene.apply(points))

    def _turned(self, directions: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self._to_scene.rotate(directions))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) camera-to-world with OpenCV's axes, upright for z up."""
    forward = _unit(target - eye)
    right = _unit(np.cross(forward, [0.0, 0.0, 1.0]))
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, eye], 1)
    return pose


def _rays(
    camera: Cameras,  # one
    pixels: np.ndarray,  # (n, k, 2)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origins (n, k, 3), unit directions (n, k, 3) and z_per_distance (n, k); NaN where the lens sees
    nothing.
    """
    rays = camera.rays(torch.zeros(1, dtype=torch.int64), torch.from_numpy(pixels.reshape(-1, 2)))
    origins, directions, z_per_distance = (part.numpy().astype(np.float64) for part in rays)
    return (
        origins.reshape(*pixels.shape[:2], 3),
        directions.reshape(*pixels.shape[:2], 3),
        z_per_distance.reshape(pixels.shape[:2]),
    )
