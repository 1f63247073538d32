"""`measure_flange`: face, bore, bolt circle and holes of a flange in one go."""

from __future__ import annotations

import itertools

import numpy as np

from .cloud import Cloud
from .hole_finding import FoundHole
from .hole_report import JointCovariance, hole_parameters, ordered, report
from .holes import chosen_face, no_hole, prepared, sought_holes, wanted_radii
from .result import Measurement
from .thread_axis import axis_frame

__all__ = ["measure_flange"]

_ON_CIRCLE = 0.03  # of the circle's radius
_LIKE_SIZE = 0.6  # bolt holes' radii differ by no more than this from their median
_MOST_TRIPLES = 4000


def measure_flange(
    cloud: Cloud | np.ndarray,
    *,
    diameter: tuple[float, float] | None = None,  # of the bolt holes; the bore is found whatever its size
    face: int = 0,
    walls: bool = True,
    sigma: float | None = None,
    rng: np.random.Generator | None = None,
    seed: int | None = None,
    unit: str | None = None,
) -> Measurement:
    """Measures a flange.

    Parameters: `point` and `normal` of the face; `bore` (its largest round hole around the middle; None where there is none);
    `pitch_circle` {"centre", "radius"} of the bolt circle; `holes` as in `find_holes`, each with "angle_deg" about the bore (or the bolt
    circle's centre) from `axis_frame`'s reference, counter-clockwise seen against the normal, and "on_circle"; `faces`.

    Raises as `find_holes` does.
    """
    radii = wanted_radii(diameter)
    cloud, seed, rng = prepared(cloud, unit, seed, rng)
    one, faces, warnings = chosen_face(cloud, face, sigma, rng)
    found = sought_holes(cloud, one, None, walls)
    holes = ordered(found.holes, one)
    bore = _bore(holes)
    rest = [hole for hole in holes if hole is not bore]
    if radii is not None:
        rest = [hole for hole in rest if radii[0] <= hole.radius <= radii[1]]
        if not rest:
            raise no_hole(found, holes, diameter, cloud.unit or "")
    circle, members = _bolt_circle([hole for hole in rest if hole.covariance is not None])
    covariance = JointCovariance(one, found.blur_sd)
    parameters: dict = {"bore": None, "pitch_circle": None}
    origin = cloud.origin
    if bore is not None:
        parameters["bore"] = hole_parameters(bore, one, origin)
        covariance.add("bore", bore)
        warnings += [f"bore: {note}" for note in bore.notes]
    else:
        warnings.append("no bore: no round hole lies around the middle of the others")
    if circle is not None:
        (x, y, radius), spread = circle
        parameters["pitch_circle"] = {
            "centre": (one.point + x * one.axes[0] + y * one.axes[1] + origin).tolist(),
            "radius": float(radius),
            "holes": len(members),
        }
        as_hole = FoundHole("circle", np.array([x, y]), float(radius), spread)
        covariance.add("pitch_circle", as_hole)
    else:
        warnings.append(f"no bolt circle: {len(rest)} holes beside the bore, a circle needs 3 that lie on it")
    middle = bore.centre if bore is not None else circle[0][:2] if circle is not None else np.zeros(2)
    parameters["holes"] = []
    for i, hole in enumerate(rest):
        own = hole_parameters(hole, one, origin)
        at = axis_frame(one.axes[2]) @ one.axes[:2].T @ (hole.centre - middle)
        own["angle_deg"] = float(np.degrees(np.arctan2(at[1], at[0])) % 360)
        own["on_circle"] = any(hole is member for member in members)
        parameters["holes"].append(own)
        covariance.add(f"holes[{i}]", hole)
        warnings += [f"holes[{i}]: {note}" for note in hole.notes]
    parameters["faces"] = faces
    return report("flange", cloud, one, found, parameters, covariance, warnings, seed)


def _bore(holes: list[FoundHole]) -> FoundHole | None:
    """The largest round hole, if the others lie around it."""
    round_ones = [hole for hole in holes if hole.kind == "hole"]
    if not round_ones:
        return None
    largest = max(round_ones, key=lambda hole: hole.radius)
    others = [hole.centre for hole in holes if hole is not largest]
    if len(others) < 3:  # too few to tell where their middle is
        return largest if all(largest.radius > 1.5 * h.radius for h in holes if h is not largest) else None
    off = np.hypot(*(np.mean(others, axis=0) - largest.centre))
    reach = np.median([np.hypot(*(c - largest.centre)) for c in others])
    return (
        largest if off < 0.5 * reach and largest.radius > 1.2 * np.median([h.radius for h in holes]) else None
    )


def _bolt_circle(
    holes: list[FoundHole],
) -> tuple[tuple[np.ndarray, np.ndarray] | None, list[FoundHole]]:
    """(centre and radius (3,), covariance (3, 3)) of the circle on which most holes of about one size lie, and those holes.

    All triples (a random-free subset of them where there are thousands) propose a circle; the one with most holes within 3 % of its
    radius is fitted to them, weighted by their covariances plus the scatter that is left.
    """
    if len(holes) < 3:
        return None, []
    typical = np.median([hole.radius for hole in holes])
    holes = [hole for hole in holes if abs(hole.radius - typical) < _LIKE_SIZE * typical] or holes
    centres = np.stack([hole.centre for hole in holes])
    triples = list(itertools.combinations(range(len(holes)), 3))
    triples = triples[:: max(1, len(triples) // _MOST_TRIPLES)]
    best, near = -1.0, np.zeros(len(holes), bool)
    for triple in triples:
        circle = _through(*centres[list(triple)])
        if circle is None:
            continue
        off = np.abs(np.hypot(*(centres - circle[:2]).T) - circle[2])
        close = off < _ON_CIRCLE * circle[2]
        score = close.sum() - off[close].sum() / (_ON_CIRCLE * circle[2] * len(holes))
        if score > best:
            best, near, start = score, close, circle
    if near.sum() < 3:
        return None, []
    members = [hole for hole, ok in zip(holes, near) if ok]
    fitted = _weighted_circle(members, start)
    return fitted, members


def _through(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray | None:
    """Centre and radius (3,) of the circle through three points; None where they lie on a line."""
    matrix = 2 * np.array([b - a, c - a])
    if abs(np.linalg.det(matrix)) < 1e-9 * np.abs(matrix).max() ** 2:
        return None
    centre = np.linalg.solve(matrix, np.array([b @ b - a @ a, c @ c - a @ a]))
    return np.array([*centre, np.hypot(*(a - centre))])


def _weighted_circle(holes: list[FoundHole], start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centres, at = np.stack([hole.centre for hole in holes]), start
    extra = 0.0
    for _ in range(12):
        away = centres - at[:2]
        rho = np.hypot(*away.T)
        n = away / rho[:, None]
        variance = np.array([d @ hole.covariance[:2, :2] @ d for d, hole in zip(n, holes)]) + extra
        jacobian = np.column_stack([n, np.ones(len(n))])
        normal = (jacobian.T / variance) @ jacobian
        residual = rho - at[2]
        at = at + np.linalg.solve(normal, (jacobian.T / variance) @ residual)
        if len(holes) > 3:  # the holes' own position errors, beyond what their measurement explains
            freedom = len(holes) - 3
            extra = max(extra + float(residual @ residual) / freedom - float(variance.mean()), 0.0)
    return at, np.linalg.inv(normal)
