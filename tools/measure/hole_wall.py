"""What lies below the rim of a hole: the bore's wall as a cylinder, a countersink as a cone, the floor of a blind hole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import NotMeasurable
from .estimate import Estimate, final_fit
from .frame import Frame
from .hole_edge import HoleEdge
from .primitives import PRIMITIVES

__all__ = ["Bore", "HoleWall", "fit_wall"]

_CLEAR = 4.0  # sigma below the face: no point of the face lies there
_FEWEST = 30  # points of a wall
_LEAST_ARC = 100.0  # degrees: below, a cylinder's radius says little
_SECTORS = 36
_LEANS = 0.8  # scatter about an axis of its own, over that about the normal
_WIDEST = 1.6  # scatter of a wall's points, over that of the face and the rim together
_OWN_AXIS = 0.5  # depth over radius from which on the bore is given an axis of its own
_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Bore:
    """A cylinder about the face's normal."""

    centre: np.ndarray
    """(2,)"""
    radius: float
    covariance: np.ndarray
    """(3, 3) of centre and radius."""
    sigma: float
    depth: tuple[float, float]
    """Heights between which the wall was seen, the lower first."""
    arc_deg: float
    """Of the sectors of 10 degrees that hold points of it."""
    n_used: int
    cylinder: Estimate | None = None
    """With an axis of its own, where it is deep enough."""


@dataclass(frozen=True)
class HoleWall:
    """In the face's coordinates u, v, height."""

    bore: Bore | None
    countersink: Estimate | None
    """A cone about the face's normal; its frame's origin lies in the face."""


def fit_wall(
    points: np.ndarray,  # (n, 3) u, v, height
    edge: HoleEdge,  # of a round hole
    sigma: float,  # of the face's heights
) -> HoleWall:
    """What of the wall below the rim can be told.

    The bore is the radius at which most points lie one above the other. Points between it and a wider rim are a countersink's.
    """
    scatter = float(np.hypot(sigma, edge.blur))
    offset = points[:, :2] - edge.centre
    rho, height = np.hypot(offset[:, 0], offset[:, 1]), points[:, 2]
    inside = (
        (height < -_CLEAR * sigma)
        & (rho < edge.radius + max(4 * scatter, 0.05 * edge.radius))
        & (height > -12 * edge.radius)
    )
    if inside.sum() < _FEWEST:
        return HoleWall(None, None)
    points, rho, height = points[inside], rho[inside], height[inside]
    bore = _bore(points, rho, edge, scatter)
    narrow = bore.radius if bore else 0.3 * edge.radius
    cone = None
    if edge.radius - narrow > max(5 * scatter, 0.05 * narrow):
        cone = _countersink(points, rho, height, edge, narrow, scatter)
    return HoleWall(bore, cone)


def _bore(points: np.ndarray, rho: np.ndarray, edge: HoleEdge, scatter: float) -> Bore | None:
    radius = _bore_radius(rho, edge.radius, scatter)
    if radius is None:
        return None
    near = np.ascontiguousarray(points[np.abs(rho - radius) < max(0.1 * radius, 6 * scatter)])
    start = Frame.from_axis([*edge.centre, 0.0], _UP, [radius])
    try:
        ring = final_fit(PRIMITIVES["ring"], near, start, sigma=scatter)
    except NotMeasurable:
        return None
    used = near[ring.sides.inside]
    offset = used[:, :2] - ring.frame.origin[:2]
    sector = ((np.arctan2(offset[:, 1], offset[:, 0]) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    counts = np.bincount(sector, minlength=_SECTORS)
    arc = (
        360.0 / _SECTORS * float((counts > max(0.1 * np.median(counts[counts > 0]), 2)).sum())
        if len(used)
        else 0.0
    )
    if len(used) < _FEWEST or arc < _LEAST_ARC or not np.isfinite(ring.covariance).all():
        return None
    low, high = (float(q) for q in np.quantile(used[:, 2], [0.01, 0.99]))
    found, cylinder = float(ring.frame.sizes[0]), None
    if high - low > _OWN_AXIS * found:
        middle = Frame.from_axis([*ring.frame.origin[:2], (low + high) / 2], _UP, ring.frame.sizes)
        try:
            cylinder = final_fit(PRIMITIVES["cylinder"], near, middle, sigma=ring.sigma)
        except NotMeasurable:
            cylinder = None
    if cylinder is not None and cylinder.sigma < _LEANS * ring.sigma:
        return _leaning(near, cylinder, arc, scatter)
    if ring.sigma > _WIDEST * scatter:
        return None
    turn = np.eye(3)
    turn[:2, :2] = ring.frame.axes[:2, :2].T  # from the fit's own x and y to u and v
    return Bore(
        centre=ring.frame.origin[:2],
        radius=found,
        covariance=turn @ ring.covariance @ turn.T,
        sigma=ring.sigma,
        depth=(low, high),
        arc_deg=arc,
        n_used=len(used),
        cylinder=cylinder,
    )


def _leaning(near: np.ndarray, cylinder: Estimate, arc: float, scatter: float) -> Bore | None:
    """A bore whose axis leans so much that about the normal it is no cylinder: its centre is where the axis meets the face."""
    if cylinder.sigma > _WIDEST * scatter:
        return None
    origin, axis = cylinder.frame.origin, cylinder.frame.axis
    along = -origin[2] / axis[2]
    values, jacobians = PRIMITIVES["cylinder"].parameters(cylinder.frame)
    place = jacobians["axis_point"] + along * jacobians["axis_direction"]
    rows = np.concatenate([place[:2] - np.outer(axis[:2] / axis[2], place[2]), jacobians["radius"]])
    used = near[cylinder.sides.inside]
    low, high = (float(q) for q in np.quantile(used[:, 2], [0.01, 0.99]))
    return Bore(
        centre=(origin + along * axis)[:2],
        radius=float(values["radius"]),
        covariance=rows @ cylinder.covariance @ rows.T,
        sigma=cylinder.sigma,
        depth=(low, high),
        arc_deg=arc,
        n_used=len(used),
        cylinder=cylinder,
    )


def _bore_radius(rho: np.ndarray, rim: float, scatter: float) -> float | None:
    """The radius that most points have, counted in windows four scatters wide; None where none stands out of an even spread."""
    width = max(scatter / 2, rim / 500)
    counts = np.bincount((rho / width).astype(np.int64)).astype(np.float64)
    window = np.convolve(counts, np.ones(9), "same")
    radii = (np.arange(len(counts)) + 0.5) * width
    window[radii < 0.2 * rim] = 0
    best = int(np.argmax(window))
    # a floor or a background seen through the hole spreads as its area does
    even = len(rho) * 9 * width * 2 * radii[best] / max((rim + 4 * scatter) ** 2, 1e-300)
    if window[best] < _FEWEST or window[best] < 2 * min(even, len(rho) / 3):
        return None
    near = np.abs(rho - radii[best]) < 4.5 * width
    return float(np.median(rho[near]))


def _countersink(
    points: np.ndarray, rho: np.ndarray, height: np.ndarray, edge: HoleEdge, narrow: float, scatter: float
) -> Estimate | None:
    clear = 3 * scatter
    between = (
        (rho > narrow + clear) & (rho < edge.radius - 0.5 * clear) & (height > -6 * (edge.radius - narrow))
    )
    if between.sum() < _FEWEST:
        return None
    own, r, h = points[between], rho[between], height[between]
    # of the slopes that lead from the rim to each point, the median
    slope = float(np.median((edge.radius - r) / np.maximum(-h, 1e-12)))
    angle = float(np.arctan(np.clip(slope, 0.1, 6.0)))
    start = Frame.from_axis([*edge.centre, 0.0], _UP, [edge.radius * np.cos(angle), angle])
    try:
        cone = final_fit(
            PRIMITIVES["cone"], np.ascontiguousarray(own), start, sigma=2 * scatter, fixed=("axis",)
        )
    except NotMeasurable:
        return None
    radius = float(cone.frame.sizes[0] / np.cos(cone.frame.sizes[1]))
    fits = cone.sides.used > 0.5 * len(own) and cone.sigma < _WIDEST * scatter
    apart = abs(radius - edge.radius) + np.hypot(*(cone.frame.origin[:2] - edge.centre))
    return cone if fits and 0.15 < cone.frame.sizes[1] < 1.4 and apart < 0.2 * edge.radius else None
