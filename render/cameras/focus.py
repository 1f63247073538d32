"""What a set of cameras looks at, and which way is up for them."""

from __future__ import annotations

import numpy as np

from .cameras import Cameras

__all__ = ["focus_point", "up_direction"]


def focus_point(cameras: Cameras) -> np.ndarray:  # (3,) float64, source frame
    """The point nearest, in least squares, to all optical axes: sum (I - d d^T) (p - o) = 0.

    Cameras that look the same way fix no point along their common axis. There a weak prior takes over: the
    point as far ahead of the mean camera as the cameras are spread around it (one unit ahead for cameras at
    one place), and a camera behind whose back the solution lies does not get to pull it there: it is left out
    and the rest solved again. Raises ValueError for no cameras.
    """
    if len(cameras) == 0:
        raise ValueError("no cameras, so no point they look at")
    origins = cameras.positions.detach().cpu().numpy()
    axes = cameras.forward.detach().cpu().numpy()
    point = _nearest_to_axes(origins, axes)
    ahead = ((point - origins) * axes).sum(1) > 0
    if ahead.any() and not ahead.all():
        point = _nearest_to_axes(origins[ahead], axes[ahead])
    return point


def _nearest_to_axes(origins: np.ndarray, axes: np.ndarray) -> np.ndarray:
    centre, mean_axis = origins.mean(0), axes.mean(0)
    spread = np.sqrt(((origins - centre) ** 2).sum(1).mean())
    reach = spread if spread > 0 else 1.0
    length = np.linalg.norm(mean_axis)
    # without a common direction (a full circle) the prior is the middle itself
    prior = centre + (mean_axis / length * reach if length > 0.1 else 0.0)
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    # axes within about two degrees of each other are as good as parallel: their square is under the prior's
    # weight
    weight = 1e-3
    normal = across.mean(0) + weight * np.eye(3)
    return np.linalg.solve(normal, (across @ origins[:, :, None]).mean(0)[:, 0] + weight * prior)


def up_direction(cameras: Cameras) -> np.ndarray:  # (3,) float64 unit
    """The mean of the cameras' up axes (-y); for cameras whose ups cancel, the axis they circle around."""
    ups = -cameras.camera_to_world[:, :3, 1].detach().cpu().numpy()
    mean = ups.mean(0)
    if np.linalg.norm(mean) > 0.1:
        return mean / np.linalg.norm(mean)
    positions = cameras.positions.detach().cpu().numpy()
    return np.linalg.svd(positions - positions.mean(0), full_matrices=True)[2][2]
