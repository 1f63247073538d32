"""The characteristics of a plan as bars against their limits, with the interval that noise and alignment leave open."""

from __future__ import annotations

from html import escape

from .cloud import Cloud
from .result import Measurement

__all__ = ["pictures"]

_COLOURS = {"accept": "#2f8f57", "reject": "#b3202b", "undecided": "#c98a12"}
_ROW, _LEFT, _WIDTH, _SPAN = 26, 250, 680, 360


def pictures(measurement: Measurement, cloud: Cloud | None = None) -> dict[str, str]:
    """{title: inline SVG}. The limit is at 1; of a size, the limits are at 0 and 1."""
    rows = [
        row for row in measurement.parameters["characteristics"] if row["value"] is not None and row["upper"]
    ]
    if not rows:
        return {}
    scaled = []
    for row in rows:
        low = row["lower"] if row["lower"] is not None else 0.0
        span = row["upper"] - low
        ends = (
            row["value"] - (row["bias"] or 0.0) - row["expanded"],
            row["value"],
            row["value"] + row["expanded"],
        )
        scaled.append([(e - low) / span for e in ends])
    most = min(max(1.25, *(s[2] for s in scaled)), 4.0)
    least = max(min(0.0, *(s[0] for s in scaled)), -1.0)
    height = _ROW * len(rows) + 40

    def at(value: float) -> float:
        return _LEFT + (min(max(value, least), most) - least) / (most - least) * _SPAN

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<rect x="{at(0):.1f}" y="8" width="{at(1) - at(0):.1f}" height="{height - 40}" fill="#eef4ee"/>',
    ]
    for i, (row, (low, value, high)) in enumerate(zip(rows, scaled)):
        y = 8 + _ROW * i + _ROW / 2
        colour = _COLOURS.get(row["verdict"], "#777")
        name = row["name"] if len(row["name"]) <= 36 else row["name"][:35] + "…"
        out.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" fill="#222">{escape(name)}</text>')
        out.append(
            f'<rect x="{at(low):.1f}" y="{y - 6}" width="{max(at(high) - at(low), 1):.1f}" height="12" fill="{colour}" opacity="0.35"/>'
        )
        out.append(f'<rect x="{at(value) - 1.5:.1f}" y="{y - 8}" width="3" height="16" fill="{colour}"/>')
        out.append(
            f'<text x="{_LEFT + _SPAN + 8}" y="{y + 4}" fill="{colour}">{escape(row["verdict"])}</text>'
        )
    for value in (0.0, 1.0):
        out.append(f'<path d="M{at(value):.1f} 8V{height - 32}" stroke="#3c6a4c" stroke-dasharray="4 3"/>')
    out.append(f'<text x="{at(1):.1f}" y="{height - 14}" text-anchor="middle" fill="#3c6a4c">limit</text>')
    out.append(f'<text x="{at(0):.1f}" y="{height - 14}" text-anchor="middle" fill="#3c6a4c">0</text></svg>')
    return {"Share of the tolerance used: value (line) and its interval (band)": "".join(out)}
