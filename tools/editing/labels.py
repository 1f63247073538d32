"""Classes of primitives: of each, the one that most of its points have."""

from __future__ import annotations

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..training.dnmp_depth import visible_points

__all__ = ["primitive_classes"]


def primitive_classes(
    capture,
    centres: np.ndarray,  # (n, 3) middles of the primitives' voxels, source frame
    half_side: np.ndarray,  # (n,) of the voxels
) -> tuple[np.ndarray, dict[int, str]]:  # (n,) int64, -1 where no point has a class; names of the classes
    """By vote of the points in each voxel: with their own classes, or those of the pixels that see them, once for each labelled view.

    UserError for a capture without labels or points.
    """
    own = capture.point_labels is not None
    if capture.points is None or not (own or capture.labels is not None):
        missing = "points" if capture.points is None else "classes of points or pixels"
        raise UserError(f"{capture.folder}: no {missing}; select by box, ids or scale")
    names = capture.label_names if own else capture.labels.names
    points = np.asarray(capture.points, np.float64)
    numbers = np.array(sorted(names))
    votes = np.zeros((len(centres), len(numbers)), np.int32)
    owners = _owners(points, centres, half_side)
    for index, classes in _ballots(capture, points):
        column = np.searchsorted(numbers, classes).clip(0, len(numbers) - 1)
        known = numbers[column] == classes
        for owner in owners:
            primitive = owner[index]
            counted = known & (primitive >= 0)
            np.add.at(votes, (primitive[counted], column[counted]), 1)
    return np.where(votes.any(1), numbers[votes.argmax(1)], -1), dict(names)


def _owners(points: np.ndarray, centres: np.ndarray, half_side: np.ndarray) -> list[np.ndarray]:
    """For each size of voxel the primitive whose voxel each point is in, -1 for none."""
    from scipy.spatial import cKDTree

    owners = []
    sizes = np.round(np.log2(half_side / half_side.min()), 2) if len(half_side) else half_side
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        reach = half_side[rows].max() * 1.001
        _, found = cKDTree(centres[rows]).query(points, p=np.inf, distance_upper_bound=reach)
        owners.append(np.append(rows, -1)[found])  # what is not found is the row behind the last
    return owners


def _ballots(capture, points: np.ndarray):
    """(points, class number of each), one pair for each source of votes."""
    if capture.point_labels is not None:
        yield np.arange(len(points)), np.asarray(capture.point_labels)
        return
    cloud = torch.from_numpy(points)
    for index in range(len(capture)):
        picture = capture.labels.image(index)
        if picture is None:
            continue
        width, height = capture.cameras.size(index)
        seen, pixel, _ = visible_points(cloud, capture.cameras[index])
        y = ((pixel // width + 0.5) * picture.shape[0] / height).astype(int)
        x = ((pixel % width + 0.5) * picture.shape[1] / width).astype(int)
        yield seen, picture[y, x]
