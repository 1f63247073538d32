"""The plot of docs/video.md, from committed results.

python -m benchmarks.video_plots
"""

from __future__ import annotations

import json
import math

from fieldstone.core.files import atomic_write_text

from .harness import RESULTS, ROOT
from .video import TRAINED

__all__ = ["panels"]

_TITLES = {"people": "people, 9 frames of 320 x 192", "carphone": "carphone, 120 frames of 176 x 144"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 330, 230, 46, 34, 60
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#222}.axis{font-size:10px;fill:#777}"
    ".grid{stroke:#e4e0d8}.x264{stroke:#6b7a8f;fill:none;stroke-width:1.6}"
    ".dot.cam{fill:#b4531f}.dot.plain{fill:#c9a227;stroke:#7a611a}.key{font-size:11px}"
    ".line.cam{stroke:#b4531f}.line.plain{stroke:#c9a227}.line{fill:none;stroke-width:1.4}"
)


def panels(results: dict[str, dict]) -> str:
    """An SVG with one panel a clip: PSNR over bytes on disk, of x264 (line), modulated and plain generators (dots)."""
    parts, left = [], _LEFT
    for clip, title in _TITLES.items():
        if clip in results:
            parts.append(_panel(results[clip], title, left))
            left += _WIDTH + _GAP
    width, height = left, _TOP + _HEIGHT + 66
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(result: dict, title: str, left: int) -> str:
    models = [row for part in TRAINED for row in result.get(part, [])]
    low, high = min(row["bytes"] for row in models) * 0.5, max(row["bytes"] for row in models) * 1.5
    curve = sorted(
        (row["bytes"], row["psnr"]) for row in result.get("x264", []) if low <= row["bytes"] <= high
    )
    values = [row["psnr"] for row in models] + [value for _, value in curve]
    floor, ceiling = math.floor(min(values)) - 1, math.ceil(max(values)) + 1

    def place(size: float, value: float) -> tuple[float, float]:
        across = (math.log(size) - math.log(low)) / (math.log(high) - math.log(low))
        return left + _WIDTH * across, _TOP + _HEIGHT * (1 - (value - floor) / (ceiling - floor))

    parts = [f'<text class="title" x="{left}" y="{_TOP - 14}">{title}</text>']
    step = max(1, round((ceiling - floor) / 6))
    for value in range(floor, ceiling + 1, step):
        _, y = place(low, value)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{left - 6}" y="{y + 3:.1f}" text-anchor="end">{value} dB</text>')
    for size in (2, 5, 10, 20, 50, 100, 200, 500):
        if low <= 1000 * size <= high:
            x, _ = place(1000 * size, floor)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}"/>')
            parts.append(
                f'<text class="axis" x="{x:.1f}" y="{_TOP + _HEIGHT + 14}" text-anchor="middle">{size} kB</text>'
            )
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
    parts.append(f'<polyline class="x264" points="{path}"/>')
    rate = result["rate"][0]["learning_rate"] if result.get("rate") else None
    for method in ("plain", "cam"):  # a line through the budgets at one rate
        line = sorted(
            place(row["bytes"], row["psnr"])
            for row in models
            if (row["method"], row["learning_rate"], row["seed"], row["batch"], row["neighbours"])
            == (method, rate, 0, 1, 0)
        )
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline class="line {method}" points="{path}"/>')
    for row in models:
        x, y = place(row["bytes"], row["psnr"])
        parts.append(f'<circle class="dot {row["method"]}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    bottom = _TOP + _HEIGHT + 40
    for number, (kind, name) in enumerate((("x264", "x264 slow"), ("cam", "modulated"), ("plain", "plain"))):
        x = left + 105 * number
        mark = (
            f'<line class="x264" x1="{x}" x2="{x + 18}" y1="{bottom}" y2="{bottom}"/>'
            if kind == "x264"
            else f'<circle class="dot {kind}" cx="{x + 9}" cy="{bottom}" r="3.5"/>'
        )
        parts.append(f'{mark}<text class="key" x="{x + 24}" y="{bottom + 4}">{name}</text>')
    return "".join(parts)


def main() -> None:
    results = json.loads((RESULTS / "video.json").read_text())["results"]
    path = ROOT / "docs" / "images" / "video.svg"
    atomic_write_text(path, panels(results))
    print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
