"""The edge of a hole by maximum likelihood: where the density of points falls off, not where the innermost points lie.

Points on a plane with density lambda, each moved sideways by a Gaussian of standard deviation s (blur), leave a hole's edge with density

    lambda(x) [ (1 - e) Phi(t) + e ],   t = (d(x) + s^2 / (2 R)) / s,

d being the signed distance from the outline (positive on the material), Phi the normal distribution, e the share of stray points inside;
s^2 / (2 R) because a blurred disc recedes a little from its own edge. The innermost points are biased by tens of micrometres, this is
not. Density, its slope, blur and e are estimated along. A hole is a circle, or a slot: all points within R of a segment.

The Fisher information per length of edge is lambda / s [a, b; b, c] for (R, s), with a = int phi^2 / Phi = 0.9032, b = -0.5956, c = 1.1035:
not knowing the blur costs a factor 1 / sqrt(1 - b^2 / (a c)) = 1.246 in the radius; holes that share their blur share that cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["HoleEdge", "fit_hole_edge", "radius_bound"]

_A, _B, _C = 0.9031972855611727, -0.5956355968424427, 1.1034681075561923
_LEAST_STRAY = 1e-6
_OUTLINE = 96  # pieces of the outline over which the information is summed


@dataclass(frozen=True)
class HoleEdge:
    """The outline of a hole in the plane of its face."""

    centre: np.ndarray
    """(2,)"""
    radius: float
    blur: float
    """s."""
    half_length: float = 0.0
    """Of the segment between the centres of a slot's round ends; 0 for a circle."""
    angle: float = 0.0
    """Of that segment, radians."""
    slope: np.ndarray | None = None
    """(2,) relative change of density per length."""
    stray: float = _LEAST_STRAY
    """e."""
    density: float = 0.0
    """Points per area beside the hole."""
    covariance: np.ndarray | None = None
    """(3, 3) of centre and radius; of a slot (5, 5), with half_length and angle."""
    blur_sd: float = np.inf
    """Standard deviation of `blur`; 0 where it was given."""
    n_used: int = 0
    """Points in the window."""
    n_edge: int = 0
    """Points within two blurs of the edge."""
    converged: bool = False

    @property
    def is_slot(self) -> bool:
        return self.half_length > 0

    @property
    def area(self) -> float:
        return np.pi * self.radius**2 + 4 * self.half_length * self.radius

    def distance(self, points: np.ndarray) -> np.ndarray:  # (n, 2)
        """(n,) signed distance from the outline, positive outside the hole."""
        along, across = self._local(points)
        return np.hypot(along - np.clip(along, -self.half_length, self.half_length), across) - self.radius

    def _local(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        x, y = points[:, 0] - self.centre[0], points[:, 1] - self.centre[1]
        return c * x + s * y, c * y - s * x

    def outline(self, pieces: int = _OUTLINE) -> tuple[np.ndarray, np.ndarray]:
        """Points on the outline (m, 2) and the length of edge that each stands for (m,)."""
        turn = (np.arange(pieces) + 0.5) / pieces * 2 * np.pi
        along, across = self.radius * np.cos(turn), self.radius * np.sin(turn)
        along = along + np.where(np.cos(turn) > 0, 1, -1) * self.half_length
        length = np.full(pieces, 2 * np.pi * self.radius / pieces)
        if self.is_slot:
            straight = (np.arange(pieces // 2) + 0.5) / (pieces // 2) * 2 - 1
            for side in (1.0, -1.0):
                along = np.concatenate([along, straight * self.half_length])
                across = np.concatenate([across, np.full(len(straight), side * self.radius)])
                length = np.concatenate(
                    [length, np.full(len(straight), 2 * self.half_length / len(straight))]
                )
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre + np.stack([c * along - s * across, s * along + c * across], axis=1), length


def radius_bound(radius: float, density: float, blur: float, *, blur_known: bool = True) -> float:
    """Cramer-Rao bound of the standard deviation of a circle's radius; the centre's is sqrt 2 of the first, per axis."""
    bound = np.sqrt(blur / (_A * 2 * np.pi * radius * density))
    return float(bound if blur_known else bound / np.sqrt(1 - _B**2 / (_A * _C)))


def fit_hole_edge(
    points: np.ndarray,  # (n, 2): all points of the face in the window, and the strays inside
    start: HoleEdge,  # its outline, blur and is_slot
    width: float,  # the window reaches this far beyond the outline of `start`; it must hold nothing but this hole and material
    *,
    blur: float | None = None,  # given, not estimated
    rounds: int = 60,
) -> HoleEdge:
    """BFGS in coordinates in which the expected information is the identity. `converged` is False where the likelihood has no maximum near it.

    The blur is held above a quarter of the mean gap between points along the edge, 1 / (2 pi R density): below, the problem is no
    longer regular and the radius is that of the innermost point, whose own error is of that size.
    """
    window = start.radius + width
    inside = start.distance(points) <= width
    points = points[inside]
    area = np.pi * window**2 + 4 * start.half_length * window
    count = len(points)
    guess = count / max(area - start.area, 1e-300)
    deep = start.distance(points) < -max(0.3 * start.radius, 4 * start.blur)
    core = np.pi * (0.7 * start.radius) ** 2 + 4 * start.half_length * 0.7 * start.radius
    stray = float(np.clip(deep.sum() / max(core * guess, 1e-300), _LEAST_STRAY, 0.5))
    least = 0.25 / (2 * np.pi * start.radius * guess)
    start = replace(start, stray=stray, slope=np.zeros(2), blur=max(blur or start.blur, least))
    anchor, free = start.centre, np.array([k for k in range(_names(start)) if k != 3 or blur is None])
    _, information = _score(points, start, anchor, area, window, count)
    try:
        white = np.linalg.inv(np.linalg.cholesky(information[np.ix_(free, free)])).T
    except np.linalg.LinAlgError:
        return replace(start, n_used=count)

    def negative(y: np.ndarray) -> tuple[float, np.ndarray]:
        change = np.zeros(_names(start))
        change[free] = white @ y
        edge, bend = _moved(start, change, least)
        if edge is None:
            return np.inf, np.zeros(len(free))
        value = _likelihood(points, edge, anchor, area)
        if not np.isfinite(value):
            return np.inf, np.zeros(len(free))
        score, _ = _score(points, edge, anchor, area, window, count, information=False)
        if (
            blur is None
        ):  # the profile's own share of the blur (Cox and Reid 1987): one half per unknown of the place
            places = 2.5 if edge.is_slot else 1.5
            value += places * np.log(edge.blur)
            score[3] += places
        return -value, -(white.T @ (score * bend)[free])

    from scipy.optimize import minimize

    with np.errstate(invalid="ignore"):
        found = minimize(
            negative, np.zeros(len(free)), jac=True, method="BFGS", options={"gtol": 3e-3, "maxiter": rounds}
        )
    change = np.zeros(_names(start))
    change[free] = white @ found.x
    edge, _ = _moved(start, change, least)
    settled = edge is not None and float(np.abs(found.jac).max()) < 0.05
    return _finished(points, edge or start, anchor, area, window, count, blur is not None, least, settled)


def _names(edge: HoleEdge) -> int:
    """Unknowns: centre (2), radius, log blur, slope (2), and of a slot half_length and angle."""
    return 8 if edge.is_slot else 6


def _arguments(points: np.ndarray, edge: HoleEdge) -> tuple[np.ndarray, np.ndarray]:
    """t (n,), and the derivative of the distance by centre, radius, [half length, angle] as rows."""
    along, across = edge._local(points)
    nearest = np.clip(along, -edge.half_length, edge.half_length)
    away = along - nearest
    length = np.hypot(away, across) + 1e-300
    n_along, n_across = away / length, across / length
    c, s = np.cos(edge.angle), np.sin(edge.angle)
    rows = [-(c * n_along - s * n_across), -(s * n_along + c * n_across), -np.ones_like(length)]
    if edge.is_slot:
        rows.append(-n_along * np.sign(nearest) * (np.abs(along) > edge.half_length))
        rows.append(n_along * across - n_across * along)
    curved = np.abs(along) >= edge.half_length
    t = (length - edge.radius + curved * edge.blur**2 / (2 * edge.radius)) / edge.blur
    return t, np.stack(rows)


def _likelihood(points: np.ndarray, edge: HoleEdge, anchor: np.ndarray, area: float) -> float:
    from scipy.special import ndtr

    t, _ = _arguments(points, edge)
    tilt = 1 + (points - anchor) @ edge.slope
    if tilt.min() <= 0.05:
        return -np.inf
    mass = (1 - edge.stray) * ndtr(t) + edge.stray
    return float(
        np.log(mass).sum() + np.log(tilt).sum() - len(points) * np.log(_effective_area(edge, anchor, area))
    )


def _effective_area(edge: HoleEdge, anchor: np.ndarray, area: float) -> float:
    """Integral of density over its value at the anchor: a blurred hole keeps its area and its first moment."""
    return area - (1 - edge.stray) * edge.area * (1 + float(edge.slope @ (edge.centre - anchor)))


def _score(
    points: np.ndarray,
    edge: HoleEdge,
    anchor: np.ndarray,
    area: float,
    window: float,
    count: int,
    *,
    information: bool = True,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradient of the log-likelihood, density eliminated, and the expected information, likewise."""
    from scipy.special import ndtr

    t, rows = _arguments(points, edge)
    hazard = np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi)
    hazard = (1 - edge.stray) * hazard / ((1 - edge.stray) * ndtr(t) + edge.stray)
    x = points - anchor
    tilt = 1 + x @ edge.slope
    size = _names(edge)
    gradient = np.zeros(size)
    by_place = rows @ hazard / edge.blur
    gradient[:3] = by_place[:3]
    gradient[3] = -(hazard @ t)
    gradient[4:6] = (x / tilt[:, None]).sum(axis=0)
    if edge.is_slot:
        gradient[6:] = by_place[3:]
    effective = _effective_area(edge, anchor, area)
    keep = 1 - edge.stray
    lean = 1 + float(edge.slope @ (edge.centre - anchor))
    by_area = np.zeros(size)  # gradient of the effective area
    by_area[:2] = -keep * edge.area * edge.slope
    by_area[2] = -keep * (2 * np.pi * edge.radius + 4 * edge.half_length) * lean
    by_area[4:6] = -keep * edge.area * (edge.centre - anchor)
    if edge.is_slot:
        by_area[6] = -keep * 4 * edge.radius * lean
    gradient -= count * by_area / effective
    if not information:
        return gradient, None
    return gradient, _information(edge, anchor, area, window, count / effective, by_area, effective)


def _information(
    edge: HoleEdge,
    anchor: np.ndarray,
    area: float,
    window: float,
    density: float,
    by_area: np.ndarray,
    effective: float,
) -> np.ndarray:
    size = _names(edge)
    outline, length = edge.outline()
    nudge = 1e-3 * edge.radius  # from outside, where the distance has a gradient
    normal = (outline - edge.centre) / np.maximum(np.linalg.norm(outline - edge.centre, axis=1), 1e-300)[
        :, None
    ]
    _, rows = _arguments(outline + nudge * normal, edge)
    place = np.zeros((size, len(length)))
    place[:3] = rows[:3]
    if edge.is_slot:
        place[6:] = rows[3:]
    blur_row = np.zeros(size)
    blur_row[3] = 1.0
    weight = density * length / edge.blur
    information = _A * (place * weight) @ place.T
    # by t = d / s: dt / d(place) = place / s, dt / d(log s) = -t; integrals over t of phi^2 / Phi times 1, t, t^2
    cross = -_B * edge.blur * (place @ weight)
    information += np.outer(cross, blur_row) + np.outer(blur_row, cross)
    information[3, 3] += _C * edge.blur**2 * weight.sum()
    # the slope of the density: second moments of the window less the hole's, and its lever on the centre
    half, wide = edge.half_length, window
    along = (
        np.pi * wide**4 / 4 + 4 * half * wide * (half**2 / 3 + wide**2 / 4) if half else np.pi * wide**4 / 4
    )
    hole = np.pi * edge.radius**4 / 4
    for k in (4, 5):
        information[k, k] += density * max(along - hole, 1e-12 * along)
    for k in (0, 1):
        information[k, 4 + k] -= density * edge.area
        information[4 + k, k] -= density * edge.area
    return information - density * np.outer(by_area, by_area) / effective


def _moved(start: HoleEdge, change: np.ndarray, least: float) -> tuple[HoleEdge | None, np.ndarray]:
    """The edge after `change`, and d(edge) / d(change) where a bound bends it; None outside the sensible."""
    bend = np.ones(len(change))
    radius = start.radius + float(change[2])
    if not 0.3 * start.radius < radius < 3 * start.radius or np.abs(change[3]) > 6:
        return None, bend
    excess = (
        start.blur * float(np.exp(change[3])) / least - 1
    )  # soft bound: blur = least (1 + softplus(excess))
    blur = least * (1 + float(np.logaddexp(0.0, 4 * excess)) / 4)
    bend[3] = least * (1 + excess) / (1 + np.exp(-min(4 * excess, 700.0))) / blur if excess > -170 else 0.0
    moved = {
        "centre": start.centre + change[:2],
        "radius": radius,
        "blur": blur,
        "slope": start.slope + change[4:6],
    }
    if start.is_slot:
        length = start.half_length + float(change[6])
        if length <= 0:
            return None, bend
        moved |= {"half_length": length, "angle": start.angle + float(change[7])}
    return replace(start, **moved), bend


def _finished(
    points: np.ndarray,
    edge: HoleEdge,
    anchor: np.ndarray,
    area: float,
    window: float,
    count: int,
    fixed_blur: bool,
    least: float,
    converged: bool,
) -> HoleEdge:
    _, information = _score(points, edge, anchor, area, window, count)
    rows = np.array([k for k in range(_names(edge)) if k != 3 or not fixed_blur])
    covariance = np.zeros_like(information)
    try:
        covariance[np.ix_(rows, rows)] = np.linalg.inv(information[np.ix_(rows, rows)])
    except np.linalg.LinAlgError:
        covariance[:] = np.nan
        converged = False
    if edge.blur <= 1.001 * least and not fixed_blur:
        # not regular any more: the innermost of Poisson points on the edge, exponential with this mean
        covariance[:3, :3] += np.diag([2.0, 2.0, 1.0]) * (4 * least) ** 2
    if not fixed_blur:
        # the information is known only as well as the blur that it rests on; second order, settled by simulation (benchmarks)
        covariance *= 1 + 4 * min(float(covariance[3, 3]), 0.25)
    shape = [0, 1, 2, 6, 7] if edge.is_slot else [0, 1, 2]
    t, _ = _arguments(points, edge)
    effective = _effective_area(edge, anchor, area)
    return replace(
        edge,
        density=count / effective,
        covariance=covariance[np.ix_(shape, shape)],
        blur_sd=0.0 if fixed_blur else float(edge.blur * np.sqrt(max(covariance[3, 3], 0.0))),
        n_used=count,
        n_edge=int((np.abs(t) < 2).sum()),
        converged=bool(converged and np.isfinite(covariance[2, 2])),
    )
