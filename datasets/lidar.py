"""LiDAR sweeps of a moving scanner: read, straightened, and gathered into one cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Gathering", "read_velodyne", "uncurl"]

NEAREST, FARTHEST = 2.5, 80.0
"""Metres: what is nearer is the car itself, what is farther is sparse and noisy."""


def read_velodyne(path: Path) -> np.ndarray:
    """(n, 4) float32: x ahead, y left, z up, reflectance (KITTI's .bin). UserError for a file that is cut short."""
    size = path.stat().st_size
    if size % 16:
        raise UserError(
            f"{path}: {size} bytes is no whole number of points of 16 bytes; the scan is cut short, copy it again"
        )
    points = np.fromfile(path, "<f4").reshape(-1, 4)
    return points[np.isfinite(points).all(1)]


def uncurl(
    points: np.ndarray,  # (n, 3) each in the scanner's frame at the moment it was measured
    step: np.ndarray,  # (4, 4) this frame's scanner pose seen from the frame before
) -> np.ndarray:  # (n, 3) all in the scanner's frame at the middle of the turn
    """KITTI-360's rule: the share of the turn is atan2(y, x) / 2 pi, and that share of the step's rotation vector and translation
    is applied (kitti360Scripts, curlVelodyneData)."""
    from scipy.spatial.transform import Rotation

    share = np.arctan2(points[:, 1], points[:, 0])[:, None] / (2 * np.pi)
    turn = Rotation.from_matrix(step[:3, :3]).as_rotvec()
    return Rotation.from_rotvec(share * turn).apply(points) + share * step[:3, 3]


class Gathering:
    """Scans of many frames in one cloud, thinned as they come, so that memory grows with the scene and not with the frames."""

    def __init__(self, spacing: float = 0.06) -> None:
        self.spacing = spacing
        self.scans = 0
        self._points = np.zeros((0, 3), np.float32)
        self._origin: np.ndarray | None = None

    def add(
        self,
        points: np.ndarray,  # (n, 3) scanner frame, straightened
        to_world: np.ndarray,  # (4, 4)
    ) -> None:
        distance = np.linalg.norm(points, axis=1)
        points = points[(distance > NEAREST) & (distance < FARTHEST)]
        world = points @ to_world[:3, :3].T + to_world[:3, 3]
        if self._origin is None:
            self._origin = to_world[
                :3, 3
            ].copy()  # world coordinates may be millions of metres: float32 is for what is left
        everything = np.concatenate([self._points, (world - self._origin).astype(np.float32)])
        _, first = np.unique(np.floor(everything / self.spacing).astype(np.int64), axis=0, return_index=True)
        self._points = everything[np.sort(first)]
        self.scans += 1

    def cloud(self) -> np.ndarray | None:
        """(m, 3) float64 world points, one a cell of `spacing`, less those with fewer than 2 others within 0.4 m; None without scans."""
        if self._origin is None or not len(self._points):
            return None
        from scipy.spatial import cKDTree

        nearest = cKDTree(self._points).query(self._points, k=min(3, len(self._points)))[0][:, -1]
        return self._points[nearest < 0.4].astype(np.float64) + self._origin
