"""The pattern of holes as a picture: the face's outlines in its own plane, with numbers and radii."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .result import Measurement
from .svg import Drawing
from .thread_axis import axis_frame

__all__ = ["in_face", "pictures"]

_POINTS = 3000
_COLOURS = {"hole": "#c00", "slot": "#06c", "boss": "#080", "notch": "#c60", "opening": "#888"}
_SEVERAL = {"hole": "holes", "slot": "slots", "boss": "bosses", "notch": "notches", "opening": "openings"}


def in_face(measurement: Measurement, points: np.ndarray) -> np.ndarray:  # (n, 3) world
    """(n, 2) in the face's plane, x along `axis_frame`'s reference, seen against the normal."""
    return (points - measurement["point"]) @ axis_frame(measurement["normal"])[:2].T


def pictures(
    measurement: Measurement,  # of find_holes or measure_flange
    cloud: Cloud | None = None,
    seed: int = 0,
) -> dict[str, str]:
    """{title: inline SVG}."""
    unit = measurement.unit or ""
    holes = measurement.parameters["holes"]
    features = [(str(i), hole) for i, hole in enumerate(holes)]
    bore = measurement.parameters.get("bore")
    if bore:
        features.append(("bore", bore))
    at = in_face(measurement, np.array([feature["centre"] for _, feature in features]))
    reach = np.array([f.get("length", 2 * f["radius"]) / 2 for _, f in features])
    low, high = (at - reach[:, None]).min(axis=0), (at + reach[:, None]).max(axis=0)
    dots = None
    if cloud is not None and measurement.inliers is not None:
        used = np.flatnonzero(measurement.inliers)
        chosen = np.random.default_rng(seed).choice(used, min(len(used), _POINTS), replace=False)
        dots = in_face(measurement, cloud.points[chosen] + cloud.origin)
        low, high = np.minimum(low, dots.min(axis=0)), np.maximum(high, dots.max(axis=0))
    pad = 0.03 * float((high - low).max())
    drawing = Drawing(
        640,
        600,
        (low[0] - pad, high[0] + pad),
        (low[1] - pad, high[1] + pad),
        f"in the face ({unit})",
        f"({unit})",
        equal=True,
    )
    if dots is not None:
        drawing.dots(*dots.T, ["#bbb"] * len(dots), 1.2)
    circle = measurement.parameters.get("pitch_circle")
    if circle:
        drawing.circle(*in_face(measurement, np.array([circle["centre"]]))[0], circle["radius"], "#999", 0.8, dashed=True)  # fmt: skip
    for (name, feature), place, size in zip(features, at, reach):
        colour = _COLOURS[feature["type"]]
        if "axis_direction" in feature:
            _stadium(drawing, measurement, feature, place, colour)
        else:
            drawing.circle(
                *place, feature["radius"], colour, 1.6, dashed=feature["type"] in ("notch", "opening")
            )
            if "countersink" in feature:
                drawing.circle(*place, feature["countersink"]["radius"], colour, 0.8)
        label = np.array(place)
        if size / drawing.per_pixel < 16:  # beside a hole too small to hold its number
            outwards = place - at.mean(axis=0)
            label = place + outwards / max(np.linalg.norm(outwards), 1e-9) * (size + 11 * drawing.per_pixel)
        drawing.text(*label, name, colour, 12)
    sizes = ", ".join(
        f"{count} {_SEVERAL[kind] if count > 1 else kind}"
        for kind in _COLOURS
        if (count := sum(hole["type"] == kind for hole in holes))
    )
    drawing.note(sizes + (f", bore {2 * bore['radius']:.5g} {unit}" if bore else ""))
    return {"Hole pattern": drawing.to_svg()}


def _stadium(
    drawing: Drawing, measurement: Measurement, feature: dict, place: np.ndarray, colour: str
) -> None:
    direction = axis_frame(measurement["normal"])[:2] @ np.array(feature["axis_direction"])
    across = np.array([-direction[1], direction[0]])
    radius = feature["width"] / 2
    half = feature["length"] / 2 - radius
    turn = np.linspace(-np.pi / 2, np.pi / 2, 24)
    ends = [
        place + side * (half * direction)
        + side * radius * (np.cos(turn)[:, None] * direction + np.sin(turn)[:, None] * across)
        for side in (1, -1)
    ]  # fmt: skip
    ring = np.concatenate([*ends, ends[0][:1]])
    drawing.line(*ring.T, colour, 1.6)
