"""Plots as plain SVG text: axes, dots, lines, circles. Enough for a report, and no package to install."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

import numpy as np

__all__ = ["Drawing", "colour_scale", "png_address"]

_MARGIN = (58.0, 14.0, 30.0, 46.0)  # left, right, top, bottom
_SCALE = np.array(  # dark blue to yellow, even in lightness
    [[48, 18, 59], [65, 105, 225], [27, 184, 190], [110, 205, 90], [250, 220, 50]], np.float64
)


def colour_scale(values: np.ndarray, low: float, high: float) -> list[str]:
    """A colour per value, from dark (`low`) to bright (`high`)."""
    share = np.clip((values - low) / max(high - low, 1e-300), 0, 1) * (len(_SCALE) - 1)
    at = np.minimum(share.astype(int), len(_SCALE) - 2)
    rgb = _SCALE[at] + (share - at)[:, None] * (_SCALE[at + 1] - _SCALE[at])
    return [f"#{int(r):02x}{int(g):02x}{int(b):02x}" for r, g, b in rgb]


def png_address(pixels: np.ndarray) -> str:
    """A data: address of (h, w, 3 or 4) uint8 as PNG."""
    import base64
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_NUMBERS = itertools.count()  # of clip paths: a page may hold many pictures


class Drawing:
    """A picture in data coordinates, y upwards."""

    def __init__(
        self,
        width: int,
        height: int,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str,
        y_label: str,
        *,
        equal: bool = False,  # one scale for both axes: the range of one is widened
    ) -> None:
        left, right, top, bottom = _MARGIN
        self.width, self.height = width, height
        inner_w, inner_h = width - left - right, height - top - bottom
        (x0, x1), (y0, y1) = x_range, y_range
        x1, y1 = max(x1, x0 + 1e-12), max(y1, y0 + 1e-12)
        if equal:
            per = max((x1 - x0) / inner_w, (y1 - y0) / inner_h)
            x0, x1 = (x0 + x1) / 2 - per * inner_w / 2, (x0 + x1) / 2 + per * inner_w / 2
            y0, y1 = (y0 + y1) / 2 - per * inner_h / 2, (y0 + y1) / 2 + per * inner_h / 2
        self._x, self._y = (x0, x1), (y0, y1)
        self.per_pixel = (x1 - x0) / inner_w
        self._box = (left, top, inner_w, inner_h)
        self._parts: list[str] = []
        self._labels = (x_label, y_label)
        self._notes: list[str] = []

    def _px(self, x: np.ndarray) -> np.ndarray:
        return self._box[0] + (np.asarray(x) - self._x[0]) / (self._x[1] - self._x[0]) * self._box[2]

    def _py(self, y: np.ndarray) -> np.ndarray:
        return (
            self._box[1]
            + self._box[3]
            - (np.asarray(y) - self._y[0]) / (self._y[1] - self._y[0]) * self._box[3]
        )

    def dots(self, x: np.ndarray, y: np.ndarray, colours: Sequence[str], size: float) -> None:
        """Squares of `size` pixels; those of one colour share one path."""
        px, py = self._px(x), self._py(y)
        paths: dict[str, list[str]] = {}
        for a, b, colour in zip(px, py, colours):
            paths.setdefault(
                colour[:2] + colour[3:4] + colour[5:6] if len(colour) == 7 else colour, []
            ).append(f"M{a:.1f} {b:.1f}h0")
        for colour, moves in paths.items():
            full = "#" + colour[1] * 2 + colour[2] * 2 + colour[3] * 2 if len(colour) == 4 else colour
            self._parts.append(
                f'<path d="{"".join(moves)}" stroke="{full}" stroke-width="{size}" stroke-linecap="square"/>'
            )

    def line(self, x: np.ndarray, y: np.ndarray, colour: str, width: float, *, dashed: bool = False) -> None:
        """A polyline."""
        points = " ".join(f"{a:.2f},{b:.2f}" for a, b in zip(self._px(x), self._py(y)))
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
        )

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        colour: str,
        width: float,
        *,
        fill: str = "none",
        dashed: bool = False,
    ) -> None:
        """A circle of `radius` in data units; needs `equal`."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self._parts.append(
            f'<circle cx="{float(self._px(x)):.2f}" cy="{float(self._py(y)):.2f}" r="{radius / self.per_pixel:.2f}" '
            f'fill="{fill}" stroke="{colour}" stroke-width="{width}"{dash}/>'
        )

    def text(self, x: float, y: float, text: str, colour: str = "#222", size: int = 11) -> None:
        """Text centred at (x, y)."""
        self._parts.append(
            f'<text x="{float(self._px(x)):.1f}" y="{float(self._py(y)) + size / 3:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="middle">{escape(text)}</text>'
        )

    def bar(self, x0: float, x1: float, y0: float, y1: float, colour: str) -> None:
        """A filled rectangle."""
        px, py = self._px([x0, x1]), self._py([y1, y0])
        self._parts.append(
            f'<rect x="{px[0]:.2f}" y="{py[0]:.2f}" width="{max(px[1] - px[0], 0):.2f}" '
            f'height="{max(py[1] - py[0], 0):.2f}" fill="{colour}"/>'
        )

    def image(
        self,
        pixels: np.ndarray,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        smooth: bool = False,
    ) -> None:
        """(h, w, 4) uint8 RGBA, first row on top, over a rectangle of the picture."""
        px, py = self._px(x_range), self._py(y_range)
        style = "" if smooth else ' style="image-rendering:pixelated"'
        self._parts.append(
            f'<image x="{px[0]:.2f}" y="{py[1]:.2f}" width="{px[1] - px[0]:.2f}" height="{py[0] - py[1]:.2f}" '
            f'preserveAspectRatio="none"{style} href="{png_address(pixels)}"/>'
        )

    def note(self, text: str) -> None:
        """A line above the picture."""
        self._notes.append(text)

    def to_svg(self, *, y_ticks: bool = True) -> str:
        """The picture as one <svg> element."""
        left, top, w, h = self._box
        clip = f"plot{next(_NUMBERS)}"
        out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="sans-serif" font-size="11">',
            f'<rect width="{self.width}" height="{self.height}" fill="#fff"/>',
            f'<clipPath id="{clip}"><rect x="{left}" y="{top}" width="{w}" height="{h}"/></clipPath>',
            f'<g clip-path="url(#{clip})" fill="none">',
            *self._parts,
            "</g>",
            f'<rect x="{left}" y="{top}" width="{w}" height="{h}" fill="none" stroke="#444"/>',
        ]
        for value in _ticks(*self._x):
            x = float(self._px(value))
            out.append(f'<path d="M{x:.1f} {top + h}v4" stroke="#444"/>')
            out.append(f'<text x="{x:.1f}" y="{top + h + 16}" text-anchor="middle">{value:.6g}</text>')
        for value in _ticks(*self._y) if y_ticks else ():
            y = float(self._py(value))
            out.append(f'<path d="M{left} {y:.1f}h-4" stroke="#444"/>')
            out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
        x_label, y_label = map(escape, self._labels)
        out.append(f'<text x="{left + w / 2}" y="{self.height - 8}" text-anchor="middle">{x_label}</text>')
        out.append(
            f'<text transform="translate(13 {top + h / 2}) rotate(-90)" text-anchor="middle">{y_label}</text>'
        )
        if self._notes:
            out.append(f'<text x="{left}" y="{top - 10}">{escape("; ".join(self._notes))}</text>')
        return "".join([*out, "</svg>"])


def _ticks(low: float, high: float) -> np.ndarray:
    """Round values between `low` and `high`, four to nine of them."""
    raw = (high - low) / 5
    unit = 10.0 ** np.floor(np.log10(raw))
    step = unit * min((s for s in (1, 2, 5, 10) if s * unit >= raw), default=10)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return np.where(np.abs(ticks) < 1e-9 * step, 0.0, ticks)
