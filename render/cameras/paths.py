"""Camera paths: around what the training cameras look at, along a spiral before it, or between the views of a
data set.

A path is described before any run is known, `orbit(frames=60)`, and becomes cameras when it meets the
training cameras: `path.cameras(training_cameras)`. Poses are rigid, in the training cameras' frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from fieldstone.core.errors import UserError

from .cameras import Cameras
from .focus import focus_point, up_direction
from .models import PARAMETER_NAMES
from .trajectory import catmull_rom, slerp_between

__all__ = [
    "CameraPath",
    "DatasetPath",
    "OrbitPath",
    "SpiralPath",
    "dataset_path",
    "look_at",
    "orbit",
    "spiral",
]

_DEFAULT_LONG_SIDE = 1280


class CameraPath(Protocol):
    """What every path offers."""

    def cameras(
        self,
        training_cameras: Cameras,
        *,
        extent_centre: np.ndarray | None = None,  # (3,) middle of the scene, if known
        width: int | None = None,
        height: int | None = None,
    ) -> Cameras: ...


def look_at(
    position: np.ndarray,  # (..., 3)
    target: np.ndarray,  # (..., 3)
    up: np.ndarray,  # (3,)
) -> np.ndarray:  # (..., 4, 4)
    """Rigid camera_to_world that sees `target` in its middle and `up` upwards (OpenCV axes).

    Looking straight along `up`, any upright image is as good as another: one is chosen.
    """
    position, target = np.broadcast_arrays(np.asarray(position, np.float64), np.asarray(target, np.float64))
    forward = _unit(target - position)
    right = np.cross(forward, up)
    steep = np.linalg.norm(right, axis=-1, keepdims=True) < 1e-6 * np.linalg.norm(up)
    other = np.eye(3)[np.argmin(np.abs(up))]
    right = _unit(np.where(steep, np.cross(forward, other), right))
    poses = np.zeros((*position.shape[:-1], 4, 4))
    poses[..., :3, 0], poses[..., :3, 1], poses[..., :3, 2] = right, np.cross(forward, right), forward
    poses[..., :3, 3], poses[..., 3, 3] = position, 1
    return poses


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (length > 0).all():
        raise UserError("camera path: a camera lies on the point it should look at; give a larger radius")
    return vectors / length


def _pinhole(poses: np.ndarray, training: Cameras, width: int | None, height: int | None) -> Cameras:
    """Pinholes at `poses` that see as much height as the median training camera does.

    The size is the first training camera's, its long side at most 1280, both even (video codecs want that).
    """
    if (width is None) != (height is None):
        raise UserError("camera path: give both width and height, or neither")
    if width is None:
        width, height = _video_size(*training.size(0))
    ratios = []
    for model, params, size in zip(training.models, training.params.tolist(), training.sizes.tolist()):
        names = PARAMETER_NAMES[model]
        if names:
            ratios.append(params[names.index("f" if "f" in names else "fy")] / size[1])
    # a panorama has no focal length: 60 degrees of height is a usual view
    ratio = float(np.median(ratios)) if ratios else 0.5 / np.tan(np.radians(30))
    return Cameras.pinhole(torch.from_numpy(poses), ratio * height, width, height)


def _video_size(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, _DEFAULT_LONG_SIDE / max(width, height))
    return max(2, round(width * shrink / 2) * 2), max(2, round(height * shrink / 2) * 2)


@dataclass(frozen=True)
class OrbitPath:
    """See `orbit`."""

    frames: int
    turns: float = 1.0
    elevation_deg: float | None = None
    radius: float | None = None
    target: tuple[float, float, float] | None = None
    up: tuple[float, float, float] | None = None

    def cameras(
        self,
        training_cameras: Cameras,
        *,
        extent_centre: np.ndarray | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> Cameras:
        _check_training(training_cameras)
        up = up_direction(training_cameras) if self.up is None else _unit(np.asarray(self.up, np.float64))
        centre = _first_given(self.target, extent_centre, focus_point(training_cameras))
        positions = training_cameras.positions.detach().cpu().numpy()
        offsets = positions - centre
        distances = np.linalg.norm(offsets, axis=1)
        radius = float(np.median(distances)) if self.radius is None else self.radius
        if not radius > 0:
            raise UserError(f"orbit: the radius is {radius}; give a positive radius or another target")
        if self.elevation_deg is None:
            sines = (offsets @ up) / np.maximum(distances, 1e-12)
            elevation = float(np.clip(np.arcsin(np.clip(sines, -1, 1)).mean(), *np.radians([-80, 80])))
        else:
            elevation = np.radians(self.elevation_deg)
        # start where the first training camera stands, so that an orbit begins with a known view
        ahead = offsets[0] - up * (offsets[0] @ up)
        if np.linalg.norm(ahead) < 1e-6 * radius:
            ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
        ahead = ahead / np.linalg.norm(ahead)
        angle = 2 * np.pi * self.turns * np.arange(self.frames)[:, None] / self.frames
        level = np.cos(angle) * ahead + np.sin(angle) * np.cross(up, ahead)
        places = centre + radius * (np.cos(elevation) * level + np.sin(elevation) * up)
        return _pinhole(look_at(places, centre, up), training_cameras, width, height)


@dataclass(frozen=True)
class SpiralPath:
    """See `spiral`."""

    frames: int
    turns: float = 2.0
    amplitude: float = 1.0
    zoom: float = 0.5

    def cameras(
        self,
        training_cameras: Cameras,
        *,
        extent_centre: np.ndarray | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> Cameras:
        _check_training(training_cameras)
        positions = training_cameras.positions.detach().cpu().numpy()
        centre = positions.mean(0)
        target = (
            focus_point(training_cameras) if extent_centre is None else np.asarray(extent_centre, np.float64)
        )
        up = up_direction(training_cameras)
        middle = look_at(centre, target, up)
        local = (positions - centre) @ middle[:3, :3]
        reach = np.percentile(np.abs(local), 90, axis=0) * self.amplitude
        angle = 2 * np.pi * self.turns * np.arange(self.frames) / self.frames
        wobble = np.stack([np.cos(angle), -np.sin(angle), -np.sin(angle * self.zoom)], 1) * reach
        places = centre + wobble @ middle[:3, :3].T
        return _pinhole(look_at(places, target, up), training_cameras, width, height)


@dataclass(frozen=True)
class DatasetPath:
    """See `dataset_path`."""

    frames: int
    views: tuple[int, ...] | None = None
    smooth: bool = True
    loop: bool = False

    def cameras(
        self,
        training_cameras: Cameras,
        *,
        extent_centre: np.ndarray | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> Cameras:
        """`extent_centre` has no influence: the views are followed wherever they are."""
        _check_training(training_cameras)
        count = len(training_cameras)
        views = _in_order(training_cameras) if self.views is None else list(self.views)
        wrong = [view for view in views if not -count <= view < count]
        if wrong or not views:
            raise UserError(f"camera path: no view {wrong or 'chosen'}; views 0 to {count - 1} exist")
        poses = training_cameras[views].camera_to_world.detach().cpu().numpy()
        if self.loop:
            poses = np.concatenate([poses, poses[:1]])
        steps = self.frames if self.loop else max(1, self.frames - 1)
        knots = np.arange(self.frames) / steps * (len(poses) - 1)
        result = np.tile(np.eye(4), (self.frames, 1, 1))
        result[:, :3, 3] = catmull_rom(poses[:, :3, 3], knots, loop=self.loop, linear=not self.smooth)
        result[:, :3, :3] = slerp_between(poses[:, :3, :3], knots)
        return _pinhole(result, training_cameras, width, height)


def orbit(
    *,
    frames: int = 120,
    turns: float = 1.0,
    elevation_deg: float | None = None,
    radius: float | None = None,
    target: Sequence[float] | None = None,  # (3,) source frame
    up: Sequence[float] | None = None,  # (3,)
) -> OrbitPath:
    """A circle around the scene, looking at its middle; the last frame is one step before the first, so it
    loops.

    What is not given comes from the training cameras: up is the mean of theirs, the target the point they
    look at (`focus_point`), the radius the median of their distances to it, the elevation the mean of theirs.
    Around a scene that was only taken from the front, an orbit sees what no photo shows: take `spiral` there.
    Raises UserError for fewer than one frame or a radius that is not positive.
    """
    _check_frames("orbit", frames)
    if radius is not None and not radius > 0:
        raise UserError(f"orbit: the radius is {radius}; give a positive one")
    return OrbitPath(frames, turns, elevation_deg, radius, _triple(target), _triple(up))


def spiral(*, frames: int = 120, turns: float = 2.0, amplitude: float = 1.0, zoom: float = 0.5) -> SpiralPath:
    """A spiral around the mean camera of a forward-facing capture, looking at its focus point.

    As in LLFF (Mildenhall et al. 2019, released code): the half axes are the 90th percentile of the training
    cameras' offsets from their mean along the mean view's axes, times `amplitude`; `zoom` is how often it
    moves forwards and back a turn. Raises UserError for fewer than one frame.
    """
    _check_frames("spiral", frames)
    return SpiralPath(frames, turns, amplitude, zoom)


def dataset_path(
    *,
    frames: int = 120,
    views: Sequence[int] | None = None,
    smooth: bool = True,
    loop: bool = False,
) -> DatasetPath:
    """Through the training views, or through those numbered `views` in that order.

    Views that were not taken one after another (neighbours in the list lie much further apart than views do) are put in the
    order of a short tour first.

    Positions run along a uniform Catmull-Rom spline, or straight lines if not `smooth`;
    rotations by spherical interpolation (Shoemake 1985), the shorter way. Raises UserError for fewer than one
    frame.
    """
    _check_frames("dataset path", frames)
    return DatasetPath(frames, None if views is None else tuple(int(view) for view in views), smooth, loop)


def _in_order(cameras: Cameras) -> list[int]:
    """The views as they are if that is a path, else along a tour from the first: to the nearest next, then untangled (2-opt)."""
    positions = cameras.positions.detach().cpu().double().numpy()
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    count = len(positions)
    if count < 4:
        return list(range(count))
    nearest = np.median(np.where(np.eye(count, dtype=bool), np.inf, apart).min(1))
    if np.median(apart[np.arange(count - 1), np.arange(1, count)]) <= 4 * nearest:
        return list(range(count))
    tour, left = [0], set(range(1, count))
    while left:
        tour.append(min(left, key=lambda view: apart[tour[-1], view]))
        left.remove(tour[-1])
    order = np.array(tour)
    improved = True
    while improved:
        improved = False
        for i in range(count - 2):
            # turning order[i + 1 .. j] round replaces two steps; the last one may have no successor
            j = np.arange(i + 2, count)
            before = apart[order[i], order[i + 1]] + np.append(apart[order[j[:-1]], order[j[:-1] + 1]], 0.0)
            after = apart[order[i], order[j]] + np.append(apart[order[i + 1], order[j[:-1] + 1]], 0.0)
            best = int(np.argmax(before - after))
            if before[best] - after[best] > 1e-9 * nearest + 1e-12:
                order[i + 1 : j[best] + 1] = order[i + 1 : j[best] + 1][::-1].copy()
                improved = True
    return order.tolist()


def _check_frames(what: str, frames: int) -> None:
    if frames < 1:
        raise UserError(f"{what}: {frames} frames asked for; give at least 1")


def _check_training(cameras: Cameras) -> None:
    if len(cameras) == 0:
        raise UserError("camera path: there are no training cameras to build it from")


def _triple(value: Sequence[float] | None) -> tuple[float, float, float] | None:
    if value is None:
        return None
    x, y, z = (float(number) for number in value)
    return x, y, z


def _first_given(*values: object) -> np.ndarray:
    return next(np.asarray(value, np.float64) for value in values if value is not None)
