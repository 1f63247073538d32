"""Whether points, depths and cameras of a capture are of one place and in one unit."""

from __future__ import annotations

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..render.cameras import Cameras

__all__ = ["check_depths", "check_points"]

_FEW = 20
"""Points, or pixels with a point and a depth, below which nothing is said."""
_TIMES = 3.0
"""A ratio of depths from which it is a unit and not an error of measurement; units differ by ten or more."""


def check_points(
    points: np.ndarray,  # (m, 3) source frame
    cameras: Cameras,
    source: str,  # where the points are from
) -> None:
    """UserError if no camera sees any of 20 or more points: such a cloud says nothing of the images, and a field started from it stays empty."""
    finite = points[np.isfinite(points).all(1)]
    if len(finite) < _FEW:
        return
    for point_count, camera_count in ((2000, 24), (100_000, 400)):  # the second only if the first found none
        some = finite[:: max(1, len(finite) // point_count)]
        for index in range(0, len(cameras), max(1, len(cameras) // camera_count)):
            if _seen(some, cameras, index)[0].any():
                return
    from scipy.spatial import cKDTree

    distance = cKDTree(cameras.positions.numpy()).query(some)[0]
    raise UserError(
        f"{source}: of {len(finite)} points none is seen by any of {len(cameras)} cameras, the nearest is {distance.min():.4g} away "
        f"and half are more than {np.median(distance):.4g}; points and poses are not in one frame or unit: correct one, or remove the points"
    )


def check_depths(capture) -> None:
    """UserError, with the ratio, if measured depths are several times what the points at the same pixels say."""
    if capture.z_depths is None or capture.points is None or len(capture.points) < _FEW:
        return
    points = np.asarray(capture.points, np.float64)
    measured = [i for i, source in enumerate(capture.z_depths.sources) if source is not None]
    ratios = []
    for index in measured[:: max(1, len(measured) // 4)]:
        seen, pixels, z = _seen(points, capture.cameras, index)
        width = capture.cameras.size(index)[0]
        column, row = (pixels[seen] // 1).astype(int).T
        # what lies behind the first surface is in the cloud too: of each small square the nearest point
        side = max(1, width // 64)
        square = row // side * (width // side + 1) + column // side
        nearest = np.lexsort((z[seen], square))
        nearest = nearest[np.unique(square[nearest], return_index=True)[1]]
        depth = capture.z_depths[index][row[nearest], column[nearest]]
        known = depth > 0
        ratios.append(depth[known] / z[seen][nearest][known])
    ratio = np.concatenate(ratios) if ratios else np.zeros(0)
    if len(ratio) < _FEW:
        return
    low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
    if high < _TIMES * low and not 1 / _TIMES < middle < _TIMES:
        raise UserError(
            f"{capture.folder}: depths are {middle:.4g} times the distances of the points at the same pixels "
            f"({len(ratio)} pixels of {len(ratios)} images); depth and poses are not in one unit: multiply one by {1 / middle:.4g}, or leave it out"
        )


def _seen(
    points: np.ndarray, cameras: Cameras, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # (m,) bool, (m, 2) pixels, (m,) z_depth
    pixels, z = cameras.project(torch.from_numpy(np.asarray(points, np.float64)), torch.tensor([index]))
    width, height = cameras.size(index)
    inside = (z > 0) & (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    return inside.numpy(), pixels.numpy(), z.numpy()
