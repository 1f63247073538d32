"""A match as a picture: both patterns in the face, offsets drawn large, and what clearance each hole has."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .result import Measurement
from .svg import Drawing

__all__ = ["pictures"]

_GOOD, _TIGHT, _BAD = "#176b3a", "#b07800", "#a51923"


def pictures(measurement: Measurement, cloud: Cloud | None = None) -> dict[str, str]:
    """{title: inline SVG} of a result of `match_holes`; the cloud is not needed."""
    out = {"Hole pattern with clearances": _pattern(measurement)}
    if measurement.parameters["clearance_min"] is not None:
        out["Clearances"] = _bars(measurement)
    return out


def _colour(pair: dict) -> str:
    if "clearance" not in pair:
        return "#06c"
    if pair["clearance"] < 0:
        return _BAD
    return _TIGHT if pair["clearance"] < 2 * (pair["clearance_sd"] or 0.0) else _GOOD


def _pattern(measurement: Measurement) -> str:
    fixed, moved = measurement.extras["fixed"], measurement.extras["moved"]
    places, radii = np.array(fixed["places"], float), np.array(fixed["radii"], float)
    others, other_radii = np.array(moved["places"], float), np.array(moved["radii"], float)
    reach = float(np.abs(places).max() + radii.max()) * 1.12
    unit = measurement.unit or ""
    drawing = Drawing(
        640, 600, (-reach, reach), (-reach, reach), f"in the face ({unit})", f"({unit})", equal=True
    )
    most = max(measurement.parameters["mismatch_most"], 1e-12)
    scale = 0.09 * reach / most
    scale = 10.0 ** np.floor(np.log10(scale)) * max(
        s for s in (1, 2, 5) if s * 10.0 ** np.floor(np.log10(scale)) <= scale
    )
    for place, radius in zip(places, radii):
        drawing.circle(*place, radius, "#444", 1.4)
    for pair in measurement.parameters["pairs"]:
        i, j = fixed["names"].index(pair["fixed"]), moved["names"].index(pair["moving"])
        colour = _colour(pair)
        drawing.circle(*others[j], other_radii[j], colour, 1.4, dashed=True)
        off = (others[j] - places[i]) * scale
        drawing.line(*np.stack([places[i], places[i] + off]).T, colour, 2.0)
        outwards = places[i] / max(np.linalg.norm(places[i]), 1e-12)
        if "clearance" in pair:
            text = f"{pair['clearance']:.3f}"
        else:
            text = f"{pair['mismatch']:.3f}"
        drawing.text(
            *(places[i] + outwards * (radii[i] + (12 + 12 * abs(outwards[0])) * drawing.per_pixel)),
            text,
            colour,
            11,
        )
        short = pair["fixed"].removeprefix("holes[").removesuffix("]")
        drawing.text(*(places[i] - outwards * (radii[i] + 11 * drawing.per_pixel)), short, "#444", 10)
    what = "clearance" if measurement.parameters["clearance_min"] is not None else "mismatch"
    drawing.note(
        f"solid: fixed part, dashed: moving part; number outside: {what} ({unit}); lines: offsets x {scale:g}"
    )
    return drawing.to_svg()


def _bars(measurement: Measurement) -> str:
    numbers = measurement.extras["fixed"]["names"]
    pairs = sorted(measurement.parameters["pairs"], key=lambda pair: numbers.index(pair["fixed"]))
    values = np.array([pair["clearance"] for pair in pairs])
    sd = np.array([pair["clearance_sd"] or 0.0 for pair in pairs])
    low, high = min(float((values - 2 * sd).min()), 0.0), max(float((values + 2 * sd).max()), 0.0)
    pad = 0.08 * max(high - low, 1e-9)
    unit = measurement.unit or ""
    drawing = Drawing(
        640,
        260,
        (-0.7, len(pairs) - 0.3),
        (low - pad, high + pad),
        "pairs, by the fixed part's numbers",
        f"clearance ({unit})",
    )
    for k, (pair, value, spread) in enumerate(zip(pairs, values, sd)):
        drawing.bar(k - 0.3, k + 0.3, min(0.0, value), max(0.0, value), _colour(pair))
        drawing.line(np.array([k, k]), np.array([value - 2 * spread, value + 2 * spread]), "#222", 1.4)
    drawing.line(np.array([-0.7, len(pairs) - 0.3]), np.zeros(2), "#222", 1.0)
    p = measurement.parameters["assembly_probability"]
    drawing.note(
        f"offset left until bolt and hole touch, with two standard deviations; all bolts enter with probability {p:.3f}"
    )
    return drawing.to_svg()
