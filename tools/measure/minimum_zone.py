"""Extreme fits: the narrowest zone (Chebyshev), the smallest primitive around the points and the largest inside them.

    minimum-zone            the least t with |d_i| <= t. ISO 1101's default for form deviations.
    minimum-circumscribed   circle, sphere, cylinder: the smallest that holds all points (ISO 14405-1 GN).
                            plane, cone: the nearest with all points on its inner side (a plane's datum, ISO 5459).
    maximum-inscribed       circle, sphere, cylinder: the largest with all points outside (GX). Plane, cone: the other side.

A circle is fitted in the least-squares plane of its points. Sequential quadratic programming (SciPy's SLSQP) in the primitive's moving frame
on the few points that matter; points that the result violates are added until none does (exchange method; Anthony et al.,
"Reference software for finding Chebyshev best-fit geometric elements", Precision Engineering 19 (1996) 28). The optimum found is the one next
to the least-squares fit.

Extremes measure the noise as well as the part: `extras["noise_zone"]` says how wide points of a perfect part would spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

from .cloud import Cloud
from .errors import NotMeasurable
from .estimate import Estimate
from .frame import Frame
from .primitives import PRIMITIVES, Primitive
from .residuals_reference import jacobian, residuals
from .result import Measurement

__all__ = ["Extreme", "expected_range", "extreme", "extreme_fit"]

_FIRST, _ADDED, _ROUNDS = 60, 40, 60
_CONTACT = 1e-6  # of the zone: a point this near its border touches it
_FAR = 10.0  # growth of the size from which the points do not bound it
_SIDES = {"minimum-circumscribed": 1.0, "maximum-inscribed": -1.0}


@dataclass(frozen=True)
class Extreme:
    """An extreme fit to points."""

    frame: Frame
    zone: float
    """max d - min d of the points; of a line the diameter of the cylinder around them."""
    contacts: np.ndarray
    """Indices of the points that touch the border, or the primitive."""
    sensitivity: np.ndarray
    """(k, contacts): change of the unknowns by the contacts' noise; the unknowns' covariance is sigma^2 S S^T."""
    zone_sensitivity: np.ndarray
    """(contacts,): change of the zone."""


def extreme_fit(
    primitive: Primitive,
    estimate: Estimate,
    cloud: Cloud,
    measured: Measurement,  # the least-squares result
    norm: str,
    fixed: tuple[str, ...],
) -> Measurement:
    """`measured` with the extreme fit's parameters, covariance (of its contacts' noise) and zone.

    extras: `zone`, `zone_uncertainty` (standard), `noise_zone`, `contacts` (world coordinates), `gauss_zone` (of the least-squares fit).
    """
    points = np.ascontiguousarray(cloud.points[estimate.sides.inside])
    solved, frame, held = primitive, estimate.frame, fixed
    if primitive.name == "circle":
        solved, held = PRIMITIVES["ring"], tuple(set(fixed) - {"axis"})
    before = _distances(solved, points, frame)
    found = extreme(solved, points, frame, norm, held)
    covariance = estimate.sigma**2 * found.sensitivity @ found.sensitivity.T
    values, jacobians = solved.parameters(found.frame)
    parameters, rows = {}, []
    for name, value in values.items():
        place = name in ("point", "centre", "axis_point", "apex")
        vector = np.ndim(value) == 1
        parameters[name] = (value + cloud.origin if place else value).tolist() if vector else float(value)
        rows.append(jacobians[name])
    j = np.concatenate(rows)
    full = j @ covariance @ j.T
    if primitive.name == "circle":  # its plane is the least-squares one, and as uncertain
        normal = frame.axis
        centre, turned = measured.indices("centre"), measured.indices("normal")
        along = np.outer(normal, normal)
        full[np.ix_(centre, centre)] += along @ measured.covariance_of("centre") @ along
        full[np.ix_(turned, turned)] = measured.covariance_of("normal")
    measured.parameters, measured.covariance = parameters, full
    measured.rms = float(np.sqrt(np.mean(_distances(solved, points, found.frame) ** 2)))
    measured.extras |= {
        "norm": norm,
        "zone": found.zone,
        "zone_uncertainty": float(estimate.sigma * np.linalg.norm(found.zone_sensitivity)),
        "noise_zone": estimate.sigma * expected_range(len(points)),
        "gauss_zone": float(np.ptp(before)) if solved.dimensions == 1 else 2 * float(before.max()),
        "contacts": points[found.contacts] + cloud.origin,
    }
    return measured


def extreme(
    primitive: Primitive,
    points: np.ndarray,  # (n, 3) float64
    frame: Frame,  # to start from: the least-squares fit
    norm: str,
    fixed: tuple[str, ...] = (),
) -> Extreme:
    """The extreme fit to all `points`. Raises `UserError` for a norm that the primitive does not have, `NotMeasurable` where the points
    do not bound it.
    """
    goal = _goal(primitive, norm, fixed)
    keep = primitive.columns(fixed)
    scale = float(np.abs(frame.local(points)).max()) or 1.0
    unit = np.array(
        [
            scale if name in ("tx", "ty") or (name, primitive.name) == ("s1", "cone") else 1.0
            for name in primitive.unknowns
        ]
    )[keep]
    d = _distances(primitive, points, frame)
    size = float(np.ptp(d)) if primitive.dimensions == 1 else float(d.max())
    start_size = frame.sizes[0]
    if size > 1e-13 * scale:
        order = np.argsort(d)
        chosen = np.unique(np.concatenate([order[:_FIRST], order[-_FIRST:]]))
        sample = points[:: max(1, len(points) // 20_000)]  # whose mean distance a one-sided fit makes least
        for _ in range(_ROUNDS):
            frame = _solve(primitive, points[chosen], sample, frame, goal, keep, unit, size)
            if "s0" in primitive.unknowns and not 0 < frame.sizes[0] < _FAR * max(start_size, scale):
                raise NotMeasurable(
                    f"{primitive.name}: the points do not bound a {norm} one (arc too short); use minimum-zone or gauss"
                )
            d = _distances(primitive, points, frame)
            excess, worst = _violations(d, goal, d[chosen])
            if excess <= 1e-9 * size + 1e-14 * scale:
                break
            chosen = np.union1d(chosen, worst)
    return _described(primitive, points, frame, goal, keep, size)


def expected_range(count: int) -> float:
    """Of `count` standard normal values (Blom, "Statistical estimates and transformed beta-variables", 1958)."""
    from scipy.stats import norm

    return float(2 * norm.ppf((count - 0.375) / (count + 0.25))) if count > 1 else 0.0


def _goal(primitive: Primitive, norm: str, fixed: tuple[str, ...]) -> tuple[str, float]:
    """("zone" | "size" | "side", +1 where points lie inside, -1 outside)."""
    name = "circle" if primitive.name == "ring" else primitive.name
    if norm == "minimum-zone" or (name == "line" and norm == "minimum-circumscribed"):
        return "zone", 0.0
    if norm in _SIDES and name in ("circle", "sphere", "cylinder"):
        if "radius" in fixed:
            raise UserError(f"a {norm} {name} finds its radius: do not give one")
        return "size", _SIDES[norm]
    if norm in _SIDES and name in ("plane", "cone"):
        return "side", _SIDES[norm]
    raise UserError(f"there is no {norm} {name}; gauss and minimum-zone are possible")


def _distances(primitive: Primitive, points: np.ndarray, frame: Frame) -> np.ndarray:
    """(n,) signed distances; of a line the distance."""
    r = residuals(primitive, points, frame)
    return r[:, 0] if primitive.dimensions == 1 else np.hypot(r[:, 0], r[:, 1])


def _slopes(primitive: Primitive, points: np.ndarray, frame: Frame) -> np.ndarray:
    """(n, k) derivatives of `_distances`."""
    j = jacobian(primitive, points, frame)
    if primitive.dimensions == 1:
        return j[:, 0]
    r = residuals(primitive, points, frame)
    length = np.maximum(np.hypot(r[:, 0], r[:, 1]), 1e-300)
    return (j * (r / length[:, None])[:, :, None]).sum(axis=1)


def _solve(primitive, points, sample, frame, goal, keep, unit, size) -> Frame:
    """The optimum for a few points, in steps of a moving frame, all quantities in units of `size`."""
    from scipy.optimize import minimize

    kind, side = goal
    k = len(keep)
    radius = list(keep).index(primitive.unknowns.index("s0")) if kind == "size" else -1

    def moved(x: np.ndarray) -> Frame:
        delta = np.zeros(len(primitive.unknowns))
        delta[keep] = x[:k] * size / unit
        return primitive.step(frame, delta)

    def slopes(where: np.ndarray, x: np.ndarray) -> np.ndarray:
        return _slopes(primitive, where, moved(x))[:, keep] / unit

    def objective(x):
        if kind == "zone":
            return x[k]
        if kind == "size":
            return side * x[radius]
        return -side * float(_distances(primitive, sample, moved(x)).mean()) / size

    def gradient(x):
        g = np.zeros(len(x))
        if kind == "zone":
            g[k] = 1.0
        elif kind == "size":
            g[radius] = side
        else:
            g[:k] = -side * slopes(sample, x).mean(axis=0)
        return g

    def constraint(x):
        d = _distances(primitive, points, moved(x)) / size
        if kind != "zone":
            return -side * d
        return x[k] - d if primitive.dimensions == 2 else np.concatenate([x[k] - d, x[k] + d])

    def normal(x):
        j = slopes(points, x)
        if kind != "zone":
            return -side * j
        one = np.ones((len(j), 1))
        upper = np.hstack([-j, one])
        return upper if primitive.dimensions == 2 else np.vstack([upper, np.hstack([j, one])])

    for _ in range(6):
        x = np.zeros(k + (kind == "zone"))
        if kind == "zone":
            x[k] = float(np.abs(_distances(primitive, points, frame)).max()) / size
        result = minimize(
            objective,
            x,
            jac=gradient,
            method="SLSQP",
            constraints={"type": "ineq", "fun": constraint, "jac": normal},
            options={"ftol": 1e-15, "maxiter": 200},
        )
        if not np.isfinite(result.x).all():
            break
        frame = moved(result.x)
        if np.abs(result.x[:k]).max(initial=0.0) < 1e-9:
            break
    return frame


def _violations(d: np.ndarray, goal: tuple[str, float], inside: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest violation of what the chosen points allow, and the indices of the worst ones."""
    kind, side = goal
    excess = (
        np.abs(d) - np.abs(inside).max() if kind == "zone" else side * d - max((side * inside).max(), 0.0)
    )
    count = min(_ADDED, len(d))
    worst = np.argpartition(-excess, count - 1)[:count]
    return float(excess.max()), worst[excess[worst] > 0]


def _described(primitive, points, frame, goal, keep, size) -> Extreme:
    d = _distances(primitive, points, frame)
    kind, side = goal
    if kind == "zone":
        border = float(np.abs(d).max())
        contacts = np.flatnonzero(np.abs(d) >= border - _CONTACT * size)
        signs = np.sign(d[contacts])
    else:
        contacts = np.flatnonzero(side * d >= side * (d.max() if side > 0 else d.min()) - _CONTACT * size)
        signs = np.ones(len(contacts))
    contacts = contacts[:64]
    signs = signs[:64]
    rows = _slopes(primitive, points[contacts], frame)[:, keep] * signs[:, None]
    if kind == "zone":
        rows = np.hstack([rows, -np.ones((len(rows), 1))])
    # the contacts stay contacts when they move by their noise: rows @ (unknowns, t) + signs noise = 0
    scaling = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    inverse = -np.linalg.pinv(rows / scaling, rcond=1e-9) * signs / scaling[:, None]
    sensitivity = np.zeros((len(primitive.unknowns), len(contacts)))
    sensitivity[keep] = inverse[: len(keep)]
    if kind == "zone":
        zone, zone_sensitivity = 2 * float(np.abs(d).max()), 2 * inverse[-1]
        if primitive.dimensions == 1:
            zone = float(np.ptp(d))
    else:  # the farthest point's own noise, and the movement of the primitive
        zone = float(np.ptp(d)) if primitive.dimensions == 1 else 2 * float(d.max())
        far = int(np.argmin(side * d))
        zone_sensitivity = np.append(_slopes(primitive, points[[far]], frame)[0] @ sensitivity, 1.0)
    return Extreme(frame, zone, contacts, sensitivity, zone_sensitivity)
