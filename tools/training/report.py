"""report.html: what a run learned, how, and on what, in one file that opens anywhere."""

from __future__ import annotations

import html

import numpy as np

from fieldstone.core.files import atomic_write_text

from ..evaluation import background_of, split_indices
from ..pictures import to_uint8
from . import report_page as page
from .device import machine
from .progress import duration, rate
from .run import Run

__all__ = ["write_report"]

_MOST_VIEWS = 4
_LONGEST = 480


def write_report(run: Run, scene, capture, outcome) -> str:
    """Renders a few held-out views (training views when none is held out) and writes `run.report_path`.

    At most 4 views, evenly spread, at up to 480 pixels; `evaluate` measures all of them at full size.
    `outcome` is what `train` returned. Gives back a phrase with the mean PSNR, for the line that ends a
    training.
    """
    split, indices = split_indices(capture, None)
    chosen = [indices[i] for i in page.spread(len(indices), _MOST_VIEWS)]
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
    body = [
        f"<h1>{html.escape(capture.name)}</h1>",
        f"<p>{html.escape(run.config['method'])} on {len(capture.names)} frames "
        f"({html.escape(capture.format)})</p>",
        page.figures(figures),
        f"<h2>{kind.capitalize()} views: truth, rendering, error</h2>",
        '<div class="views">',
        *(page.views(view) for view in views),
        "</div>",
        page.previews(run),
        '<h2>Curves</h2><div class="charts">',
        *page.charts(metrics),
        '</div><div class="tables">',
        page.table("Settings", run.config["settings"]),
        page.table("Run", _facts(run, capture, outcome)),
        page.table(
            "Machine", machine() | {f"back end: {k}": v for k, v in run.config.get("backends", {}).items()}
        ),
        "</div>",
        _notes(capture),
    ]
    atomic_write_text(run.report_path, page.document(capture.name, body))
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


def _notes(capture) -> str:
    if not capture.notes:
        return ""
    return "<h2>Notes on the data</h2>" + "".join(f"<p>{html.escape(note)}</p>" for note in capture.notes)
