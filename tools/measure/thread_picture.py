"""The unrolled thread as a picture: height along the axis over angle, coloured by radius, with the fitted crests."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .result import Measurement
from .svg import Drawing, colour_scale
from .thread_axis import axis_frame

__all__ = ["pictures", "section_picture", "unrolled_picture"]

_POINTS = 4000


def pictures(measurement: Measurement, cloud: Cloud) -> dict[str, str]:
    """{title: inline SVG} of a measured thread and the cloud it was found in."""
    rng = np.random.default_rng(measurement.seed or 0)
    return {
        "Unrolled thread": unrolled_picture(cloud.world_points, measurement, rng),
        "Axial section, all turns laid on one another": section_picture(cloud.world_points, measurement, rng),
    }


def _unrolled(points: np.ndarray, measurement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frame = axis_frame(measurement["axis_direction"])
    x, y, z = frame @ (points - measurement["axis_point"]).T
    return np.degrees(np.arctan2(y, x)), z, np.hypot(x, y)


def unrolled_picture(points: np.ndarray, measurement, rng: np.random.Generator) -> str:
    """Inline SVG of the measured thread. `points` (n, 3) in world coordinates, `measurement` of `fit_thread`."""
    used = np.flatnonzero(measurement.inliers)
    chosen = rng.choice(used, min(len(used), _POINTS), replace=False)
    angle, z, r = _unrolled(points[chosen], measurement)
    low, high = measurement.extras["zone"]
    unit = measurement.unit or ""
    drawing = Drawing(
        640,
        420,
        (-180.0, 180.0),
        (low, high),
        "angle about the axis (degrees)",
        f"along the axis from the axis point ({unit})",
    )
    drawing.dots(angle, z, colour_scale(r, *np.quantile(r, [0.01, 0.99])), 1.6)
    sign = 1 if measurement["hand"] == "right" else -1
    lead, starts = measurement["lead"], measurement["starts"]
    start = measurement["start_angle_deg"]
    turns = int(np.ceil((high - low) / lead)) + 2
    for k in range(starts):
        for turn in range(-turns, turns + 1):
            at = (np.array([-180.0, 180.0]) - start - 360 * k / starts) / 360 + turn
            drawing.line(np.array([-180.0, 180.0]), sign * lead * at, "#c00", 1.0)
    drawing.line(np.array([-180.0, 180.0]), np.zeros(2), "#000", 0.6, dashed=True)
    drawing.note(f"red: fitted crests, lead {lead:.5g} {unit}; colour: radius; dashed: datum plane")
    return drawing.to_svg()


def section_picture(points: np.ndarray, measurement, rng: np.random.Generator) -> str:
    """Inline SVG of all turns laid on one another: radius over height within the pitch, with the diameters."""
    used = np.flatnonzero(measurement.inliers)
    chosen = rng.choice(used, min(len(used), _POINTS), replace=False)
    angle, z, r = _unrolled(points[chosen], measurement)
    sign = 1 if measurement["hand"] == "right" else -1
    pitch = measurement["pitch"]
    u = z - sign * measurement["lead"] * (angle - measurement["start_angle_deg"]) / 360
    u = (u + pitch / 2) % pitch - pitch / 2
    unit = measurement.unit or ""
    low, high = float(r.min()), float(r.max())
    pad = 0.08 * (high - low)
    drawing = Drawing(
        640,
        300,
        (-pitch / 2, pitch / 2),
        (low - pad, high + pad),
        f"along the axis from the crest ({unit})",
        f"radius ({unit})",
    )
    drawing.dots(u, r, ["#27c"] * len(u), 1.2)
    if np.isfinite(measurement["pitch_diameter"]):
        for name, colour in (
            ("major_diameter", "#c00"),
            ("pitch_diameter", "#080"),
            ("minor_diameter", "#c60"),
        ):
            drawing.line(np.array([-pitch / 2, pitch / 2]), np.full(2, measurement[name] / 2), colour, 1.0)
        drawing.note("red: major, green: pitch, orange: minor diameter")
    return drawing.to_svg()
