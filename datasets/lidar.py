"""LiDAR sweeps of a moving scanner: read, straightened, and gathered into one cloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Gathering", "read_velodyne", "uncurl"]

NEAREST, FARTHEST = 2.5, 80.0
"""Metres: what is nearer is the car itself, what is farther is sparse and noisy."""
_CELLS = 1 << 20
"""Cells on either side of the origin that a key has room for: 62 km at 6 cm."""


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
    """Scans of many frames in one cloud, thinned as they come, so that memory grows with the scene and not with the frames.

    The first point of a cell of `spacing` stays. Scans wait until they are as many points as the cloud, so that all of them together cost a few
    sorts of the whole and not one each.
    """

    def __init__(self, spacing: float = 0.06) -> None:
        self.spacing = spacing
        self.scans = 0
        self.empty = 0
        """Scans without a single point in range."""
        self._origin: np.ndarray | None = None
        self._kept: dict[str, np.ndarray] = {}
        self._waiting: list[dict[str, np.ndarray]] = []
        self._final: dict[str, np.ndarray] | None = None

    def add(
        self,
        points: np.ndarray,  # (n, 3) scanner frame, straightened
        to_world: np.ndarray,  # (4, 4)
    ) -> None:
        """A scan; what is nearer than NEAREST or farther than FARTHEST is left out."""
        distance = np.linalg.norm(points, axis=1)
        points = points[(distance > NEAREST) & (distance < FARTHEST)]
        self.add_world(points @ to_world[:3, :3].T + to_world[:3, 3])

    def add_world(
        self,
        points: np.ndarray,  # (n, 3) world
        **beside: np.ndarray,  # (n, ...) what is known of each point, the same names in every call
    ) -> None:
        """Points as they are."""
        self.scans += 1
        self._final = None
        if not len(points):
            self.empty += 1
            return
        if self._origin is None:
            # world coordinates may be millions of metres: float32 is for what is left
            self._origin = np.array(points[0], np.float64)
        local = (points - self._origin).astype(np.float32)
        self._waiting.append(self._thinned({"points": local, **beside}))
        if sum(len(each["points"]) for each in self._waiting) > len(self._kept.get("points", ())):
            self._merge()

    def cloud(self) -> np.ndarray | None:
        """(m, 3) float64 world points, one a cell of `spacing`, less those with fewer than 2 others within 0.4 m; None without points."""
        found = self._finished()
        return None if not found else found["points"].astype(np.float64) + self._origin

    def checked_cloud(self, source: Path, notes: list[str]) -> np.ndarray | None:
        """As `cloud`, of scans from `source`: None if there was none, a note of empty ones, and UserError if none has a point to keep."""
        if not self.scans:
            return None
        found = self.cloud()
        if found is None:
            raise UserError(
                f"{source}: {self.scans} scans without a point between {NEAREST:g} and {FARTHEST:g} m that has neighbours; "
                "they are empty or not in metres"
            )
        if self.empty:
            notes.append(
                f"{self.empty} of {self.scans} scans have no point between {NEAREST:g} and {FARTHEST:g} m"
            )
        return found

    def beside(self, name: str) -> np.ndarray | None:
        """(m, ...) what was given by `name` for the points of `cloud`; None without points."""
        return self._finished().get(name)

    def _finished(self) -> dict[str, np.ndarray]:
        if self._final is None:
            self._merge()
            self._final = {}
            if self._kept:
                from scipy.spatial import cKDTree

                points = self._kept["points"]
                if len(points) > 2:
                    near = cKDTree(points).query(points, k=3, workers=-1)[0][:, -1] < 0.4
                else:
                    near = np.zeros(len(points), bool)
                self._final = (
                    {name: values[near] for name, values in self._kept.items()} if near.any() else {}
                )
        return self._final

    def _merge(self) -> None:
        parts = ([self._kept] if self._kept else []) + self._waiting
        self._waiting = []
        if len(parts) == 1:
            self._kept = parts[0]
        elif parts:
            self._kept = self._thinned(
                {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            )

    def _thinned(self, part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        cells = np.floor(part["points"] / self.spacing).astype(np.int64)
        if np.abs(cells).max() >= _CELLS:
            reach = np.abs(part["points"]).max() / 1000
            raise UserError(
                f"scans lie up to {reach:.4g} km apart, more than any drive; the poses are wrong or not in metres"
            )
        cells += _CELLS
        _, first = np.unique(cells[:, 0] << 42 | cells[:, 1] << 21 | cells[:, 2], return_index=True)
        first.sort()
        return {name: values[first] for name, values in part.items()}
