"""Primitives through minimal samples: the hypotheses of the robust search, many at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .primitives import Primitive

__all__ = ["Hypotheses", "circumcircle", "hypotheses"]

_LEAST_SINE = 0.05  # of the angle between two directions whose cross product is to be believed


class Hypotheses(NamedTuple):
    origins: np.ndarray  # (h, 3)
    axes: np.ndarray  # (h, 3) unit
    sizes: np.ndarray  # (h, 2)


def hypotheses(
    primitive: Primitive,
    points: np.ndarray,  # (h, m, 3) samples
    normals: np.ndarray | None,  # (h, m, 3) unit, either side; for cylinder, cone and torus
    axis: np.ndarray | None = None,  # (3,) given direction: cylinders and rings through three points then
) -> Hypotheses:
    """The primitives through the samples; degenerate samples are left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if axis is not None and primitive.name == "plane":
            found = points[:, 0], np.broadcast_to(axis, points[:, 0].shape), np.zeros((len(points), 2))
        elif axis is not None and primitive.name == "line":
            found = points[:, 0], np.broadcast_to(axis, points[:, 0].shape), np.zeros((len(points), 2))
        elif axis is not None and primitive.name in ("cylinder", "ring", "circle"):
            found = _along(points, axis)
        else:
            found = _SOLVERS[primitive.name](points, normals)
    origins, axes, sizes = found
    length = np.linalg.norm(axes, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        axes = axes / length
    good = np.isfinite(origins).all(axis=1) & np.isfinite(axes).all(axis=1) & np.isfinite(sizes).all(axis=1)
    return Hypotheses(origins[good], axes[good], sizes[good])


def circumcircle(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (h, 3), normal (h, 3, not unit) and radius (h,) of the circles through (h, 3, 3) points."""
    a, b = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    normal = np.cross(a, b)
    aa, bb, nn = (
        (a * a).sum(1, keepdims=True),
        (b * b).sum(1, keepdims=True),
        (normal * normal).sum(1, keepdims=True),
    )
    to_centre = np.cross(aa * b - bb * a, normal) / (2 * nn)
    return points[:, 0] + to_centre, normal, np.linalg.norm(to_centre, axis=1)


def _sizes(first: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    return np.stack([first, np.zeros_like(first) if second is None else second], axis=1)


def _line(points, _):
    return points[:, 0], points[:, 1] - points[:, 0], np.zeros((len(points), 2))


def _plane(points, _):
    normal = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    return points[:, 0], normal, np.zeros((len(points), 2))


def _circle(points, _):
    centre, normal, radius = circumcircle(points)
    return centre, normal, _sizes(radius)


def _sphere(points, _):
    rows = points[:, 1:] - points[:, :1]
    centre = points[:, 0] + _solve3(rows, (rows**2).sum(axis=2) / 2)
    radius = np.linalg.norm(points[:, 0] - centre, axis=1)
    return centre, np.broadcast_to([0.0, 0.0, 1.0], centre.shape), _sizes(radius)


def _cylinder(points, normals):
    """Two points with normals: the axis is perpendicular to both, the centre where the normals meet across it."""
    axis = np.cross(normals[:, 0], normals[:, 1])
    sine = np.linalg.norm(axis, axis=1)
    axis = np.where((sine > _LEAST_SINE)[:, None], axis / sine[:, None], np.nan)
    across = points[:, 1] - points[:, 0]
    # p0 + t n0 and p1 + s n1 meet, seen along the axis
    t = (np.cross(across, normals[:, 1]) * axis).sum(axis=1) / sine
    centre = points[:, 0] + t[:, None] * normals[:, 0]
    offset = points[:, 1] - centre
    other = np.linalg.norm(offset - (offset * axis).sum(axis=1)[:, None] * axis, axis=1)
    return centre, axis, _sizes((np.abs(t) + other) / 2)


def _along(points, axis):
    """Three points and a given direction: the circle through their projections."""
    flat = points - (points @ axis)[..., None] * axis
    centre, _, radius = circumcircle(flat)
    height = (points @ axis).mean(axis=1)
    return centre + height[:, None] * axis, np.broadcast_to(axis, centre.shape), _sizes(radius)


def _cone(points, normals):
    """Three points with normals: the tangent planes meet in the apex; directions from there make equal angles with the axis."""
    apex = _solve3(normals, (normals * points).sum(axis=2))
    direction = points - apex[:, None]
    direction = direction / np.linalg.norm(direction, axis=2, keepdims=True)
    axis = np.cross(direction[:, 1] - direction[:, 0], direction[:, 2] - direction[:, 0])
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    cosine = (direction * axis[:, None]).sum(axis=2).mean(axis=1)
    axis = axis * np.sign(cosine)[:, None]
    angle = np.arccos(np.clip(np.abs(cosine), 0, 1))
    height = ((points - apex[:, None]) * axis[:, None]).sum(axis=2).mean(axis=1)
    angle = np.where((angle > 1e-3) & (angle < 1.55), angle, np.nan)
    return apex + height[:, None] * axis, axis, _sizes(height * np.sin(angle), angle)


def _torus(points, normals):
    """Four points with normals: every normal meets the axis (linear in Pluecker coordinates), and pairs meet in the spine circle.

    The lines that meet four given lines are the two roots of a quadratic; both become hypotheses.
    """
    moments = np.cross(points, normals)
    ok = np.isfinite(moments).all(axis=(1, 2))
    rows = np.where(ok[:, None, None], np.concatenate([moments, normals], axis=2), 0.0)
    null = np.linalg.svd(rows)[2][:, 4:]  # (h, 2, 6): direction, moment
    a, b = null[:, 0], null[:, 1]
    aa = (a[:, :3] * a[:, 3:]).sum(1)
    bb = (b[:, :3] * b[:, 3:]).sum(1)
    ab = (a[:, :3] * b[:, 3:]).sum(1) + (b[:, :3] * a[:, 3:]).sum(1)
    root = np.sqrt(np.maximum(ab * ab - 4 * aa * bb, np.where(ab * ab - 4 * aa * bb < 0, np.nan, 0)))
    parts = []
    for sign in (1, -1):
        # alpha a + beta b with aa alpha^2 + ab alpha beta + bb beta^2 = 0, in the form that does not cancel
        half = -(ab + np.where(ab >= 0, 1, -1) * root) / 2
        alpha, beta = (half, aa) if sign == 1 else (bb, half)
        line = alpha[:, None] * a + beta[:, None] * b
        length = np.linalg.norm(line[:, :3], axis=1, keepdims=True)
        axis, moment = line[:, :3] / length, line[:, 3:] / length
        parts.append(_spine(points, normals, np.cross(axis, moment), axis))
    return tuple(np.concatenate(items) for items in zip(*parts))


def _spine(points, normals, foot, axis):
    """Centre and sizes of the torus about an axis, from the first two samples turned into one half plane."""
    offset = points[:, :2] - foot[:, None]
    z = (offset * axis[:, None]).sum(axis=2)
    radial = offset - z[..., None] * axis[:, None]
    rho = np.linalg.norm(radial, axis=2)
    n_rho = (normals[:, :2] * radial).sum(axis=2) / rho
    n_z = (normals[:, :2] * axis[:, None]).sum(axis=2)
    det = n_rho[:, 1] * n_z[:, 0] - n_rho[:, 0] * n_z[:, 1]
    det = np.where(np.abs(det) > _LEAST_SINE, det, np.nan)
    d_rho, d_z = rho[:, 1] - rho[:, 0], z[:, 1] - z[:, 0]
    t = (n_rho[:, 1] * d_z - n_z[:, 1] * d_rho) / det
    major, height = rho[:, 0] + t * n_rho[:, 0], z[:, 0] + t * n_z[:, 0]
    minor = (np.hypot(rho - major[:, None], z - height[:, None])).mean(axis=1)
    return foot + height[:, None] * axis, axis, _sizes(np.where(major > 0, major, np.nan), minor)


def _solve3(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Solutions of (h, 3, 3) systems by Cramer's rule; NaN or infinite where singular."""
    a, b, c = np.moveaxis(matrix, 2, 0)
    det = (a * np.cross(b, c)).sum(axis=1)
    return (
        np.stack(
            [(rhs * np.cross(b, c)).sum(1), (a * np.cross(rhs, c)).sum(1), (a * np.cross(b, rhs)).sum(1)],
            axis=1,
        )
        / det[:, None]
    )


_SOLVERS = {
    "line": _line,
    "plane": _plane,
    "circle": _circle,
    "sphere": _sphere,
    "cylinder": _cylinder,
    "cone": _cone,
    "torus": _torus,
}
