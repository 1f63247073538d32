"""The colour of a surface point of a radiance field."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .blocks import BATCH
from .settle import from_the_clearest
from .views import MeshableScene, spread

__all__ = ["surface_colours"]

NEAREST_CAMERAS = 4
MOST_CAMERAS = 64
CONE = np.radians(30.0)
SAMPLES = 9


def surface_colours(
    scene: MeshableScene,
    points: np.ndarray,  # (n, 3) source frame
    normals: np.ndarray,  # (n, 3) unit, outward
    reach: float,  # source units
    camera_positions: np.ndarray | None = None,  # (m, 3) source frame
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:  # (n, 3) float32 sRGB in [0, 1]
    """What the field looks like at each point, with highlights averaged out.

    A radiance field's colour means something only where its density is. So a short ray against the normal,
    from +`reach` to -`reach`, first finds the mean place where light stops, and the colour is asked there (a
    mesh vertex in front of the dense part would else take an arbitrary, often black, colour).

    Colour depends on the viewing direction, and directions never trained are arbitrary as well. With
    `camera_positions` (at most 64 of them, evenly chosen) it is the mean over the four cameras that face the
    point most squarely, weighted by that cosine; points that no camera faces, and all points without cameras,
    take the mean over looking straight against the normal (twice) and six directions 30 degrees round it.
    """
    if camera_positions is not None and len(camera_positions):
        camera_positions = np.asarray(camera_positions, np.float64)[
            spread(len(camera_positions), MOST_CAMERAS)
        ]
    else:
        camera_positions = None
    result = np.zeros((len(points), 3), np.float32)
    together = max(1, BATCH // SAMPLES)
    for start in range(0, len(points), together):
        part = slice(start, start + together)
        where = _light_stops(scene, points[part], normals[part], reach)
        directions, weights = _cone(normals[part])
        if camera_positions is not None:
            looking, seen = _from_cameras(where, normals[part], camera_positions)
            faced = seen.sum(1) > 0
            padding = ((0, 0), (0, weights.shape[1] - seen.shape[1]))
            weights[faced] = np.pad(seen, padding)[faced]
            directions[faced] = np.pad(looking, (*padding, (0, 0)))[faced]
        result[part] = _mean_colour(scene, where, directions, weights)
        if progress is not None:
            progress(min(1.0, (start + together) / len(points)))
    return np.clip(result, 0, 1)


def _light_stops(scene: MeshableScene, points: np.ndarray, normals: np.ndarray, reach: float) -> np.ndarray:
    """Mean stopping place along the short ray; the point itself where next to nothing is stopped."""
    step = 2 * reach / SAMPLES
    heights = reach - step * (np.arange(SAMPLES) + 0.5)
    where = points[:, None] + heights[:, None] * normals[:, None]
    density = _ask(scene.density, where.reshape(-1, 3)).reshape(-1, SAMPLES).astype(np.float64)
    opacity = 1 - np.exp(-from_the_clearest(np.maximum(density, 0)) * step)
    passed = np.cumprod(1 - opacity, 1)
    weight = opacity * np.concatenate([np.ones((len(points), 1)), passed[:, :-1]], 1)
    total = weight.sum(1)
    height = np.where(total > 0.05, (weight * heights).sum(1) / np.maximum(total, 1e-12), 0.0)
    return points + height[:, None] * normals


def _cone(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (n, 7, 3) that look at the surface, and their weights (n, 7)."""
    helper = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    side = np.cross(normals, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    other = np.cross(normals, side)
    angle = np.arange(6) * np.pi / 3
    ring = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    tilted = -np.cos(CONE) * normals[:, None] + np.sin(CONE) * ring
    directions = np.concatenate([-normals[:, None], tilted], 1)
    return directions, np.tile([2.0, 1, 1, 1, 1, 1, 1], (len(normals), 1))


def _from_cameras(
    points: np.ndarray, normals: np.ndarray, cameras: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Directions (n, k, 3) from the cameras that face each point best, and weights (n, k), 0 for those behind
    it.
    """
    towards = points[:, None] - cameras
    towards /= np.maximum(np.linalg.norm(towards, axis=2, keepdims=True), 1e-12)
    cosine = -np.einsum("nmc,nc->nm", towards, normals)
    most = min(NEAREST_CAMERAS, len(cameras))
    best = np.argpartition(-cosine, most - 1, axis=1)[:, :most]
    weights = np.take_along_axis(cosine, best, 1)
    weights = np.where(weights > 0.1, weights, 0.0)
    return np.take_along_axis(towards, best[..., None], 1), weights


def _mean_colour(
    scene: MeshableScene, points: np.ndarray, directions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    total = np.zeros((len(points), 3))
    for k in range(weights.shape[1]):
        used = weights[:, k] > 0
        if used.any():
            colour = _ask(scene.colour, points[used], directions[used, k])
            total[used] += weights[used, k, None] * np.nan_to_num(colour)
    return total / weights.sum(1, keepdims=True)


def _ask(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        answers = [
            function(*(torch.from_numpy(np.ascontiguousarray(a[s : s + BATCH], np.float32)) for a in arrays))
            .cpu()
            .numpy()
            for s in range(0, len(arrays[0]), BATCH)
        ]
    return np.concatenate(answers)
