"""Multi-view captures of a moving mesh with ground truth: rendered by our rasteriser, written in nerfstudio's layout."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras
from ...render.cameras.paths import look_at
from ...render.rasterise.picture import picture
from ..writers import write_transforms_json

__all__ = ["write_mesh_capture"]


def write_mesh_capture(
    folder: str | Path,
    vertices: np.ndarray,  # (t, v, 3) source unit, one mesh per pose
    faces: np.ndarray,  # (f, 3)
    colours: np.ndarray,  # (v, 3) in [0, 1]
    *,
    test_poses: tuple[int, ...],  # poses that only the test split shows
    views: int,  # of each pose
    test_views: int,  # of each training pose, also held out
    size: int,  # pixels
    generator: np.random.Generator,
    field_of_view: float = 0.6,  # radians
) -> None:
    """Straight-alpha PNGs with the light at the camera, so that shade depends on the direction of sight alone; cameras on a sphere around each pose, all different.

    `time` of a frame is pose / (t - 1). Split "train": `views` of each training pose; "test": `test_views` of each training pose
    and `views` of each test pose. Raises `UserError` for an empty folder name or
    fewer than two poses.
    """
    count = len(vertices)
    if count < 2 or not set(test_poses) < set(range(count)):
        raise UserError(
            f"a moving capture needs two poses or more, and test poses below {count}: found {count}, {test_poses}"
        )
    everything = vertices.reshape(-1, 3)
    low, high = everything.min(0), everything.max(0)
    poses, times, owner, held = [], [], [], []
    focal = size / 2 / math.tan(field_of_view / 2)
    for number in range(count):
        own = vertices[number]
        middle = (own.min(0) + own.max(0)) / 2
        reach = np.linalg.norm(own - middle, axis=1).max()
        total = views + (0 if number in test_poses else test_views)
        for place, way in enumerate(_sphere(total, generator)):
            distance = reach / math.sin(field_of_view / 2) * generator.uniform(0.98, 1.08)
            up = np.array([0.0, 1.0, 0.0]) if abs(way[1]) < 0.9 else np.array([0.0, 0.0, 1.0])
            poses.append(look_at(middle + way * distance, middle, up))
            times.append(number / (count - 1))
            owner.append(number)
            held.append(number in test_poses or place % total >= views)
    order = np.argsort(np.array(held), kind="stable")
    poses = [poses[i] for i in order]
    times, owner, held = (np.array(values)[order] for values in (times, owner, held))
    cameras = Cameras.pinhole(np.stack(poses), focal, size, size)
    colour = torch.from_numpy(np.asarray(colours, np.float32))
    triangles = torch.from_numpy(np.asarray(faces, np.int64))
    images, names = [], []
    for index in range(len(cameras)):
        mesh = torch.from_numpy(vertices[owner[index]]).float()
        black, white = (
            picture(
                mesh,
                triangles,
                cameras[index : index + 1],
                colours=colour,
                background=(shade,) * 3,
                smooth=True,
                samples=3,
                light=None,
            )
            for shade in (0.0, 1.0)
        )
        alpha = (1 - (white - black).mean(-1, keepdim=True)).clamp(0, 1)
        straight = torch.where(alpha > 1e-3, black / alpha.clamp_min(1e-3), torch.zeros_like(black))
        rgba = torch.cat((straight, alpha), -1).clamp(0, 1)
        images.append((rgba.numpy() * 255 + 0.5).astype(np.uint8))
        names.append(f"images/pose{owner[index]:03d}_{index:04d}.png")
    centre, half = (low + high) / 2, float((high - low).max()) * 0.55
    write_transforms_json(
        folder,
        cameras,
        names,
        images=images,
        splits={"train": np.flatnonzero(~held).tolist(), "test": np.flatnonzero(held).tolist()},
        times=times.tolist(),
        extra={"aabb_scale": 1, "aabb": [(centre - half).tolist(), (centre + half).tolist()]},
    )


def _sphere(count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, 3) directions: a Fibonacci spiral turned at random, in random order."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (1 + np.sqrt(5)) * np.arange(count) + generator.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    return generator.permutation(np.stack((flat * np.cos(angle), height, flat * np.sin(angle)), 1))
