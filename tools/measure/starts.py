"""Starts for a least-squares fit to all points, without a random search: closed forms, and a grid of axis directions.

A cylinder or cone through few points has several local minima, so every direction of the grid is tried and the best few refined.
"""

from __future__ import annotations

import numpy as np

from .frame import Frame, axes_from
from .least_squares import refine
from .primitives import Primitive

__all__ = ["best_start", "starts"]

_MOST_POINTS = 1500
_DIRECTIONS = 48
_REFINED = 8


def best_start(
    primitive: Primitive, points: np.ndarray, fixed: tuple[str, ...] = (), axis: np.ndarray | None = None
) -> Frame:
    """The start whose least-squares fit to (a regular subset of) the points has the smallest residuals."""
    part = np.ascontiguousarray(points[:: -(-len(points) // _MOST_POINTS)])
    best, least = None, np.inf
    for frame in starts(primitive, part, axis):
        solution = refine(primitive, part, frame, fixed=fixed, iterations=40, tolerance=1e-9)
        if solution.squares < least and np.isfinite(solution.frame.origin).all():
            best, least = solution.frame, solution.squares
    return best


def starts(primitive: Primitive, points: np.ndarray, axis: np.ndarray | None = None) -> list[Frame]:
    """Frames to refine; `axis` (3,) restricts them to one direction."""
    centroid = points.mean(axis=0)
    spread = points - centroid
    principal = (
        np.linalg.svd(spread, full_matrices=False)[2] if len(points) >= 3 else np.linalg.svd(spread)[2]
    )
    if primitive.name == "line":
        return [Frame.from_axis(centroid, principal[0] if axis is None else axis)]
    if primitive.name == "plane":
        return [Frame.from_axis(centroid, principal[2] if axis is None else axis)]
    if primitive.name == "sphere":
        solution = _least_squares(
            np.column_stack([2 * spread, np.ones(len(points))]), (spread**2).sum(axis=1)
        )
        radius = np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 1e-300))
        return [Frame.from_axis(centroid + solution[:3], [0, 0, 1.0], (radius,))]
    if primitive.name in ("circle", "ring") and axis is None:
        axis = principal[2]
    directions = [axis] if axis is not None else [*principal, *_hemisphere(_DIRECTIONS)]
    found = []
    for direction in directions:
        axes = axes_from(np.asarray(direction, np.float64))
        for cost, origin, sizes in _ABOUT[primitive.name](spread @ axes.T):
            if np.isfinite(cost):
                found.append((cost, Frame(centroid + origin @ axes, axes, sizes)))
    found.sort(key=lambda item: item[0])
    return [frame for _, frame in found[:_REFINED]]


def _circular(local: np.ndarray):
    """Circle, ring, cylinder: the algebraic circle across the axis, with the centring of Coope (JOTA 76 (1993) 381)."""
    x, y = local[:, 0], local[:, 1]
    a, b, c = _least_squares(np.column_stack([2 * x, 2 * y, np.ones(len(x))]), x * x + y * y)
    radius = np.sqrt(max(c + a * a + b * b, 1e-300))
    cost = np.square(np.hypot(x - a, y - b) - radius).mean()
    yield cost, np.array([a, b, 0.0]), np.array([radius, 0.0])


def _conical(local: np.ndarray):
    """x^2 + y^2 = 2 a x + 2 b y + p z^2 + q z + c: a circular cone about the axis, when p is positive."""
    x, y, z = local.T
    a, b, p, q, _ = _least_squares(np.column_stack([2 * x, 2 * y, z * z, z, np.ones(len(x))]), x * x + y * y)
    rho = np.hypot(x - a, y - b)
    for slope, at in (_line_through(z, rho), (np.sqrt(max(p, 1e-12)) * (1 if q >= 0 else -1), None)):
        at = rho.mean() - slope * z.mean() if at is None else at
        angle = np.arctan(slope)
        cost = np.square((rho - slope * z - at) * np.cos(angle)).mean()
        yield cost, np.array([a, b, 0.0]), np.array([at * np.cos(angle), angle])


def _toroidal(local: np.ndarray):
    """The ring of the points' mean distance from the axis through the circle across it; the tube is what is left."""
    for _, origin, sizes in _circular(local):
        x, y, z = (local - origin).T
        for major in (sizes[0], np.hypot(x, y).mean()):
            height = z.mean()
            minor = np.hypot(np.hypot(x, y) - major, z - height).mean()
            cost = np.square(np.hypot(np.hypot(x, y) - major, z - height) - minor).mean()
            yield cost, origin + np.array([0.0, 0.0, height]), np.array([major, minor])


_ABOUT = {"circle": _circular, "ring": _circular, "cylinder": _circular, "cone": _conical, "torus": _toroidal}


def _line_through(z: np.ndarray, rho: np.ndarray) -> tuple[float, float]:
    slope, at = _least_squares(np.column_stack([z, np.ones(len(z))]), rho)
    return slope, at


def _least_squares(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(matrix, rhs, rcond=None)[0]


def _hemisphere(count: int) -> np.ndarray:
    """(count, 3) directions spread evenly over a half sphere (Fibonacci spiral)."""
    i = np.arange(count) + 0.5
    z, turn = 1 - i / count, np.pi * (1 + 5**0.5) * i
    across = np.sqrt(1 - z * z)
    return np.column_stack([across * np.cos(turn), across * np.sin(turn), z])
