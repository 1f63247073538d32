"""Pictures of posed models."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import Tensor

from ...fields.articulated.model_data import ModelData
from ...render.cameras import Cameras
from ...render.cameras.paths import look_at
from ...render.rasterise.picture import picture, write_picture
from ..movie import movie
from .posed_mesh import posed_vertices
from .result import HandResult

__all__ = ["SKIN", "draw", "draw_video", "part_colours", "view_of"]

SKIN = (0.87, 0.68, 0.58)


def view_of(
    vertices: np.ndarray,  # (..., 3) everything that is to be seen
    size: int,
    azimuth: float,  # degrees, 0 from +z, 90 from +x
    elevation: float,  # degrees, 90 from above
    field_of_view: float = 0.5,  # radians
) -> Cameras:
    """A camera that looks at the middle of the points and sees all of them."""
    points = vertices.reshape(-1, 3)
    middle = (points.min(0) + points.max(0)) / 2
    reach = np.linalg.norm(points - middle, axis=1).max()
    a, e = math.radians(azimuth), math.radians(elevation)
    away = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    up = np.array([0.0, 1.0, 0.0]) if abs(elevation) < 89 else np.array([-math.sin(a), 0, -math.cos(a)])
    position = middle + away * reach / math.sin(field_of_view / 2)
    pose = look_at(position, middle, up)
    return Cameras.pinhole(pose, size / 2 / math.tan(field_of_view / 2), size, size)


def part_colours(data: ModelData) -> np.ndarray:
    """(v, 3): vertices coloured by the joints that move them, blended by weight."""
    j = len(data.parents)
    hue = (np.arange(j) * 0.61803) % 1.0
    palette = 0.5 + 0.35 * np.cos(2 * np.pi * (hue[:, None] - np.array([0, 1 / 3, 2 / 3])))
    return data.weights @ palette


def _camera(
    data: ModelData, vertices: np.ndarray, size: int, azimuth: float | None, elevation: float | None
) -> Cameras:
    body = data.layout in ("smpl", "smplh", "smplx")
    return view_of(
        vertices,
        size,
        (30.0 if body else -60.0) if azimuth is None else azimuth,
        (10.0 if body else 50.0) if elevation is None else elevation,
    )


def _image(data: ModelData, vertices: np.ndarray, camera: Cameras, style: str) -> Tensor:
    colours = part_colours(data) if style == "parts" else np.tile(SKIN, (len(vertices), 1))
    return picture(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(data.faces),
        camera,
        "lambert" if style == "parts" else style,
        colours=torch.from_numpy(colours).float(),
        smooth=True,
    )


def draw(
    path: str | os.PathLike,
    data: ModelData,
    result: HandResult,
    *,
    style: str = "lambert",
    size: int = 640,
    azimuth: float | None = None,
    elevation: float | None = None,
    frame: int = 0,
) -> None:
    """One frame as a picture."""
    vertices = posed_vertices(data, result)[frame]
    write_picture(path, _image(data, vertices, _camera(data, vertices, size, azimuth, elevation), style))


def draw_video(
    path: str | os.PathLike,
    data: ModelData,
    result: HandResult,
    *,
    turn: int | None = None,
    fps: float | None = None,
    style: str = "lambert",
    size: int = 640,
    azimuth: float | None = None,
    elevation: float | None = None,
) -> None:
    """The result's motion from one side; or, of a single pose or where `turn` is given, one turn around its first frame."""
    frames = posed_vertices(data, result)
    turning = turn is not None or len(frames) == 1
    start = _camera(data, frames, size, azimuth, elevation)
    with movie(path, fps or result.frames_per_second) as write:
        for number in range((turn or 60) if turning else len(frames)):
            camera = start
            if turning:
                angle = (azimuth if azimuth is not None else 30.0) + 360.0 * number / (turn or 60)
                camera = _camera(data, frames[:1], size, angle, elevation)
            image = _image(data, frames[0 if turning else number], camera, style)
            write((image.numpy() * 255 + 0.5).astype(np.uint8))
