"""Interpolation of positions and rotations between knots."""

from __future__ import annotations

import numpy as np

__all__ = ["catmull_rom", "slerp_between"]


def catmull_rom(
    points: np.ndarray,  # (k, 3)
    at: np.ndarray,  # (m,) in [0, k - 1]: the integer part names the knot
    *,
    loop: bool = False,
    linear: bool = False,
) -> np.ndarray:  # (m, 3)
    """Uniform Catmull-Rom spline (Catmull and Rom 1974) through `points`, or the straight lines between them.

    Open ends continue in a straight line; with `loop` (the last point repeats the first) the tangent there is
    continuous too.
    """
    if len(points) == 1:
        return np.repeat(points, len(at), axis=0)
    knot = np.clip(at.astype(np.int64), 0, len(points) - 2)
    t = (at - knot)[:, None]
    if linear:
        return points[knot] * (1 - t) + points[knot + 1] * t
    before = points[-2] if loop else 2 * points[0] - points[1]
    after = points[1] if loop else 2 * points[-1] - points[-2]
    p0, p1, p2, p3 = (np.concatenate([[before], points, [after]])[knot + i] for i in range(4))
    return 0.5 * (
        2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3
    )


def slerp_between(
    rotations: np.ndarray,  # (k, 3, 3)
    at: np.ndarray,  # (m,) in [0, k - 1]
) -> np.ndarray:  # (m, 3, 3)
    """Rotations at constant angular speed between neighbouring knots (Shoemake 1985), the shorter way
    round.
    """
    from scipy.spatial.transform import Rotation, Slerp

    if len(rotations) == 1:
        return np.repeat(rotations, len(at), axis=0)
    return Slerp(np.arange(len(rotations)), Rotation.from_matrix(rotations))(at).as_matrix()
