"""The parts that reports of all kinds of runs are made of: a page in one dress, figures, pictures, charts, tables; in one file that opens anywhere."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable

import numpy as np

from ..pictures import encode
from .chart import line_chart
from .run import Run

__all__ = ["charts", "document", "figures", "previews", "spread", "table", "views"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #23211e; --soft: #6f6a62; --rule: #e2ded7;
  --card: #fff; --line: #b4531f; }
@media (prefers-color-scheme: dark) { :root { --paper: #191817; --ink: #ece9e4; --soft: #a09a90;
  --rule: #37342f; --card: #22201e; --line: #f0955a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 12px; }
p { margin: 0 0 8px; color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 0; }
.figures div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 16px;
} .figures b { display: block; font-size: 22px; font-weight: 600; } .figures span { color: var(--soft);
font-size: 13px; } .views { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; }
.views figure, .strip figure { margin: 0; } .views img, .strip img { width: 100%; display: block;
border-radius: 4px; } figcaption { font-size: 13px; color: var(--soft); padding: 3px 0 8px; overflow-wrap:
anywhere; } .strip { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 16px; }
.charts figure { margin: 0; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
padding: 10px; } .charts figcaption { padding: 0 0 4px 4px; color: var(--ink); }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill:
var(--soft); } svg .grid { stroke: var(--rule); fill: none; } svg .line { stroke: var(--line); stroke-width:
1.8; fill: none;
  stroke-linejoin: round; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } td { padding: 4px 12px 4px 0;
vertical-align: top;
  border-top: 1px solid var(--rule); overflow-wrap: anywhere; } td:first-child { color: var(--soft); width:
  34%; }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 0 32px; }
@media (max-width: 640px) { .views, .strip { grid-template-columns: 1fr; } }
"""


def document(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML, the title is not."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} – Fieldstone</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(body)
        + "</main></body></html>\n"
    )


def figures(pairs: Iterable[tuple[str, str]]) -> str:
    """Large numbers in a row: (value, what it is)."""
    return (
        '<div class="figures">'
        + "\n".join(
            f"<div><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>" for value, what in pairs
        )
        + "</div>"
    )


def views(view: dict) -> str:
    """One row of pictures: "truth", "rendering" and "error" as uint8 (h, w, 3), with "name" and "psnr"; belongs in a `div.views`."""
    name = html.escape(view["name"], quote=True)
    captions = {"truth": name, "rendering": f"{view['psnr']:.2f} dB", "error": "absolute error"}
    return "".join(
        f'<figure><img alt="{kind} of {name}" src="{_data_uri(encode(view[kind], "jpeg"))}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for kind, caption in captions.items()
    )


def previews(run: Run) -> str:
    """At most four of the run's previews, evenly spread; nothing where it has none."""
    files = sorted(run.previews.glob("step_*.jpg"))
    if not files:
        return ""
    figures = "".join(
        f'<figure><img alt="preview" src="{_data_uri(files[i].read_bytes())}">'
        f"<figcaption>step {int(files[i].stem[5:]):,}</figcaption></figure>"
        for i in spread(len(files), 4)
    )
    return f'<h2>Along the way</h2><div class="strip">{figures}</div>'


def charts(metrics: list[dict]) -> list[str]:
    """PSNR, loss, rays and samples a second over the seconds of training, each a figure; belongs in a `div.charts`."""
    seconds = [line.get("elapsed") for line in metrics]
    curves = (
        ("Training PSNR, dB", "psnr", False),
        ("Loss", "loss", True),
        ("Rays a second", "rays_per_second", False),
        ("Samples a second", "samples_per_second", False),
    )
    return [
        f"<figure><figcaption>{title}</figcaption>"
        + line_chart(
            title, seconds, [line.get(key) for line in metrics], "seconds of training", logarithmic=log
        )
        + "</figure>"
        for title, key, log in curves
    ]


def table(title: str, rows: dict) -> str:
    """Names and values under a heading; belongs in a `div.tables`."""
    cells = "".join(
        f"<tr><td>{html.escape(str(key))}</td>"
        f"<td>{html.escape(value if isinstance(value, str) else json.dumps(value))}</td></tr>"
        for key, value in rows.items()
    )
    return f"<section><h2>{title}</h2><table>{cells}</table></section>"


def spread(count: int, most: int) -> list[int]:
    """At most `most` of range(count), evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
