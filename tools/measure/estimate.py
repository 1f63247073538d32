"""From a start to a measurement: the fit to all points, its noise, covariance and diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cloud import Cloud
from .distances_cpu import Sides, classify
from .errors import NotMeasurable
from .frame import Frame
from .least_squares import Solution, refine
from .primitives import Primitive
from .result import Measurement
from .scale import CUT, truncation

__all__ = ["Estimate", "covariance_of", "final_fit", "to_measurement"]

_LEAST_WITHIN = 0.01  # of the kept square sum that is noise, however much background there seems to be
_SINGULAR = 1e-13  # ratio of the information's eigenvalues, each unknown in its own unit, below which rounding decides


@dataclass(frozen=True)
class Estimate:
    frame: Frame
    covariance: np.ndarray
    """(k, k) of the primitive's unknowns at `frame`."""
    sigma: float
    """Standard deviation of the noise along a residual, corrected for the cut and for background within it."""
    cut: float
    """Distance from which on points were left out; infinite for plain least squares."""
    sides: Sides
    """Which points lie within the cut, and what their distances span."""
    background: float
    """Share of the inliers that are taken for background that happens to lie within the cut."""
    rms: float
    """Of the inliers' residuals."""
    converged: bool


def final_fit(
    primitive: Primitive,
    points: np.ndarray,
    frame: Frame,
    *,
    sigma: float | None,  # to start from; None: plain least squares on all points
    known_sigma: float | None = None,
    threshold: float | None = None,  # a cut the user asks for
    weights: np.ndarray | None = None,  # (n,) relative to the typical point's
    fixed: tuple[str, ...] = (),
) -> Estimate:
    """Least squares on all points within CUT sigma, repeated until sigma and the cut agree."""
    n = len(points)
    scale = float(np.abs(frame.local(points[:: max(1, n // 1000)])).max()) or 1.0
    cut = np.inf if sigma is None else threshold or CUT * (known_sigma or sigma)
    unknowns = len(primitive.columns(fixed))
    exact = sigma is None  # as many points as unknowns are then a fit without redundancy
    for attempt in range(8):
        # A fit that ignores outliers converges linearly, by some 0.03 a step: to stop after a step of a tenth of its own
        # standard deviation leaves nothing to speak of.
        tolerance = 1e-14 if not np.isfinite(cut) else max(0.03 * cut / scale / np.sqrt(n), 1e-14)
        solution = refine(
            primitive, points, frame, cut=cut, weights=weights, fixed=fixed, tolerance=tolerance, scale=scale
        )
        frame = solution.frame
        if solution.used * primitive.dimensions <= unknowns and not (exact and solution.used >= n):
            raise NotMeasurable(
                f"{primitive.name}: {solution.used} points lie within {cut:.3g} of it, {unknowns} unknowns need more: "
                "raise the threshold, or choose a region with more points"
            )
        sides = classify(primitive, points, frame, cut, weights)
        found, background = _noise(primitive, solution, sides.band, cut, unknowns)
        if known_sigma or threshold or not np.isfinite(cut):
            break
        wanted = max(CUT * found, 1e-7 * scale)  # residuals that are all rounding have no sigma
        change = wanted / cut - 1
        if abs(change) < 0.03 or (attempt > 2 and abs(change) < 0.1):
            break
        cut = wanted
    covariance = covariance_of(primitive, solution, known_sigma or found, cut, background, fixed)
    rms = float(np.sqrt(sides.squares / max(sides.used, 1)))
    return Estimate(
        frame, covariance, float(known_sigma or found), cut, sides, background, rms, solution.converged
    )


def _noise(
    primitive: Primitive, solution: Solution, outside: int, cut: float, unknowns: int
) -> tuple[float, float]:
    """(sigma, share of background among the kept points).

    Background is counted just outside the cut, between cut and twice the cut, less the Gaussian's own tail there; it is
    taken to be as dense inside. sigma^2 is the kept mean square, less the background's, over `truncation`'s shrink.
    """
    d, used = primitive.dimensions, solution.used
    freedom = max(d * used - unknowns, 1)
    if not np.isfinite(cut):
        return float(np.sqrt(solution.squares / freedom)), 0.0
    sigma, background = np.sqrt(solution.squares / freedom), 0.0
    for _ in range(20):
        share, shrink = truncation(cut / max(sigma, 1e-300), d)
        tail = used * (1 - background) * (truncation(2 * cut / max(sigma, 1e-300), d)[0] / share - 1)
        # the band (cut, 2 cut] is as wide as [0, cut]; in two dimensions it has three times the area
        background = min(max(outside - tail, 0.0) / (1 if d == 1 else 3) / used, 0.9)
        # mean square of a component, uniform within the cut: cut^2 / 3 on a line, cut^2 / 4 in a disc
        within = solution.squares - background * used * d * cut * cut / (3 if d == 1 else 4)
        new = np.sqrt(
            max(within, _LEAST_WITHIN * solution.squares) / max(freedom - background * d * used, 1) / shrink
        )
        new = min(new, cut)  # a flat distribution within the cut has no sigma of its own
        if abs(new - sigma) <= 1e-6 * sigma:
            break
        sigma = new
    return float(sigma), float(background)


def covariance_of(
    primitive: Primitive,
    solution: Solution,
    sigma: float,
    cut: float,
    background: float,
    fixed: tuple[str, ...],
) -> np.ndarray:
    """(k, k) of the unknowns: A^-1 B A^-1 of the M-estimator psi(r) = r 1(|r| <= cut), `scale.truncation`.

    Background inside the cut adds to B (the mean square of psi) and nothing to A (the mean slope of psi: what a uniform density
    adds inside it takes away at the edges).
    """
    d, k = primitive.dimensions, len(primitive.unknowns)
    keep = primitive.columns(fixed)
    _, shrink = truncation(cut / max(sigma, 1e-300), d)
    mean_square = (1 - background) * sigma**2 * shrink
    if background:
        mean_square += background * cut * cut / (3 if d == 1 else 4)
    slope = (1 - background) * shrink
    information = solution.information[np.ix_(keep, keep)]
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(scale, scale)
    values = np.linalg.eigvalsh(scaled)
    if not values[0] > _SINGULAR * values[-1]:
        raise NotMeasurable(
            f"{primitive.name}: its {len(keep)} unknowns are not determined by the {solution.used} points (they lie on a line or curve that "
            "many fit through): choose a larger region, or give the axis or radius"
        )
    inverse = np.linalg.inv(scaled) / np.outer(scale, scale)
    out = np.zeros((k, k))
    out[np.ix_(keep, keep)] = mean_square / slope**2 * inverse
    return out


def to_measurement(
    primitive: Primitive,
    estimate: Estimate,
    cloud: Cloud,
    *,
    kind: str,
    seed: int | None,
    warnings: list[str],
    extras: dict,
) -> Measurement:
    """The reported parameters in world coordinates, with their (redundant) covariance."""
    values, jacobians = primitive.parameters(estimate.frame)
    parameters, names, rows = {}, [], []
    for name, value in values.items():
        vector = np.ndim(value) == 1
        if vector and len(value) == 3 and name in ("point", "centre", "axis_point", "apex"):
            value = value + cloud.origin
        parameters[name] = value.tolist() if vector else float(value)
        names += [f"{name}.{axis}" for axis in "xyz"] if vector else [name]
        rows.append(jacobians[name])
    jacobian = np.concatenate(rows)
    return Measurement(
        kind=kind,
        unit=cloud.unit,
        parameters=parameters,
        covariance=jacobian @ estimate.covariance @ jacobian.T,
        covariance_names=names,
        rms=estimate.rms,
        n_used=estimate.sides.used,
        n_total=len(cloud),
        warnings=[*cloud.warnings, *warnings],
        input=cloud.input_record(),
        seed=seed,
        extras={
            "sigma": estimate.sigma,
            "cut": estimate.cut,
            "background_share": estimate.background,
            **extras,
        },
        inliers=estimate.sides.inside,
    )
