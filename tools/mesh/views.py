"""Where the model's rendered views see its surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras

__all__ = ["Sightings", "MeshableScene", "cameras_around", "see_surface", "spread"]


class MeshableScene(Protocol):
    """What a mesh is taken from; everything in the source frame and unit."""

    def render_view(
        self, cameras: Cameras, index: int, *, background: object = None, normals: bool = False
    ) -> dict[str, Tensor]:
        """Needs "colour" (h, w, 3), "opacity" (h, w) and "z_depth_median" (h, w), 0 where nothing is."""

    def density(self, points: Tensor) -> Tensor:
        """(n, 3) -> (n,) per source unit."""

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """(n, 3) points, (n, 3) unit directions looking along -> (n, 3) sRGB in [0, 1]."""

    def occupied(self, points: Tensor) -> Tensor:
        """(n, 3) -> (n,) bool, False only where the density is known to be negligible."""

    def core_box(self) -> np.ndarray:
        """(2, 3): what to mesh when nobody says otherwise."""


class Sightings(NamedTuple):
    """Rays that end on the surface: at the distance where transmittance falls to one half."""

    origins: np.ndarray  # (n, 3) float64, source frame
    directions: np.ndarray  # (n, 3) float64 unit
    distance: np.ndarray  # (n,) float64 along the ray, source units
    views: int


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` indices evenly spread over range(count)."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def cameras_around(box: np.ndarray, count: int = 16, side: int = 96) -> Cameras:
    """Square pinhole cameras evenly over a sphere, each of which sees the whole `box` (2, 3).

    Their directions form a Fibonacci lattice. For a room these look in through the walls: pass the capture's
    own cameras.
    """
    box = np.asarray(box, np.float64)
    centre, radius = box.mean(0), float(np.linalg.norm(box[1] - box[0])) / 2
    k = np.arange(count) + 0.5
    z, angle = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    outward = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), z])
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, out in zip(poses, outward):
        forward = -out
        right = np.cross(forward, [0.0, 0.0, 1.0] if abs(out[2]) < 0.95 else [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = centre + 2.5 * radius * out
    focal = side / 2 / np.tan(np.arcsin(1 / 2.5)) * 0.98
    return Cameras.pinhole(torch.from_numpy(poses), focal, side, side)


def see_surface(
    scene: MeshableScene,
    cameras: Cameras,
    box: np.ndarray,
    views: int = 12,
    side: int = 96,
    progress: Callable[[float], None] | None = None,
) -> Sightings:
    """Renders a few small views; keeps the rays of at least half opacity whose surface point lies in `box`
    (2, 3).

    Each view is reduced so that its longer side has at most `side` pixels. Raises UserError when no ray is
    left.
    """
    chosen = spread(len(cameras), views)
    origins, directions, distances = [], [], []
    for done, index in enumerate(chosen):
        camera = cameras[int(index)]
        width, height = (int(v) for v in camera.sizes[0])
        scale = min(1.0, side / max(width, height))
        camera = camera.resized(max(1, round(width * scale)), max(1, round(height * scale)))
        with torch.no_grad():
            view = scene.render_view(camera, 0)
        rays = camera.image_rays(0)
        z_depth = view["z_depth_median"].reshape(-1).cpu().double()
        solid = ((view["opacity"].reshape(-1).cpu() >= 0.5) & (z_depth > 0)).numpy()
        along = (z_depth / rays.z_per_distance.cpu().double()).numpy()
        start, ahead = rays.origins.cpu().double().numpy(), rays.directions.cpu().double().numpy()
        point = start + along[:, None] * ahead
        solid &= ((point >= box[0]) & (point <= box[1])).all(1)
        origins.append(start[solid])
        directions.append(ahead[solid])
        distances.append(along[solid])
        if progress is not None:
            progress((done + 1) / len(chosen))
    result = Sightings(*(np.concatenate(part) for part in (origins, directions, distances)), len(chosen))
    if not len(result.distance):
        raise UserError(
            f"no surface: none of {len(chosen)} rendered views reaches opacity 0.5 inside the mesh box "
            f"{np.round(box[0], 4).tolist()} to {np.round(box[1], 4).tolist()}; "
            "train longer, check the box, or give a level"
        )
    return result
