"""Position and coaxiality of axes and centres in a datum frame (ISO 1101), with material-condition bonus (ISO 2692)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fieldstone.core.errors import UserError

from .datum import DatumFrame, datum_frame
from .feature import Feature
from .finding import DRAWS, Finding

__all__ = ["bonus", "position"]

_PLANE_FREE = ("tx", "ty", "rz")


def bonus(
    diameter: float,
    limits: tuple[float, float],  # of the diameter
    material: str,  # "mmc" or "lmc"
    inner: bool,  # a hole
) -> float:
    """By how much the feature's size is away from its maximum (or least) material size, at least 0."""
    lower, upper = limits
    smallest = (material == "mmc") == inner  # a hole has most material where it is smallest
    return max(0.0, diameter - lower if smallest else upper - diameter)


def position(
    features: Sequence[Feature],
    datums: list[Feature],
    nominals: np.ndarray,  # (n, 2) x y of axes along z, or (n, 3), in the datum frame
    rng: np.random.Generator,
    *,
    directions: np.ndarray | None = None,  # (n, 3) nominal axes in the frame; None: z
    material: str | None = None,
    limits: tuple[float, float] | None = None,
    inner: bool = True,
) -> list[Finding]:
    """Of each feature twice the largest distance of its axis, where it was seen, from the nominal one; of centres twice theirs.

    What the datums leave free in the plane across z (shift, turn) is chosen so that the worst feature of the pattern comes out best.
    Raises `UserError` where the frame leaves free what the nominals need.
    """
    nominals = np.atleast_2d(np.asarray(nominals, np.float64))
    if len(nominals) != len(features) or nominals.shape[1] not in (2, 3):
        raise UserError(
            f"position: {len(features)} features and nominals of shape {nominals.shape}: give [x, y] or [x, y, z] for each"
        )
    for feature in features:
        if feature.kind == "plane":
            raise UserError(
                f"position of {feature.name}: a plane's place is a profile tolerance; use profile"
            )
    frame = datum_frame(datums)
    if frame.free & {"rx", "ry"}:
        raise UserError(f"position: datums {list(frame.names)} give no direction; add a plane or an axis")
    whole = nominals.shape[1] == 3
    if whole and "tz" in frame.free and any(f.kind == "sphere" for f in features):
        raise UserError(f"position: datums {list(frame.names)} do not fix z; give [x, y], or another datum")
    flat = nominals if whole else np.column_stack([nominals, np.zeros(len(nominals))])
    axes = np.tile([0.0, 0.0, 1.0], (len(flat), 1)) if directions is None else np.atleast_2d(directions)
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    free = [name for name in _PLANE_FREE if name in frame.free]
    values, moved = _deviations(features, frame, flat, axes, whole, free)
    draws = np.empty((DRAWS, len(features)))
    sizes = np.empty((DRAWS, len(features)))
    for i in range(DRAWS):
        drawn = [f.drawn(rng) for f in features]
        turned = datum_frame([d.drawn(rng) for d in datums])
        draws[i], _ = _deviations(drawn, turned, flat, axes, whole, free)
        sizes[i] = [2 * (f.radius or 0.0) for f in drawn]
    out = []
    for k, feature in enumerate(features):
        widened = 0.0
        change = draws[:, k] - values[k]
        if material is not None:
            if feature.radius is None or limits is None:
                raise UserError(
                    f"position of {feature.name}: {material} needs a feature with a radius, and size: [least, most diameter]"
                )
            widened = bonus(2 * feature.radius, limits, material, inner)
            change = change - [bonus(size, limits, material, inner) - widened for size in sizes[:, k]]
        extras = {"deviation": moved[k], "nominal": nominals[k].tolist(), "free": free}
        if feature.radius is not None:
            extras["diameter"] = 2 * feature.radius
        out.append(
            Finding(float(values[k]), float(np.sqrt(np.mean(change**2))), bonus=widened, extras=extras)
        )
    return out


def _deviations(features, frame: DatumFrame, nominals, axes, whole: bool, free: list[str]):
    """(n,) diametral positions, and [x, y, z] by which each feature's middle is off its nominal, in the frame."""
    ends = [frame.local(f.ends) for f in features]
    x = _best_placement(ends, nominals, axes, whole, features, free) if free else np.zeros(3)
    ends = [_placed(e, x) for e in ends]
    values = np.array(
        [2 * _distance(e, n, a, whole, f) for e, n, a, f in zip(ends, nominals, axes, features)]
    )
    moved = []
    for e, n, a, f in zip(ends, nominals, axes, features):
        away = e.mean(axis=0) - n
        if f.kind != "sphere" or not whole:
            away = away - (away @ a) * a
        moved.append(away.tolist())
    return values, moved


def _distance(ends, nominal, axis, whole: bool, feature: Feature) -> float:
    away = ends - nominal
    if not (whole and feature.kind == "sphere"):  # an axis, or a circle's centre across it
        away = away - (away @ axis)[:, None] * axis
    return float(np.linalg.norm(away, axis=1).max())


def _placed(points: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Points after a turn about z by x[2] and a shift by x[:2]."""
    c, s = np.cos(x[2]), np.sin(x[2])
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return points @ turn.T + np.array([x[0], x[1], 0.0])


def _best_placement(ends, nominals, axes, whole, features, free: list[str]) -> np.ndarray:
    """(3,) shift and turn, zero where not free: least squares of the middles in closed form, then minimax over a pattern."""
    from scipy.optimize import minimize

    centres = np.array([e.mean(axis=0)[:2] for e in ends])
    flat = nominals[:, :2]
    x = np.zeros(3)
    shift = {"tx", "ty"} <= set(free)
    a = centres - centres.mean(axis=0) if shift else centres
    b = flat - flat.mean(axis=0) if shift else flat
    if "rz" in free:
        sine, cosine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum(), (a * b).sum()
        turn = np.arctan2(sine, cosine)
        x[2] = turn if np.hypot(sine, cosine) > 0 else 0.0
    columns = [_PLANE_FREE.index(name) for name in free]
    middle = (flat - _placed(np.column_stack([centres, 0 * flat[:, :1]]), x)[:, :2]).mean(axis=0)
    for i in (0, 1):
        if _PLANE_FREE[i] in free:
            x[i] = middle[i]
    if len(ends) == 1:  # its middle lies as near as it can: there is nobody to share with
        return x
    size = float(np.abs(flat).max()) or 1.0
    unit = np.array([1.0, 1.0, 1.0 / size])[columns]

    def distances(step: np.ndarray) -> np.ndarray:
        y = x.copy()
        y[columns] += step * unit
        return np.array(
            [_distance(_placed(e, y), n, a, whole, f) for e, n, a, f in zip(ends, nominals, axes, features)]
        )

    first = distances(np.zeros(len(columns)))
    scale = max(float(first.max()), 1e-12 * size)
    start = np.append(np.zeros(len(columns)), first.max() / scale)
    found = minimize(
        lambda y: y[-1],
        start,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda y: y[-1] - distances(y[:-1] * scale) / scale},
        options={"ftol": 1e-9, "maxiter": 60},
    )
    if np.isfinite(found.x).all() and distances(found.x[:-1] * scale).max() <= first.max():
        x[columns] += found.x[:-1] * scale * unit
    return x
