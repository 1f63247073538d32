"""Terms for surfaces without known counterparts: scans, point clouds, depth images (iterative closest points)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from .closest import NearestOnMesh, beyond_opening, boundary_vertices, vertex_normals
from .terms import Linearised, Term

__all__ = ["ModelToScan", "ScanToModel", "estimated_normals", "toward"]


def estimated_normals(points: np.ndarray, neighbours: int = 12) -> np.ndarray:
    """(n, 3) unit normals of unknown sign, of the plane through each point's neighbours."""
    _, near = cKDTree(points).query(points, k=min(neighbours, len(points)))
    around = points[near] - points[near].mean(1, keepdims=True)
    return np.linalg.eigh(around.swapaxes(1, 2) @ around)[1][:, :, 0]


def toward(points: np.ndarray, normals: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Normals turned to the side of `centre`, for what one camera saw."""
    away = ((centre - points) * normals).sum(1) < 0
    return np.where(away[:, None], -normals, normals)


@dataclass
class ScanToModel(Term):
    """Each point of a frame's scan to the nearest point of the model's surface.

    The distance along the model's normal counts in full, along the surface by `slide`: less slides further (point-to-plane). Points that
    meet the model's open end, a surface that faces away, or nothing within `gate` are left out: they belong to something else.
    """

    targets: np.ndarray = None
    """(b, m, 3) metres, NaN padded."""
    normals: np.ndarray | None = None
    """(b, m, 3) unit; None: not known."""
    signed: bool = True
    """Whether normals point outwards; estimated ones may not."""
    faces: np.ndarray = None
    """(f, 3) of the posing's vertices."""
    vertex_count: int = 0
    gate: float = 0.05
    """Metres."""
    slide: float = 0.3

    def __post_init__(self) -> None:
        self._nearest = NearestOnMesh(self.faces, self.vertex_count)
        self._opening = boundary_vertices(self.faces)
        self._edge = np.zeros(self.vertex_count, bool)
        self._edge[self._opening] = True
        self._there = np.isfinite(self.targets).all(-1)
        self.targets = np.where(self._there[..., None], self.targets, 0.0)
        self.confidence = self._there.astype(np.float64)
        self._matched = None

    def match(self, points: np.ndarray) -> None:
        """Looks for the nearest points anew. Once before the first use, then as often as wanted."""
        b, m = self.targets.shape[:2]
        corner, weights, normal = np.zeros((b, m, 3), np.int64), np.zeros((b, m, 3)), np.zeros((b, m, 3))
        normal[..., 2] = 1
        for frame in range(b):
            there = self._there[frame]
            vertices = points[frame, : self.vertex_count]
            face, bary, distance = self._nearest(vertices, self.targets[frame][there])
            corners = self.faces[face]
            smooth = (bary[:, :, None] * vertex_normals(vertices, self.faces)[corners]).sum(1)
            smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-20)
            good = distance < self.gate
            # on the open end all weight lies on edge vertices
            good &= ((bary > 1e-9) & ~self._edge[corners]).any(1)
            good &= ~beyond_opening(vertices, self._opening, self.targets[frame][there])
            if self.normals is not None:
                cosine = (smooth * self.normals[frame][there]).sum(1)
                good &= (cosine if self.signed else np.abs(cosine)) > 0.3
            corner[frame, there], weights[frame, there], normal[frame, there] = corners, bary, smooth
            self.confidence[frame, there] = good
        across = normal[..., :, None] * normal[..., None, :]
        metric = (across + self.slide * (np.eye(3) - across)) / self.sigma
        self._matched = (corner, weights, metric)

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        corner, weights, metric = self._matched
        frame = np.arange(len(points))[:, None, None]

        def on_surface(part: np.ndarray) -> np.ndarray:
            return (weights.reshape(*weights.shape, *(1,) * (part.ndim - 2)) * part[frame, corner]).sum(2)

        keep = (self.confidence > 0)[..., None]
        offset = on_surface(points) - self.targets
        residuals = np.where(keep, (metric @ offset[..., None])[..., 0], 0.0)
        if by_frame is None:
            return Linearised(residuals)
        return Linearised(residuals, metric @ on_surface(by_shape), metric @ on_surface(by_frame))


@dataclass
class ModelToScan(Term):
    """Chosen model vertices to the nearest scan point: keeps the model from leaving parts of itself outside a complete scan."""

    scans: list = None
    """b arrays (n, 3), metres."""
    normals: list | None = None
    """b arrays (n, 3), or None."""
    signed: bool = True
    faces: np.ndarray = None
    vertex_count: int = 0
    chosen: np.ndarray = None
    """(k,) vertices."""
    gate: float = 0.03
    slide: float = 0.3

    def __post_init__(self) -> None:
        self._trees = [cKDTree(scan) for scan in self.scans]
        edge = boundary_vertices(self.faces)
        self.chosen = np.setdiff1d(self.chosen, edge)
        self.confidence = np.ones((len(self.scans), len(self.chosen)))
        self._matched = None

    def match(self, points: np.ndarray) -> None:
        """As in `ScanToModel`."""
        b, k = len(self.scans), len(self.chosen)
        targets, normal = np.zeros((b, k, 3)), np.zeros((b, k, 3))
        for frame in range(b):
            vertices = points[frame, : self.vertex_count]
            distance, near = self._trees[frame].query(vertices[self.chosen])
            targets[frame] = self.scans[frame][near]
            own = vertex_normals(vertices, self.faces)[self.chosen]
            good = distance < self.gate
            if self.normals is None:
                normal[frame] = own
            else:
                normal[frame] = self.normals[frame][near]
                cosine = (own * normal[frame]).sum(1)
                good &= (cosine if self.signed else np.abs(cosine)) > 0.3
            self.confidence[frame] = good
        across = normal[..., :, None] * normal[..., None, :]
        self._matched = (targets, (across + self.slide * (np.eye(3) - across)) / self.sigma)

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        targets, metric = self._matched
        keep = (self.confidence > 0)[..., None]
        offset = points[:, self.chosen] - targets
        residuals = np.where(keep, (metric @ offset[..., None])[..., 0], 0.0)
        if by_frame is None:
            return Linearised(residuals)
        return Linearised(residuals, metric @ by_shape[:, self.chosen], metric @ by_frame[:, self.chosen])
