"""A street with exact ground truth: colour, z_depth, normals, semantics, and a 64-beam LiDAR that moves as it turns."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...render.cameras import Cameras, Rays
from ...render.rasterise import face_normals, fragments
from .street_materials import MATERIALS, shade_street, sky_colour

__all__ = ["HDL_64", "WIDE", "Street"]

SKY = 255
FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""Rotation of a camera that looks along x: columns are its right, down and forward axes in a world with x ahead, y left, z up."""
CAMERA_HEIGHT, LIDAR_HEIGHT = 1.55, 1.73
HDL_64 = -24.9, 2.0
"""Degrees of the lowest and the highest of 64 beams, as on the cars of KITTI and KITTI-360: most of what the cameras see of houses and trees gets no return."""
WIDE = -25.0, 30.0
"""A scanner that also sees houses to their roofs, which stands in for a cloud from photographs."""


class Street:
    """A road of 80 m along x with kerbs, houses, parked cars, lamp posts and trees; metres, x ahead, y left, z up."""

    def __init__(self, seed: int = 0) -> None:
        parts = _parts(np.random.default_rng(seed))
        offsets = np.cumsum([0, *(len(vertices) for vertices, *_ in parts)])
        self.vertices = torch.from_numpy(np.concatenate([part[0] for part in parts])).double()
        self.faces = torch.from_numpy(np.concatenate([part[1] + o for part, o in zip(parts, offsets)])).int()
        self.material = np.concatenate([np.full(len(part[1]), MATERIALS.index(part[2])) for part in parts])
        self.tint = np.concatenate([np.tile(part[3], (len(part[1]), 1)) for part in parts])
        normals = face_normals(self.vertices, self.faces)
        self.normals = torch.nn.functional.normalize(normals, dim=1).numpy()

    def render(self, cameras: Cameras, index: int, *, samples: int = 2) -> dict[str, np.ndarray]:
        """ "colour" (h, w, 3) float32 sRGB, the mean of samples^2 rays a pixel; exact at pixel centres: "z_depth" (h, w) metres, 0
        for the sky, "normals" (h, w, 3) unit towards the camera, "semantic" (h, w) uint8, 255 for the sky."""
        width, height = cameras.size(index)
        fine = cameras[index].resized(width * samples, height * samples)
        colour = self._look(fine)["colour"].reshape(height, samples, width, samples, 3).mean((1, 3))
        exact = self._look(cameras[index])
        return {"colour": colour.astype(np.float32)} | {
            name: exact[name].reshape(height, width, *exact[name].shape[1:])
            for name in ("z_depth", "normals", "semantic")
        }

    def scan(
        self,
        start: np.ndarray,  # (4, 4) sensor to world half a turn before the frame
        end: np.ndarray,  # (4, 4) half a turn after it
        generator: np.random.Generator,
        *,
        beams: tuple[float, float] = HDL_64,  # degrees of the lowest and the highest
        columns: int = 900,
        noise: float = 0.015,
        dropout: float = 0.1,
        reach: float = 80.0,
    ) -> np.ndarray:
        """One turn of a 64-beam scanner, (n, 4) float32: x ahead, y left, z up in the sensor's frame at the moment of each return
        (so the cloud is curled by the motion), and reflectance. Azimuth atan2(y, x) runs from -pi to pi over the turn.
        """
        from scipy.spatial.transform import Rotation

        azimuth, height = np.meshgrid(
            (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi,
            np.radians(np.linspace(*beams, 64)),
            indexing="ij",
        )
        azimuth, height = azimuth.ravel(), height.ravel()
        local = np.stack(
            [np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)], 1
        )
        share = azimuth / (2 * np.pi) + 0.5
        turn = Rotation.from_matrix(start[:3, :3].T @ end[:3, :3]).as_rotvec()
        turned = Rotation.from_rotvec(share[:, None] * turn).apply(local)
        directions = turned @ start[:3, :3].T
        origins = (1 - share[:, None]) * start[:3, 3] + share[:, None] * end[:3, 3]
        rays = Rays(torch.from_numpy(origins), torch.from_numpy(directions), torch.ones(len(local)))
        found = fragments(self.vertices, self.faces, rays, 1, near=1.0, far=reach)
        distance, face = found.distance[:, 0].numpy(), found.face[:, 0].numpy()
        kept = (face >= 0) & (generator.random(len(face)) > dropout)
        measured = distance[kept] + generator.normal(0, noise, kept.sum())
        reflectance = self.tint[face[kept]].mean(1)
        return np.column_stack([local[kept] * measured[:, None], reflectance]).astype(np.float32)

    def _look(self, camera: Cameras) -> dict[str, np.ndarray]:
        """Of all pixel centres, row-major."""
        found = fragments(self.vertices, self.faces, camera, 1)
        face = found.face.reshape(-1).numpy()
        origins, directions, _ = (part.numpy() for part in found.view.rays)
        hit = np.flatnonzero(face >= 0)
        row = face[hit]
        points = origins[hit] + found.distance.reshape(-1).numpy()[hit, None] * directions[hit]
        normals = np.zeros((len(face), 3), np.float32)
        facing = np.where((self.normals[row] * directions[hit]).sum(1) > 0, -1, 1)
        normals[hit] = self.normals[row] * facing[:, None]
        colour = sky_colour(directions)
        colour[hit] = shade_street(points, normals[hit], directions[hit], self.material[row], self.tint[row])
        semantic = np.full(len(face), SKY, np.uint8)
        semantic[hit] = self.material[row]
        return {
            "colour": colour,
            "z_depth": found.z_depth.reshape(-1).numpy().astype(np.float32),
            "normals": normals,
            "semantic": semantic,
        }


def vehicle_poses(count: int, step: float = 1.0) -> np.ndarray:  # (count, 4, 4)
    """The ground under a car that drives along the street with a slight swerve: x ahead, y left, z up."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for number in range(count):
        x = step * number
        swerve, angle = 0.35 * math.sin(0.16 * x), math.atan(0.35 * 0.16 * math.cos(0.16 * x))
        poses[number, :2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        poses[number, :3, 3] = [x, -1.6 + swerve, 0]
    return poses


def _box(low, high) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    low, high = np.asarray(low, float), np.asarray(high, float)
    made = trimesh.creation.box(extents=high - low)
    return np.array(made.vertices) + (low + high) / 2, np.array(made.faces)


def _column(x: float, y: float, radius: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    made = trimesh.creation.cylinder(radius=radius, height=high - low, sections=16)
    return np.array(made.vertices) + np.array([x, y, (low + high) / 2]), np.array(made.faces)


def _parts(generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray, str, np.ndarray]]:
    """(vertices, faces, material, tint) of each object."""
    import trimesh

    grey = np.array([0.36, 0.36, 0.38])
    parts = [(*_box((-15, -4, -0.3), (85, 4, 0)), "road", grey)]
    for side in (-1, 1):
        near, far = sorted((side * 4.0, side * 7.0))
        parts.append((*_box((-15, near, -0.3), (85, far, 0.15)), "pavement", np.array([0.62, 0.60, 0.57])))
        x = -15.0
        while x < 80:
            width, height, back = (
                generator.uniform(8, 13),
                generator.uniform(7, 13),
                generator.uniform(0, 0.8),
            )
            near, far = sorted((side * (7 + back), side * 16.0))
            warm = np.array([0.62, 0.45, 0.36]) if generator.random() < 0.5 else np.array([0.66, 0.63, 0.55])
            parts.append(
                (
                    *_box((x, near, -0.3), (x + width, far, height)),
                    "facade",
                    warm + generator.uniform(-0.1, 0.1, 3),
                )
            )
            x += width
        for x in np.arange(4 + 5 * (side > 0), 70, 11.0):
            parts.append((*_column(x, side * 4.5, 0.09, 0, 5.5), "pole", np.array([0.45, 0.47, 0.48])))
            at = x + 5.2
            parts.append((*_column(at, side * 5.6, 0.16, 0, 2.6), "trunk", np.array([0.36, 0.27, 0.20])))
            crown = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
            ways = np.array(crown.vertices)
            bumps = 1 + 0.12 * np.sin(5 * ways + generator.uniform(0, 6, 3)).sum(1, keepdims=True)
            leaves = ways * bumps * [1.3, 1.2, 1.5] + [at, side * 5.6, 3.7]
            parts.append((leaves, np.array(crown.faces), "crown", np.array([0.25, 0.42, 0.18])))
        for x in np.arange(8, 70, 7.5):
            if generator.random() < 0.35:
                continue
            x = x + generator.uniform(-0.8, 0.8)
            paint = generator.uniform(0.1, 0.75, 3)
            low, high = sorted((side * 2.05, side * 3.75))
            parts.append((*_box((x, low, 0.22), (x + 4.3, high, 0.9)), "car", paint))
            parts.append((*_box((x + 0.9, low + 0.12, 0.9), (x + 3.6, high - 0.12, 1.45)), "car", paint))
            for wheel in (x + 0.8, x + 3.4):
                parts.append(
                    (*_box((wheel - 0.3, low, 0.0), (wheel + 0.3, high, 0.5)), "car", np.full(3, 0.08))
                )
    parts.append((*_box((85, -16, -0.3), (90, 16, 15)), "facade", np.array([0.60, 0.55, 0.50])))
    return parts
