"""report.html: what a run learned, how, and on what, in one file that opens anywhere."""

from __future__ import annotations

import base64
import html
import json

import numpy as np

from fieldstone.core.files import atomic_write_text

from ..evaluation import background_of, split_indices
from ..pictures import encode, to_uint8
from .chart import line_chart
from .device import machine
from .progress import duration, rate
from .run import Run

__all__ = ["write_report"]

_MOST_VIEWS = 4
_LONGEST = 480

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


def write_report(run: Run, scene, capture, outcome) -> str:
    """Renders a few held-out views (training views when none is held out) and writes `run.report_path`.

    At most 4 views, evenly spread, at up to 480 pixels; `evaluate` measures all of them at full size.
    `outcome` is what `train` returned. Gives back a phrase with the mean PSNR, for the line that ends a
    training.
    """
    split, indices = split_indices(capture, None)
    chosen = [indices[i] for i in _spread(len(indices), _MOST_VIEWS)]
    views = [_view(scene, capture, index) for index in chosen]
    psnr = float(np.mean([view["psnr"] for view in views]))
    kind = "held-out" if split == "test" else "training"
    where = f"{len(views)} {kind} view{'s' if len(views) > 1 else ''}"
    metrics = run.metrics()
    last = metrics[-1] if metrics else {}
    figures = [
        (f"{psnr:.2f} dB", f"PSNR, mean of {where}"),
        (duration(outcome.elapsed), "training time"),
        (f"{outcome.step:,}", "steps"),
        (rate(last.get("total_rays")), "rays"),
        (rate(last.get("total_samples")), "samples"),
    ]
    title = f"{capture.name} – Fieldstone"
    body = [
        f"<h1>{html.escape(capture.name)}</h1>",
        f"<p>{html.escape(run.config['method'])} on {len(capture.names)} frames "
        f"({html.escape(capture.format)})</p>",
        '<div class="figures">',
        *(
            f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>"
            for value, name in figures
        ),
        f"</div><h2>{kind.capitalize()} views: truth, rendering, error</h2>",
        '<div class="views">',
        *(_view_html(view) for view in views),
        "</div>",
        _previews_html(run),
        '<h2>Curves</h2><div class="charts">',
        *_charts(metrics),
        '</div><div class="tables">',
        _table("Settings", run.config["settings"]),
        _table("Run", _facts(run, capture, outcome)),
        _table(
            "Machine", machine() | {f"back end: {k}": v for k, v in run.config.get("backends", {}).items()}
        ),
        "</div>",
        _notes(capture),
    ]
    atomic_write_text(
        run.report_path,
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        + "\n".join(body)
        + "</main></body></html>\n",
    )
    return f", {psnr:.2f} dB on {where}"


def _view(scene, capture, index: int) -> dict:
    """One frame at report size: pictures as uint8, and the PSNR of what is shown."""
    import torch

    from .. import metrics
    from ..evaluation import thumbnail_cameras
    from ..pictures import composite

    image = capture.images[index]
    background = background_of(capture, image)
    camera = thumbnail_cameras(capture.cameras, index, _LONGEST)
    with torch.no_grad():
        rendered = scene.render_view(camera, 0, background=background)["colour"].detach().cpu().float()
    width, height = (int(v) for v in camera.sizes[0])
    wanted = _resized(composite(image, background), width, height)
    truth = torch.from_numpy(wanted)
    return {
        "name": capture.names[index],
        "psnr": min(float(metrics.psnr(rendered, truth)), 100.0),
        "truth": to_uint8(wanted),
        "rendering": to_uint8(rendered.numpy()),
        "error": metrics.error_map(rendered, truth),
    }


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    import cv2

    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of range(count), evenly spread, first and last among them."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _view_html(view: dict) -> str:
    name = html.escape(view["name"], quote=True)
    captions = {"truth": name, "rendering": f"{view['psnr']:.2f} dB", "error": "absolute error"}
    return "".join(
        f'<figure><img alt="{kind} of {name}" src="{_data_uri(encode(view[kind], "jpeg"))}">'
        f"<figcaption>{caption}</figcaption></figure>"
        for kind, caption in captions.items()
    )


def _previews_html(run: Run) -> str:
    files = sorted(run.previews.glob("step_*.jpg"))
    if not files:
        return ""
    figures = "".join(
        f'<figure><img alt="preview" src="{_data_uri(files[i].read_bytes())}">'
        f"<figcaption>step {int(files[i].stem[5:]):,}</figcaption></figure>"
        for i in _spread(len(files), 4)
    )
    return f'<h2>Along the way</h2><div class="strip">{figures}</div>'


def _charts(metrics: list[dict]) -> list[str]:
    seconds = [line.get("elapsed") for line in metrics]
    charts = (
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
        for title, key, log in charts
    ]


def _facts(run: Run, capture, outcome) -> dict:
    splits = {name: len(index) for name, index in capture.splits.items()}
    return {
        "seed": run.config["seed"],
        "device": run.config["device"],
        "budget": ", ".join(
            f"{value:g} {unit}" for unit, value in run.config["budget"].items() if value is not None
        ),
        "frames": ", ".join(f"{count} {name}" for name, count in splits.items()),
        "downscale": run.config["data"].get("downscale"),
        "background": capture.background or "as photographed",
        "first step (compiles kernels once)": f"{outcome.compile_seconds:.1f} s",
        "steps skipped for bad gradients": outcome.skipped,
    }


def _table(title: str, rows: dict) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(str(key))}</td>"
        f"<td>{html.escape(value if isinstance(value, str) else json.dumps(value))}</td></tr>"
        for key, value in rows.items()
    )
    return f"<section><h2>{title}</h2><table>{cells}</table></section>"


def _notes(capture) -> str:
    if not capture.notes:
        return ""
    return "<h2>Notes on the data</h2>" + "".join(f"<p>{html.escape(note)}</p>" for note in capture.notes)
