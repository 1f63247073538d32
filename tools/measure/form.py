"""Form deviations by minimum zone (ISO 1101): flatness, straightness, roundness, cylindricity.

Raw optical points hold the extremes of their noise. What noise adds is at most the range of as many normal values; it is the finding's `bias`, so
that no part is rejected for the scanner's noise. `smooth` averages residuals over cells of that size first (as the filters of ISO 16610 do
with a cut-off), which lowers the noise by the root of the points in a cell and keeps form that is longer than two cells.
"""

from __future__ import annotations

import itertools

import numpy as np

from fieldstone.core.errors import UserError

from .coverage import arc_degrees
from .errors import NotMeasurable
from .feature import Feature
from .finding import Finding
from .frame import Frame
from .least_squares import refine
from .minimum_zone import expected_range, extreme
from .primitives import PRIMITIVES

__all__ = ["cylindricity", "flatness", "roundness", "sections", "smoothed", "straightness"]

_FEWEST, _LEAST_ARC = 20, 180.0  # points and degrees of a section
_MOST_CELLS = 4_000_000


def flatness(feature: Feature, smooth: float | None = None) -> Finding:
    """Distance of the two parallel planes that the surface fits between. Raises `UserError` for another kind of feature."""
    _needs(feature, "flatness", ("plane",))
    return _zone("plane", feature, _frame(feature), smooth)


def cylindricity(feature: Feature, smooth: float | None = None) -> Finding:
    """Difference in radius of the two coaxial cylinders that the surface fits between."""
    _needs(feature, "cylindricity", ("cylinder",))
    return _zone("cylinder", feature, _frame(feature), smooth)


def roundness(feature: Feature, smooth: float | None = None, count: int = 5) -> Finding:
    """The largest over `count` sections across the axis of the difference in radius of two concentric circles around the section."""
    _needs(feature, "roundness", ("circle", "cylinder", "cone"))
    frame = _frame(feature)
    if feature.kind == "circle":
        parts = [(0.0, np.ascontiguousarray(feature.points))]
    else:
        parts = sections(feature, count)
    worst = None
    for height, points in parts:
        local = frame.local(points)
        if feature.kind == "cone":  # as on a cylinder of the section's mean radius
            slope = np.tan(frame.sizes[1])
            rho = np.hypot(local[:, 0], local[:, 1])
            local[:, :2] *= ((rho - slope * (local[:, 2] - height)) / rho)[:, None]
        local[:, 2] = 0.0
        start = Frame.from_axis(
            np.zeros(3), [0, 0, 1.0], (float(np.hypot(local[:, 0], local[:, 1]).mean()), 0.0)
        )
        start = refine(PRIMITIVES["ring"], local, start).frame
        found = _zone("ring", feature, start, smooth, local)
        found.extras["height"] = height
        if worst is None or found.value > worst.value:
            worst = found
    worst.extras["sections"] = len(parts)
    return worst


def straightness(feature: Feature, smooth: float | None = None, count: int = 10) -> Finding:
    """Diameter of the cylinder around an edge's points, or around the derived axis: the centres of `count` sections of a cylinder or cone."""
    _needs(feature, "straightness", ("line", "cylinder", "cone"))
    frame = _frame(feature)
    if feature.kind == "line":
        return _zone("line", feature, frame, smooth)
    centres, noise = [], []
    for height, points in sections(feature, count):
        local = frame.local(points)
        local[:, 2] = 0.0
        start = Frame.from_axis(
            np.zeros(3), [0, 0, 1.0], (float(np.hypot(local[:, 0], local[:, 1]).mean()), 0.0)
        )
        solution = refine(PRIMITIVES["ring"], local, start)
        centres.append([*solution.frame.origin[:2], height])
        noise.append(feature.noise**2 * np.linalg.inv(solution.information)[0, 0])
    if len(centres) < 3:
        raise NotMeasurable(
            f"straightness of {feature.name}: {len(centres)} sections hold {_FEWEST} points over {_LEAST_ARC:g} deg, 3 are needed: "
            "choose fewer, thicker sections or a longer region"
        )
    axis = Frame.from_axis(np.mean(centres, axis=0), [0, 0, 1.0])
    found = _zone("line", feature, axis, None, np.array(centres), float(np.sqrt(np.mean(noise))))
    found.extras["sections"] = len(centres)
    return found


def sections(feature: Feature, count: int) -> list[tuple[float, np.ndarray]]:
    """(height along the axis, (n, 3) points) of the slices of an axial feature that are closed enough to measure.

    Raises `NotMeasurable` where none is.
    """
    height = (feature.points - feature.point) @ feature.direction
    edges = np.linspace(height.min(), height.max(), count + 1)
    axes = _frame(feature)
    found, widest = [], 0.0
    for low, high in itertools.pairwise(edges):
        points = feature.points[(height >= low) & (height <= high)]
        if len(points) < _FEWEST:
            continue
        local = axes.local(points)
        arc = arc_degrees(np.arctan2(local[:, 1], local[:, 0]))
        widest = max(widest, arc)
        if arc >= _LEAST_ARC:
            found.append(((low + high) / 2, points))
    if not found:
        raise NotMeasurable(
            f"{feature.name}: none of {count} sections holds {_FEWEST} points over {_LEAST_ARC:g} deg of arc (the widest {widest:.0f} deg, "
            f"{len(feature.points)} points in all): choose fewer sections, or measure from more sides"
        )
    return found


def smoothed(
    name: str,
    points: np.ndarray,  # (n, 3)
    frame: Frame,
    cell: float,
) -> tuple[np.ndarray, float]:
    """Points of cell means and the mean number of points in one. Cells on the surface are `cell` wide; those with less than a
    quarter of the typical number of points, at borders, are left out.
    """
    local = frame.local(points)
    if name == "plane":
        u, v, d = local[:, 0], local[:, 1], local[:, 2]
    elif name == "line":
        u, v, d = local[:, 2], np.zeros(len(local)), None
    else:
        rho = np.hypot(local[:, 0], local[:, 1])
        u, v, d = np.arctan2(local[:, 1], local[:, 0]) * frame.sizes[0], local[:, 2], rho - frame.sizes[0]
    i, j = (np.floor((w - w.min()) / cell).astype(np.int64) for w in (u, v))
    if (i.max() + 1) * (j.max() + 1) > _MOST_CELLS:
        raise UserError(f"smooth {cell:g}: cells that small number over {_MOST_CELLS}; give a larger size")
    _, member, counts = np.unique(i * (j.max() + 1) + j, return_inverse=True, return_counts=True)
    mean = [np.bincount(member, w) / counts for w in (u, v)]
    if name == "line":
        x, y = (np.bincount(member, local[:, k]) / counts for k in (0, 1))
        out = np.stack([x, y, mean[0]], axis=1)
    else:
        d = np.bincount(member, d) / counts
        if name == "plane":
            out = np.stack([*mean, d], axis=1)
        else:
            angle, r = mean[0] / frame.sizes[0], frame.sizes[0] + d
            out = np.stack([r * np.cos(angle), r * np.sin(angle), mean[1]], axis=1)
    full = counts >= 0.25 * np.median(counts)
    return np.ascontiguousarray(out[full] @ frame.axes + frame.origin), float(counts[full].mean())


def _zone(
    name: str,
    feature: Feature,
    frame: Frame,
    smooth: float | None,
    points: np.ndarray | None = None,
    noise: float | None = None,
) -> Finding:
    points = feature.points if points is None else points
    noise = feature.noise if noise is None else noise
    extras = {"noise": noise}
    if smooth:
        points, together = smoothed(name, points, frame, smooth)
        noise = noise / np.sqrt(together)
        extras |= {"smooth": smooth, "points_per_cell": together}
        if len(points) <= len(PRIMITIVES[name].unknowns) + 1:
            raise NotMeasurable(
                f"{feature.name}: smoothing over {smooth:g} leaves {len(points)} cells; give a smaller size"
            )
    found = extreme(PRIMITIVES[name], points, frame, "minimum-zone")
    extras |= {"points": len(points), "contacts": len(found.contacts)}
    bias = min(noise * expected_range(len(points)), found.zone)
    return Finding(found.zone, noise * float(np.linalg.norm(found.zone_sensitivity)), bias, extras=extras)


def _frame(feature: Feature) -> Frame:
    half = np.radians(feature.measurement.parameters.get("half_angle_deg", 0.0))
    radius = feature.radius or 0.0
    size = radius * np.cos(half) if feature.kind == "cone" else radius
    return Frame.from_axis(feature.point, feature.direction, (size, half))


def _needs(feature: Feature, what: str, kinds: tuple[str, ...]) -> None:
    if feature.kind not in kinds:
        raise UserError(
            f"{what} of {feature.name}: it is a {feature.kind}; {what} is of a {' or '.join(kinds)}"
        )
