"""Regions of interest: the part of a cloud that is to be measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldstone.core.errors import UserError

from .cloud import Cloud
from .errors import NotMeasurable

__all__ = ["in_ball", "in_box"]


def in_box(cloud: Cloud, bounds: Sequence[float]) -> Cloud:  # x0 y0 z0 x1 y1 z1, world coordinates
    """The points inside an axis-parallel box, its faces included.

    Raises `UserError` for a box without inside, `NotMeasurable` when it holds no point (with the nearest one's distance).
    """
    low, high = np.array(bounds[:3], np.float64), np.array(bounds[3:], np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise UserError(f"box {list(bounds)}: the first corner must lie below the second in x, y and z")
    points = cloud.world_points
    outside = np.maximum(np.maximum(low - points, points - high), 0.0)
    return _chosen(cloud, np.linalg.norm(outside, axis=1), f"the box {list(bounds)}")


def in_ball(cloud: Cloud, ball: Sequence[float]) -> Cloud:  # x y z radius, world coordinates
    """The points inside a sphere, its surface included. Raises as `in_box` does."""
    centre, radius = np.array(ball[:3], np.float64), float(ball[3])
    if not (np.isfinite(centre).all() and radius > 0):
        raise UserError(f"ball {list(ball)}: give a finite centre and a radius above 0")
    distance = np.linalg.norm(cloud.world_points - centre, axis=1) - radius
    return _chosen(cloud, distance, f"the ball {list(ball)}")


def _chosen(cloud: Cloud, distance: np.ndarray, what: str) -> Cloud:
    keep = distance <= 0
    if not keep.any():
        raise NotMeasurable(
            f"{cloud.source or 'the cloud'}: no point lies in {what}; the nearest is {distance.min():.4g} "
            f"{cloud.unit or ''} outside, and the cloud spans {np.round(cloud.world_points.min(0), 4).tolist()} to "
            f"{np.round(cloud.world_points.max(0), 4).tolist()}"
        )
    return cloud.select(keep)
