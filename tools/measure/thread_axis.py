"""The axis of a part that is nearly a body of revolution: where to look for it, and how to polish a guess.

A bolt has no cylinder that fits it, and the principal axes of a short or half-seen one are wrong by degrees. What survives threads,
heads, steps and half views is that sections across the axis are circles about it: their centres lie on a line.
"""

from __future__ import annotations

import numpy as np

__all__ = ["axis_frame", "axis_seeds", "circle_centres", "polish_axis", "unroll"]

_SLABS = 32
_SAMPLE_NORMALS = 1500
_NEIGHBOURS = 12


def axis_frame(direction: np.ndarray) -> np.ndarray:  # (3,), any length above 0
    """(3, 3) float64 whose rows u, v, a are right-handed and a is along `direction`.

    u, the reference of angles about the axis, is the x axis of the cloud made perpendicular to a (its y axis, where a lies
    within 26 degrees of x).
    """
    a = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    reference = np.array([0.0, 1.0, 0.0]) if abs(a[0]) > 0.9 else np.array([1.0, 0.0, 0.0])
    u = reference - (reference @ a) * a
    u /= np.linalg.norm(u)
    return np.stack([u, np.cross(a, u), a])


def unroll(
    points: np.ndarray,  # (n, 3)
    point: np.ndarray,  # (3,) on the axis: z is 0 there
    direction: np.ndarray,  # (3,)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cylinder coordinates about an axis: angle (n,) in radians from `axis_frame`'s u towards v, z (n,) and radius (n,)."""
    x, y, z = axis_frame(direction) @ (np.asarray(points, np.float64) - point).T
    return np.arctan2(y, x), z, np.hypot(x, y)


def axis_seeds(
    points: np.ndarray,  # (n, 3)
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Guesses (point, direction) at the axis: principal axes of the points and of their local normals, no two within 5 degrees.

    For a body of revolution seen from all around one of the points' principal axes is the axis, whatever its proportions. From one side
    that fails, and the normals help: those of flanks lie near the axis, those of a plain shank across it.
    """
    from scipy.spatial import cKDTree

    centre = np.median(points, axis=0)
    _, _, axes = np.linalg.svd(points - points.mean(0), full_matrices=False)
    directions = list(axes)
    chosen = rng.choice(len(points), min(len(points), _SAMPLE_NORMALS), replace=False)
    _, near = cKDTree(points).query(points[chosen], k=min(_NEIGHBOURS, len(points)))
    patch = points[near] - points[near].mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", patch, patch))[1][:, :, 0]
    directions += list(np.linalg.eigh(normals.T @ normals)[1].T[::-1])
    distinct: list[np.ndarray] = []
    for direction in directions:
        if all(abs(direction @ other) < np.cos(np.deg2rad(5)) for other in distinct):
            distinct.append(direction)
    return [(centre, direction) for direction in distinct]


def circle_centres(
    x: np.ndarray,  # (n,)
    y: np.ndarray,  # (n,)
    group: np.ndarray,  # (n,) int in [0, groups)
    groups: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Taubin's algebraic circle of every group at once: centres (groups, 2), radii (groups,), and points in each (groups,).

    Groups of fewer than 8 points have NaN. Taubin, IEEE PAMI 13 (1991); in the Newton form of Chernov, Circular and Linear
    Regression (2010), section 5.10, which keeps radius and centre almost unbiased on short arcs, unlike Kasa's.
    """
    count = np.bincount(group, minlength=groups).astype(np.float64)
    few = count < 8
    safe = np.maximum(count, 1.0)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, groups) / safe

    mx, my = mean(x), mean(y)
    dx, dy = x - mx[group], y - my[group]
    q = dx * dx + dy * dy
    xx, yy, xy, xq, yq, qq = (mean(v) for v in (dx * dx, dy * dy, dx * dy, dx * q, dy * q, q * q))
    q0 = xx + yy
    cov = xx * yy - xy * xy
    variance = qq - q0 * q0
    a3, a2 = 4 * q0, -3 * q0 * q0 - qq
    a1 = variance * q0 + 4 * cov * q0 - xq * xq - yq * yq
    a0 = xq * (xq * yy - yq * xy) + yq * (yq * xx - xq * xy) - variance * cov
    t = np.zeros(groups)
    with np.errstate(all="ignore"):
        for _ in range(12):  # Newton from 0 reaches the smallest root from below
            t = t - (a0 + t * (a1 + t * (a2 + t * a3))) / (a1 + t * (2 * a2 + t * 3 * a3))
        det = t * t - t * q0 + cov
        cx = (xq * (yy - t) - yq * xy) / det / 2
        cy = (yq * (xx - t) - xq * xy) / det / 2
        radius = np.sqrt(cx * cx + cy * cy + q0)
    centres = np.stack([cx + mx, cy + my], axis=1)
    centres[few], radius[few] = np.nan, np.nan
    return centres, radius, count


def polish_axis(
    points: np.ndarray,  # (n, 3)
    point: np.ndarray,  # (3,)
    direction: np.ndarray,  # (3,)
    *,
    rounds: int = 4,
) -> tuple[np.ndarray, np.ndarray] | None:
    """(point, direction) of the line nearest the centres of the sections across the guess; None where sections are no circles.

    Each round cuts the points in slabs, fits a circle to each and a line to the centres, weighted by their exactness and with
    outlying sections losing their say (Cauchy's weights).
    """
    for _ in range(rounds):
        frame = axis_frame(direction)
        x, y, z = frame @ (points - point).T
        low, high = z.min(), z.max()
        if not high > low:
            return None
        slab = np.minimum(((z - low) / (high - low) * _SLABS).astype(np.int64), _SLABS - 1)
        centres, radius, count = circle_centres(x, y, slab, _SLABS)
        off = (np.hypot(x - centres[slab, 0], y - centres[slab, 1]) - radius[slab]) ** 2
        spread = np.sqrt(np.bincount(slab, off, _SLABS) / np.maximum(count, 1))
        usable = np.isfinite(centres).all(axis=1) & np.isfinite(spread) & (spread < 0.3 * radius)
        if usable.sum() < 4:
            return None
        height = low + (np.arange(_SLABS) + 0.5) * (high - low) / _SLABS
        line = _robust_line(
            height[usable],
            centres[usable],
            count[usable] / (spread[usable] ** 2 + (1e-3 * radius[usable]) ** 2),
        )
        if line is None:
            return None
        at, slope = line
        middle = float(np.median(z))
        point = point + np.array([*(at + slope * middle), middle]) @ frame
        direction = np.array([*slope, 1.0]) @ frame
        direction /= np.linalg.norm(direction)
    return point, direction


def _robust_line(
    z: np.ndarray, xy: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:  # (k,), (k, 2), (k,)
    """xy = at + slope z by iteratively reweighted least squares."""
    base = weight / weight.sum()
    weight = base
    for _ in range(8):
        total = weight.sum()
        mean_z, mean_xy = weight @ z / total, weight @ xy / total
        spread = weight @ (z - mean_z) ** 2
        if not spread > 0:
            return None
        slope = (weight * (z - mean_z)) @ (xy - mean_xy) / spread
        at = mean_xy - slope * mean_z
        off = np.linalg.norm(xy - at - z[:, None] * slope, axis=1)
        scale = max(float(np.median(off)) * 2, 1e-12)
        weight = base / (1 + (off / scale) ** 2)
    return at, slope
