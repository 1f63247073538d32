"""What one camera saw through: a model's parts that lie there are drawn back to where the surface was seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .terms import Linearised, Term

__all__ = ["FreeSpace", "Pairs", "drawn_back"]

_BEFORE = 0.004
"""Metres beside the nearest seen ray within which a vertex in free space lies before the surface, not beside it."""


@dataclass(frozen=True)
class Pairs:
    """Vertices and where they should be."""

    vertices: np.ndarray
    """(k,) indices."""
    targets: np.ndarray
    """(k, 3) metres."""
    metric: np.ndarray
    """(k, 3, 3): which directions of the offset count, and how much."""


def drawn_back(
    points: np.ndarray,  # (n, 3) what was seen
    tree: cKDTree,  # of the unit directions from `origin` to `points`
    origin: np.ndarray,  # (3,) the camera
    vertices: np.ndarray,  # (m, 3)
    empty: np.ndarray,  # (m,) bool: the vertices in free space
) -> Pairs:
    """Beside the surface: across the nearest seen ray, its depth left open. Before the surface: along the ray onto it."""
    chosen = np.flatnonzero(empty)
    offset = vertices[chosen] - origin
    reach = np.linalg.norm(offset, axis=1, keepdims=True)
    _, near = tree.query(offset / np.maximum(reach, 1e-9))
    ray = points[near] - origin
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    along = ray[:, :, None] * ray[:, None]
    beside = origin + reach * ray
    before = np.linalg.norm(beside - vertices[chosen], axis=1) < _BEFORE
    return Pairs(
        chosen,
        np.where(before[:, None], points[near], beside),
        np.where(before[:, None, None], along, np.eye(3) - along),
    )


@dataclass
class FreeSpace(Term):
    """Every `every`-th vertex of the model, of the frames whose scan knows its camera."""

    scans: list = None
    """b scans (`scan.Scan`)."""
    vertex_count: int = 0
    every: int = 2

    def __post_init__(self) -> None:
        self._trees = []
        for scan in self.scans:
            seen = scan.empty is not None and scan.origin is not None
            away = scan.points - scan.origin if seen else None
            self._trees.append(cKDTree(away / np.linalg.norm(away, axis=1, keepdims=True)) if seen else None)
        self._matched = None

    def match(self, points: np.ndarray) -> None:
        """Finds the vertices in free space anew."""
        chosen = np.arange(0, self.vertex_count, self.every)
        b, k = len(self.scans), len(chosen)
        targets, metric = np.zeros((b, k, 3)), np.zeros((b, k, 3, 3))
        self.confidence = np.zeros((b, k))
        for frame, (scan, tree) in enumerate(zip(self.scans, self._trees)):
            if tree is None:
                continue
            vertices = points[frame, chosen]
            pairs = drawn_back(scan.points, tree, scan.origin, vertices, scan.empty(vertices))
            targets[frame, pairs.vertices], metric[frame, pairs.vertices] = pairs.targets, pairs.metric
            self.confidence[frame, pairs.vertices] = 1
        self._matched = (chosen, targets, metric / self.sigma)

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        chosen, targets, metric = self._matched
        residuals = (metric @ (points[:, chosen] - targets)[..., None])[..., 0]
        if by_frame is None:
            return Linearised(residuals)
        return Linearised(residuals, metric @ by_shape[:, chosen], metric @ by_frame[:, chosen])
