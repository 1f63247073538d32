"""Where the subject of a capture is: the cube that a field spends its resolution on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Extent", "cube_around", "extent_from_cameras"]


@dataclass(frozen=True)
class Extent:
    """An axis-aligned cube in the source frame."""

    centre: np.ndarray
    """(3,) float64."""
    half_side: float
    """Source units."""
    bounded: bool
    """True: there is nothing outside the cube. False: the rest of the world goes on beyond it."""

    def contains(
        self,
        points: np.ndarray,  # (m, 3)
    ) -> np.ndarray:  # (m,) bool
        """Which points lie in the cube."""
        return (np.abs(np.asarray(points) - self.centre) <= self.half_side).all(axis=-1)

    def to_json(self) -> dict:
        return {
            "centre": [float(x) for x in self.centre],
            "half_side": float(self.half_side),
            "bounded": bool(self.bounded),
        }

    @staticmethod
    def from_json(value: dict) -> Extent:
        return Extent(np.array(value["centre"], float), float(value["half_side"]), bool(value["bounded"]))


def _meeting_point(
    origins: np.ndarray,  # (n, 3)
    directions: np.ndarray,  # (n, 3) unit
) -> tuple[np.ndarray, float]:
    """The point nearest to all optical axes, and how well they fix it.

    `render.cameras.focus_point` asks the same for a camera path, where a point is wanted whatever the cameras do; here
    it must not follow the few that look elsewhere, and it must be known when there is none.

    Least squares on the distances to the lines, iterated with weights 1 / distance (so the sum of distances
    is minimised and a few cameras that look elsewhere do not pull). The second value is the smallest
    eigenvalue of the mean projector: the mean squared sine of the axes to their common direction; 0 for
    parallel axes.
    """
    projectors = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    spread = max(float(np.linalg.eigvalsh(projectors.mean(0))[0]), 0.0)
    weights = np.ones(len(origins))
    middle = point = origins.mean(0)
    for _ in range(20):
        # The small ridge keeps parallel axes solvable: it prefers the point nearest to the cameras.
        ridge = 1e-9 * weights.sum()
        matrix = np.einsum("n,nij->ij", weights, projectors) + ridge * np.eye(3)
        target = np.einsum("n,nij,nj->i", weights, projectors, origins) + ridge * middle
        point = np.linalg.solve(matrix, target)
        distance = np.linalg.norm(np.einsum("nij,nj->ni", projectors, point - origins), axis=1)
        weights = 1 / np.maximum(distance, 1e-3 * max(float(np.median(distance)), 1e-12))
    return point, spread


def extent_from_cameras(
    camera_to_world: np.ndarray,  # (n, 4, 4) OpenCV axes
    half_widths: np.ndarray,  # (n,) tangent of half the narrower field of view
    points: np.ndarray | None = None,  # (m, 3) what the cameras saw, if known
    near_far: tuple[float, float] | None = None,  # z_depth range of the scene, if known
    bounded: bool = False,
) -> Extent:
    """A cube that holds the subject and all cameras.

    A field over an unbounded scene keeps full resolution inside the cube and compresses what is outside, so
    the cube must contain the subject; and it should contain the cameras, because what lies between camera
    and subject is seen largest of all and rays then start where the field is uncompressed. Three kinds of
    capture:

    - looking inwards (optical axes meet in front of most cameras): the smallest cube around the cameras and
      a subject as wide as the median view is at the focus point. For a walk all around, its centre is about
      the focus and the cameras sit at its faces; for a capture from one side (fox) it is much smaller than
      a cube centred at the focus would be, so more of the field's resolution goes to what was seen.
    - looking forward (axes within about 11 degrees of parallel): a cube before the cameras, from them to
      min(far, 3 near), from `near_far`, else from the 5 % and 95 % quantiles of the points' z_depth, else
      from the spread of the cameras (ten times it, the depth at which they converge by about six degrees).
    - looking outwards (the axes meet behind the cameras): around the cameras and the inner 80 % of the
      points, else twice the cameras' spread.

    `bounded` (an object cut out of its background) keeps the subject's cube alone, a quarter wider: rays
    enter it from outside, and what stuck out of it would be lost. Cameras farther from the median camera
    than five times the median such distance count as strays.
    """
    origins, directions = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    from_middle = np.linalg.norm(origins - np.median(origins, axis=0), axis=1)
    kept = from_middle <= 5 * max(float(np.median(from_middle)), 1e-12) + 1e-12
    origins, directions, half_widths = origins[kept], directions[kept], half_widths[kept]
    spread = float(np.linalg.norm(origins - origins.mean(0), axis=1).max())
    if points is not None:
        points = np.asarray(points, np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        points = points if len(points) >= 20 else None

    focus, angular_spread = _meeting_point(origins, directions)
    along = np.einsum("ni,ni->n", focus - origins, directions)
    if angular_spread < 0.04:
        return _forward(origins, directions, points, near_far, spread)
    if np.mean(along > 0) < 0.5:
        corners = [origins]
        if points is not None:
            corners.append(np.quantile(points, (0.1, 0.9), axis=0))
        else:
            corners.append(origins.mean(0) + 2 * max(spread, 1e-6) * np.array([[-1.0], [1.0]]))
        return cube_around(np.concatenate(corners), bounded=False)
    ahead = along > 0
    half = float(np.median(along[ahead] * half_widths[ahead]))
    subject = focus + half * np.array([[-1.0], [1.0]])
    if bounded:
        return Extent(focus, 1.25 * half, bounded=True)
    return cube_around(np.concatenate([origins, subject]), bounded=False)


def _forward(
    origins: np.ndarray,
    directions: np.ndarray,
    points: np.ndarray | None,
    near_far: tuple[float, float] | None,
    spread: float,
) -> Extent:
    forward = directions.mean(0)
    forward /= np.linalg.norm(forward)
    middle = origins.mean(0)
    if near_far is None and points is not None:
        z_depth = (points - middle) @ forward
        z_depth = z_depth[z_depth > 0]
        if len(z_depth) >= 20:
            near_far = (float(np.quantile(z_depth, 0.05)), float(np.quantile(z_depth, 0.95)))
    reach = 10 * spread if near_far is None else min(near_far[1], 3 * near_far[0])
    reach = max(reach, 2 * spread, 1e-6)
    centre = middle + forward * reach / 2
    half = max(reach / 2, float(np.abs(origins - centre).max()))
    return Extent(centre, half * 1.02, bounded=False)


def cube_around(
    points: np.ndarray,  # (m, 3)
    bounded: bool,
) -> Extent:
    """The smallest axis-aligned cube around `points`, with 2 % to spare."""
    low, high = points.min(0), points.max(0)
    return Extent((low + high) / 2, max(float((high - low).max()) / 2 * 1.02, 1e-6), bounded)
