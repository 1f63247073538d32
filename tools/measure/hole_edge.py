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
_BIAS = {  # of radius and of log blur, in mean gaps along the edge and in blurs: second order (Cox and Snell 1968), see `_unbiased`
    "blur known": (1.0952, 0.0),
    "blur known, slot": (1.8254, 0.0),
    "blur found": (0.2259, -2.6522),
    "blur found, slot": (0.2259, -3.7594),
}
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

    @property
    def perimeter(self) -> float:
        return 2 * np.pi * self.radius + 4 * self.half_length

    def distance(self, points: np.ndarray) -> np.ndarray:  # (n, 2)
        """(n,) signed distance from the outline, positive outside the hole."""
        along, across = self._local(points)
        return np.hypot(along - np.clip(along, -self.half_length, self.half_length), across) - self.radius

    def gradient(self, points: np.ndarray) -> np.ndarray:  # (n, 2)
        """(3, n) of the distance by centre and radius; of a slot (5, n), with half_length and angle."""
        return _arguments(points, self)[1]

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
    information = _information(start, anchor, area, window, count)
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
        value, score = _score(points, edge, anchor, area)
        if not np.isfinite(value):
            return np.inf, np.zeros(len(free))
        return -value, -(white.T @ (score * bend)[free])

    from scipy.optimize import minimize

    with np.errstate(invalid="ignore"):
        found = minimize(
            negative, np.zeros(len(free)), jac=True, method="BFGS", options={"gtol": 5e-3, "maxiter": rounds}
        )
    change = np.zeros(_names(start))
    change[free] = white @ found.x
    edge, _ = _moved(start, change, least)
    settled = edge is not None and float(np.abs(found.jac).max()) < 0.05
    return _finished(points, edge or start, anchor, area, window, count, blur is not None, least, settled)


def _names(edge: HoleEdge) -> int:
    """Unknowns: centre (2), radius, log blur, slope (2), and of a slot half_length and angle."""
    return 8 if edge.is_slot else 6


def _arguments(points: np.ndarray, edge: HoleEdge) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """t (n,), the derivative of the distance by centre, radius, [half length, angle] as rows, and where the outline is curved (n,)."""
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
    return t, np.stack(rows), curved


def _effective_area(edge: HoleEdge, anchor: np.ndarray, area: float) -> float:
    """Integral of density over its value at the anchor: a blurred hole keeps its area and its first moment."""
    return area - (1 - edge.stray) * edge.area * (1 + float(edge.slope @ (edge.centre - anchor)))


def _score(points: np.ndarray, edge: HoleEdge, anchor: np.ndarray, area: float) -> tuple[float, np.ndarray]:
    """The log-likelihood, density eliminated, and its gradient; minus infinity where the density would vanish in the window."""
    from scipy.special import ndtr

    t, rows, curved = _arguments(points, edge)
    x = points - anchor
    tilt = 1 + x @ edge.slope
    size, count = _names(edge), len(points)
    if tilt.min(initial=1.0) <= 0.05:
        return -np.inf, np.zeros(size)
    keep = 1 - edge.stray
    mass = keep * ndtr(t) + edge.stray
    effective = _effective_area(edge, anchor, area)
    value = float(np.log(mass).sum() + np.log(tilt).sum() - count * np.log(effective))
    hazard = keep * np.exp(-0.5 * t * t) / np.sqrt(2 * np.pi) / mass
    gradient = np.zeros(size)
    by_place = rows @ hazard / edge.blur
    gradient[:3] = by_place[:3]
    bent = float(hazard @ curved)
    gradient[2] -= bent * edge.blur / (2 * edge.radius**2)
    gradient[3] = bent * edge.blur / edge.radius - float(hazard @ t)
    gradient[4:6] = (x / tilt[:, None]).sum(axis=0)
    if edge.is_slot:
        gradient[6:] = by_place[3:]
    return value, gradient - count * _by_area(edge, anchor) / effective


def _by_area(edge: HoleEdge, anchor: np.ndarray) -> np.ndarray:
    """Gradient of the effective area."""
    keep = 1 - edge.stray
    lean = 1 + float(edge.slope @ (edge.centre - anchor))
    out = np.zeros(_names(edge))
    out[:2] = -keep * edge.area * edge.slope
    out[2] = -keep * (2 * np.pi * edge.radius + 4 * edge.half_length) * lean
    out[4:6] = -keep * edge.area * (edge.centre - anchor)
    if edge.is_slot:
        out[6] = -keep * 4 * edge.radius * lean
    return out


def _information(edge: HoleEdge, anchor: np.ndarray, area: float, window: float, count: int) -> np.ndarray:
    """Expected (Fisher) information of the unknowns, density eliminated."""
    effective = _effective_area(edge, anchor, area)
    density, by_area = count / effective, _by_area(edge, anchor)
    size = _names(edge)
    outline, length = edge.outline()
    nudge = 1e-3 * edge.radius  # from outside, where the distance has a gradient
    normal = (outline - edge.centre) / np.maximum(np.linalg.norm(outline - edge.centre, axis=1), 1e-300)[
        :, None
    ]
    _, rows, _ = _arguments(outline + nudge * normal, edge)
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
    information = _information(edge, anchor, area, window, count)
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
    edge = _unbiased(edge, count / _effective_area(edge, anchor, area), least, fixed_blur)
    shape = [0, 1, 2, 6, 7] if edge.is_slot else [0, 1, 2]
    t, _, _ = _arguments(points, edge)
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


def _unbiased(edge: HoleEdge, density: float, least: float, fixed_blur: bool) -> HoleEdge:
    """The edge less the maximum likelihood's bias of second order.

    b_r = 1/2 i^rs i^tu (k_stu + 2 k_st,u) for a Poisson edge whose modes are radius and centre (and a slot's two more), and the blur;
    it goes with the mean gap between points along the edge, 1 / (length density). Where the blur is at its bound there is no such
    expansion, and nothing is taken off.
    """
    if edge.blur <= 1.5 * least:
        return edge
    by_radius, by_blur = _BIAS[
        ("blur known" if fixed_blur else "blur found") + (", slot" if edge.is_slot else "")
    ]
    gap = 1 / (edge.perimeter * density)
    grown = float(np.exp(min(-by_blur * gap / edge.blur, 0.5)))
    return replace(edge, radius=edge.radius - by_radius * gap, blur=edge.blur * grown)
