"""Which primitive of one object corresponds to which of another."""

from __future__ import annotations

import numpy as np

__all__ = ["nearest", "one_to_one"]

OTHER_SCALE = 100.0
"""Squared distance, in half sides of the box, that two primitives of different scales are taken to be apart beside their own."""


def _normalised(points: np.ndarray) -> np.ndarray:
    """Positions in the box of the object, each side from -1 to 1."""
    low, high = points.min(0), points.max(0)
    side = np.maximum(high - low, 1e-3 * max(float((high - low).max()), 1e-9))
    return 2 * (points - low) / side - 1


def nearest(
    points: np.ndarray,  # (k, 3) middles of primitives
    scale: np.ndarray,  # (k,)
    others: np.ndarray,  # (l, 3)
    other_scale: np.ndarray,  # (l,)
) -> np.ndarray:  # (k,) int64 rows of `others`
    """For each point the other at the nearest place in its object's box, of the same scale where there is one."""
    from scipy.spatial import cKDTree

    here, there = _normalised(points), _normalised(others)
    found = np.empty(len(points), np.int64)
    for level in np.unique(scale):
        rows = np.flatnonzero(scale == level)
        same = np.flatnonzero(other_scale == level)
        same = same if len(same) else np.arange(len(others))
        found[rows] = same[cKDTree(there[same]).query(here[rows])[1]]
    return found


def one_to_one(
    points: np.ndarray,  # (k, 3)
    scale: np.ndarray,  # (k,)
    others: np.ndarray,  # (k, 3)
    other_scale: np.ndarray,  # (k,)
) -> np.ndarray:  # (k,) int64 a permutation
    """As `nearest` for two sets of one size, each other taken once: the assignment of least total squared distance."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(_normalised(points), _normalised(others), "sqeuclidean")
    cost += OTHER_SCALE * (scale[:, None] != other_scale)
    return linear_sum_assignment(cost)[1].astype(np.int64)
