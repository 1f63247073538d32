"""The plots of docs/modulation.md, from committed results.

python -m benchmarks.cam_plots
"""

from __future__ import annotations

import html
import json
import math

from fieldstone.core.files import atomic_write_text

from .harness import RESULTS, ROOT

__all__ = ["bars", "rates"]

_TITLES = {
    "time": "A moving blob",
    "time:fast": "A smaller blob, twice as fast",
    "all:astronaut": "Astronaut, 64 x 64, all pixels",
    "all:text": "Text, 64 x 64, all pixels",
    "all:coffee": "Coffee, 64 x 64, all pixels",
    "held-out:astronaut": "Astronaut, 128 x 128, held-out pixels",
    "held-out:text": "Text, 128 x 128, held-out pixels",
}
_ROW, _LEFT, _WIDTH = 20, 120, 300


def bars(results: dict[str, dict]) -> str:
    """An SVG with one group of bars an experiment, PSNR in dB: the mean as a bar, each seed as a mark."""
    parts, top = [], 8
    for key, title in _TITLES.items():
        if key not in results:
            continue
        rows = results[key]
        values = [value for row in rows.values() for value in row["psnr"]]
        low, high = int(min(values)) - 2, max(values) + 0.5
        parts.append(f'<text x="8" y="{top + 14}" class="title">{html.escape(title)}</text>')
        top += 22
        for name, row in rows.items():
            length = _WIDTH * (row["mean"] - low) / (high - low)
            kind = "cam" if name.startswith("cam") else "other"
            parts.append(
                f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end">{html.escape(name)}</text>'
                f'<rect x="{_LEFT}" y="{top + 3}" width="{length:.1f}" height="14" class="{kind}"/>'
                f'<text x="{_LEFT + _WIDTH + 14}" y="{top + 14}">{row["mean"]:.2f}</text>'
            )
            for value in row["psnr"]:
                x = _LEFT + _WIDTH * (value - low) / (high - low)
                parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 1}" y2="{top + 19}" class="seed"/>')
            top += _ROW
        parts.append(f'<text x="{_LEFT}" y="{top + 12}" class="axis">bars begin at {low} dB</text>')
        top += 24
    style = (
        "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.axis{font-size:10px;fill:#888}"
        ".cam{fill:#b4531f}.other{fill:#c9c2b6}.seed{stroke:#222;stroke-width:1.2}"
    )
    width = _LEFT + _WIDTH + 64
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    )


_CURVES = {
    "jpeg": ("JPEG", "#8a8378"),
    "webp": ("WebP", "#222222"),
    "cam": ("cam", "#b4531f"),
    "fourier": ("fourier", "#3f6fa8"),
    "hash-grid": ("hash grid", "#3d8a57"),
}
"""Name and colour."""


def rates(results: dict[str, dict]) -> str:
    """An SVG with one panel a photograph: PSNR in dB over bits a pixel, codecs as lines, packed models as lines with dots.

    Of a model's files, of all budgets and bits, those are shown that no smaller one of it reaches.
    """
    panel, high, left, top = 360, 260, 44, 30
    parts = []
    for number, (name, found) in enumerate(sorted(results.items())):
        pixels = found["width"] * found["height"]
        curves = {
            codec: [(8 * size / pixels, value) for size, value in found["codecs"][codec]]
            for codec in ("jpeg", "webp")
        }
        for model, sizes in found["models"].items():
            files = [file for entry in sizes.values() for file in entry["packed"].values()]
            best: list[tuple[float, float]] = []
            for x, y in sorted((8 * file["bytes"] / pixels, file["psnr"]) for file in files):
                if not best or y > best[-1][1]:
                    best.append((x, y))
            curves[model] = best
        xs = [x for model in found["models"] for x, _ in curves[model]]
        low_x, high_x = math.log(min(xs) / 1.6), math.log(max(xs) * 1.6)
        seen = [y for points in curves.values() for x, y in points if low_x <= math.log(x) <= high_x]
        low_y, high_y = math.floor(min(seen)) - 1, math.ceil(max(seen)) + 1
        x0 = number * (panel + left) + left

        def place(
            x: float, y: float, x0=x0, low_x=low_x, high_x=high_x, low_y=low_y, high_y=high_y
        ) -> tuple[float, float]:
            return (
                x0 + (panel - 20) * (math.log(x) - low_x) / (high_x - low_x),
                top + high * (high_y - y) / (high_y - low_y),
            )

        parts.append(
            f'<text x="{x0}" y="18" class="title">{html.escape(name.split(" at ")[0])}, {found["width"]} x {found["height"]}</text>'
        )
        for value in range(low_y, high_y + 1, 2):
            y = place(math.exp(low_x), value)[1]
            parts.append(
                f'<line x1="{x0}" x2="{x0 + panel - 20}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
                f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" class="axis">{value} dB</text>'
            )
        for value in (0.125, 0.25, 0.5, 1.0, 2.0):
            if low_x <= math.log(value) <= high_x:
                x = place(value, low_y)[0]
                parts.append(
                    f'<text x="{x:.1f}" y="{top + high + 16}" text-anchor="middle" class="axis">{value:g}</text>'
                )
        parts.append(
            f'<text x="{x0 + panel // 2}" y="{top + high + 32}" text-anchor="middle" class="axis">bits a pixel, file on disk</text>'
        )
        for row, (key, points) in enumerate(curves.items()):
            title, colour = _CURVES[key]
            inside = [place(x, y) for x, y in points if low_x <= math.log(x) <= high_x]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in inside)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
            if key in found["models"]:
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{colour}"/>' for x, y in inside]
            parts.append(
                f'<line x1="{x0 + 8}" x2="{x0 + 28}" y1="{top + 12 + 15 * row}" y2="{top + 12 + 15 * row}" stroke="{colour}" stroke-width="2.4"/>'
                f'<text x="{x0 + 34}" y="{top + 16 + 15 * row}">{title}</text>'
            )
    width, tall = len(results) * (panel + left), top + high + 42
    style = "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.axis{font-size:10px;fill:#888}.grid{stroke:#e4e0d8}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" width="{width}" height="{tall}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n"
    )


def main() -> None:
    results = json.loads((RESULTS / "cam_image.json").read_text())["results"]
    atomic_write_text(ROOT / "docs" / "images" / "cam_image.svg", bars(results))
    photographs = RESULTS / "kodak.json"
    if photographs.is_file():
        drawn = rates(json.loads(photographs.read_text())["results"])
        atomic_write_text(ROOT / "docs" / "images" / "kodak.svg", drawn)


if __name__ == "__main__":
    main()
