"""Pictures of what a fit leaves over: distances to a scan on the surface, keypoints as coloured balls, outlines of masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from ...fields.articulated.model_data import ModelData
from ...render.rasterise import fragments
from ...render.rasterise.picture import picture, write_picture
from .fitting.closest import NearestOnMesh
from .fitting.observation_fit import Fitted
from .fitting.posing import Posing
from .observed.observation import Observation
from .overlay import overlaid, photo_of
from .pictures import view_of

__all__ = ["RAMP", "coloured", "residual_pictures", "write_residuals"]

RAMP = np.array([[232, 236, 241], [253, 212, 120], [236, 112, 56], [165, 15, 60], [73, 0, 62]]) / 255
"""Colours from 0 to the limit; pale is near."""
_UNKNOWN = (0.55, 0.62, 0.70)
_WRONG = (0.05, 0.05, 0.05)
_SIZE = 420


def coloured(values: np.ndarray, limit: float) -> np.ndarray:
    """(..., 3) colours of distances; NaN is blue-grey: nothing was seen there."""
    place = np.clip(np.nan_to_num(values) / limit, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(place.astype(int), len(RAMP) - 2)
    share = (place - low)[..., None]
    return np.where(np.isfinite(values)[..., None], (1 - share) * RAMP[low] + share * RAMP[low + 1], _UNKNOWN)


def residual_pictures(
    data: ModelData, seen: Observation, found: Fitted, frame: int = 0
) -> tuple[list[tuple[str, np.ndarray]], float]:
    """Captions and pictures (h, w, 3) of one frame, and the distance (the fit's unit times its scale) that is darkest."""
    fit = found.fit
    one = fit.state.frames(slice(frame, frame + 1))
    posing = Posing(data, None, len(one.shape))
    vertices = posing(one.shape, one.rotations(), one.translation, jacobian=False).points[
        0, : len(data.template)
    ]
    own = fit.distances[frame] * found.scale
    good = own[np.isfinite(own) & fit.inliers[frame]]
    limit = float(np.ceil(max(3.0, np.percentile(good, 98)))) if good.size else 3.0
    pictures = []
    if seen.masks is not None:
        pictures += _masks(data, seen, vertices, frame)
    elif seen.scans is not None:
        pictures += _surface(data, seen, vertices, frame, limit)
    elif seen.points is not None:
        pictures += _balls(data, seen, vertices, own, fit.inliers[frame], frame, limit)
    if seen.cameras is not None and seen.masks is None:
        for view, photo in list(enumerate(seen.photos))[:4]:
            camera = seen.cameras[view]
            times = max(1, _SIZE // min(camera.size(0)))
            camera = camera.resized(*(times * side for side in camera.size(0)))
            pictures.append(
                (
                    f"over the photo of view {view}",
                    overlaid(vertices, data.faces, camera, photo_of(Path(photo), camera)),
                )
            )
        if not seen.photos and seen.pixels is not None:
            pictures += _pixels(data, seen, vertices, frame)
    return pictures, limit


def write_residuals(path: str | os.PathLike, data: ModelData, seen: Observation, found: Fitted) -> float:
    """The pictures side by side as one file; says which distance is darkest."""
    pictures, limit = residual_pictures(data, seen, found)
    height = min(image.shape[0] for _, image in pictures)
    write_picture(path, torch.from_numpy(np.concatenate([image[:height] for _, image in pictures], 1)))
    return limit


def _views(data: ModelData, points: np.ndarray) -> list[tuple[str, object]]:
    """Cameras that face the palm's side and the back of what the points fill, along their thinnest direction."""
    thin = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][2]
    azimuth, elevation = (
        np.degrees(np.arctan2(thin[0], thin[2])),
        np.degrees(np.arcsin(np.clip(thin[1], -1, 1))),
    )
    return [
        (name, view_of(points, _SIZE, azimuth + turn, elevation * sign))
        for name, turn, sign in (("one side", 0.0, 1.0), ("the other side", 180.0, -1.0))
    ]


def _surface(data: ModelData, seen: Observation, vertices: np.ndarray, frame: int, limit: float) -> list:
    scan = seen.scans[frame]
    points = scan.points[:: max(1, len(scan.points) // 6000)]
    distance = NearestOnMesh(data.faces, len(vertices), around=6)(vertices, points)[2] * 1e3
    near, which = cKDTree(points).query(vertices, k=min(6, len(points)))
    values = np.where(near[:, 0] < 0.008, distance[which].mean(1), np.nan)
    return [
        (f"distance from the scan, {name}", _drawn(vertices, data.faces, camera, coloured(values, limit)))
        for name, camera in _views(data, vertices)
    ]


def _balls(
    data: ModelData,
    seen: Observation,
    vertices: np.ndarray,
    own: np.ndarray,
    good: np.ndarray,
    frame: int,
    limit: float,
) -> list:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=2, radius=0.0035 * (1.0 if data.layout == "mano" else 6.0))
    there = np.isfinite(seen.points[frame]).all(-1)
    colours = np.where(good[:, None], coloured(own, limit), _WRONG)
    places = seen.points[frame][there]
    balls = (places[:, None] + ball.vertices).reshape(-1, 3)
    faces = (np.arange(len(places))[:, None, None] * len(ball.vertices) + ball.faces).reshape(-1, 3)
    shades = np.repeat(colours[there], len(ball.vertices), 0)
    pictures = []
    for name, camera in _views(data, np.concatenate((vertices, places))):
        body = _drawn(vertices, data.faces, camera, np.tile(_UNKNOWN, (len(vertices), 1)))
        front = picture(
            torch.from_numpy(balls).float(),
            torch.from_numpy(faces),
            camera,
            colours=torch.from_numpy(shades).float(),
            background=torch.from_numpy(0.45 * body + 0.55).float(),
            smooth=True,
        ).numpy()
        pictures.append((f"keypoints and the model behind them, {name}", front))
    return pictures


def _masks(data: ModelData, seen: Observation, vertices: np.ndarray, frame: int) -> list:
    pictures = []
    for view, mask in list(enumerate(seen.masks[frame]))[:4]:
        covered = (
            fragments(torch.from_numpy(vertices), torch.from_numpy(data.faces), seen.cameras[view])
            .mask[..., 0]
            .numpy()
        )
        image = np.ones((*mask.shape, 3), np.float32)
        image[mask & covered] = (0.80, 0.83, 0.87)
        image[mask & ~covered] = (0.13, 0.40, 0.75)
        image[~mask & covered] = (0.85, 0.25, 0.20)
        times = max(1, _SIZE // min(mask.shape))
        pictures.append(
            (
                f"view {view}: blue only in the mask, red only in the model",
                image.repeat(times, 0).repeat(times, 1),
            )
        )
    return pictures


def _pixels(data: ModelData, seen: Observation, vertices: np.ndarray, frame: int) -> list:
    pictures = []
    for view in range(min(len(seen.cameras), 4)):
        width, height = seen.cameras.size(view)
        drawn = overlaid(
            vertices, data.faces, seen.cameras[view], np.ones((height, width, 3), np.float32), opacity=0.5
        )
        radius = max(2, min(width, height) // 120)
        for x, y in seen.pixels[frame, view]:
            if np.isfinite(x):
                rows, columns = (slice(max(0, int(c) - radius), max(0, int(c) + radius + 1)) for c in (y, x))
                drawn[rows, columns] = (0.85, 0.25, 0.20)
        pictures.append((f"view {view}: keypoints (red) over the model", drawn))
    return pictures


def _drawn(vertices: np.ndarray, faces: np.ndarray, camera, colours: np.ndarray) -> np.ndarray:
    return picture(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        camera,
        colours=torch.from_numpy(colours).float(),
        smooth=True,
    ).numpy()
