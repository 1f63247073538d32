"""Line charts as inline SVG, for a report that needs no other file and no script."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

__all__ = ["line_chart", "nice_ticks"]

_WIDTH, _HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 38


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie in [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    title: str,
    x: Sequence[float | None],
    y: Sequence[float | None],
    x_label: str,
    *,
    logarithmic: bool = False,
) -> str:
    """An <svg> of y over x; points with a missing or non-finite coordinate are left out.

    logarithmic: the y axis in powers of ten; values that are not positive are then left out too. With fewer
    than two points there is nothing to draw, and the chart says so.
    """
    points = [
        (float(a), math.log10(b) if logarithmic else float(b))
        for a, b in zip(x, y, strict=True)
        if a is not None
        and b is not None
        and math.isfinite(a)
        and math.isfinite(b)
        and (b > 0 or not logarithmic)
    ]
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
        f"<title>{html.escape(title)}</title>"
    )
    if len(points) < 2:
        return (
            f'{head}<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle">too few points</text></svg>'
        )
    x_low, x_high = _bounds([a for a, _ in points])
    y_low, y_high = _bounds([b for _, b in points])

    def across(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [head]
    for tick in nice_ticks(y_low, y_high):
        label = _number(10**tick if logarithmic else tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {up(tick):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in nice_ticks(x_low, x_high, 6):
        parts.append(f'<path class="grid" d="M{across(tick):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text x="{across(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
            f"{_number(tick)}</text>"
        )
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )
    line = "L".join(f"{across(a):.1f} {up(b):.1f}" for a, b in points)
    parts.append(f'<path class="line" d="M{line}"/></svg>')
    return "".join(parts)


def _bounds(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high > low:
        return low, high
    room = abs(low) * 0.05 or 1.0
    return low - room, high + room


def _number(value: float) -> str:
    magnitude = abs(value)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if magnitude >= limit:
            return f"{value / limit:.4g}{unit}"
    return f"{value:.3g}" if magnitude < 1e-12 or magnitude >= 1e-3 else f"{value:.0e}"
