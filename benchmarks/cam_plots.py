"""The plot of docs/modulation.md, from committed results.

python -m benchmarks.cam_plots
"""

from __future__ import annotations

import html
import json

from fieldstone.core.files import atomic_write_text

from .harness import RESULTS, ROOT

__all__ = ["bars"]

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


def main() -> None:
    results = json.loads((RESULTS / "cam_image.json").read_text())["results"]
    atomic_write_text(ROOT / "docs" / "images" / "cam_image.svg", bars(results))


if __name__ == "__main__":
    main()
