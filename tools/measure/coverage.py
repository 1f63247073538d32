"""How much of a feature was seen: arc, length and form of the points that a fit used."""

from __future__ import annotations

import numpy as np

from .distances_cpu import Sides, signed
from .frame import Frame
from .primitives import Primitive

__all__ = ["arc_degrees", "describe_coverage"]

_MOST_POINTS = 20_000


def arc_degrees(angles: np.ndarray) -> float:
    """360 less the largest gap between neighbouring `angles` (radians), in degrees."""
    ordered = np.sort(np.mod(angles, 2 * np.pi))
    if len(ordered) < 2:
        return 0.0
    gaps = np.diff(ordered, append=ordered[0] + 2 * np.pi)
    return float(np.degrees(2 * np.pi - gaps.max()))


def describe_coverage(primitive: Primitive, points: np.ndarray, frame: Frame, sides: Sides) -> dict:
    """Plain data for a result's extras, from at most 20 000 of the points used.

    `arc_deg` around the axis; `length` along it, and `span` [low, high] from the reported point; `peak_to_valley` of the
    residuals (the Gaussian form deviation) and `peak_to_valley_99_7`, the range that holds 99.7 % of them.
    """
    step = max(1, sides.used // _MOST_POINTS)
    used = np.ascontiguousarray(points[::step][sides.inside[::step]])
    local = frame.local(used)
    out: dict = {}
    if primitive.name in ("circle", "ring", "cylinder", "cone", "torus"):
        out["arc_deg"] = arc_degrees(np.arctan2(local[:, 1], local[:, 0]))
    if primitive.name in ("line", "cylinder", "cone"):
        low, high = float(local[:, 2].min()), float(local[:, 2].max())
        out["length"], out["span"] = high - low, [low, high]
    if primitive.name == "torus":
        tube = np.arctan2(local[:, 2], np.hypot(local[:, 0], local[:, 1]) - frame.sizes[0])
        out["tube_arc_deg"] = arc_degrees(tube)
    if primitive.name == "plane":
        out["size"] = [float(v) for v in np.ptp(local[:, :2], axis=0)]
    if primitive.dimensions == 1:
        part = np.percentile(signed(primitive, used, frame), [0.15, 99.85]) if len(used) else [0.0, 0.0]
        out["peak_to_valley"] = sides.highest - sides.lowest
        out["peak_to_valley_99_7"] = float(part[1] - part[0])
    return out
