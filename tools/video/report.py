"""report.html of a video run: truth, decoded frame and error of three frames, PSNR over time, curves, settings."""

from __future__ import annotations

import html

import numpy as np

from fieldstone.core.files import atomic_write_text

from .. import metrics
from ..pictures import shrink
from ..training import report_page as page
from ..training.chart import line_chart
from ..training.device import machine
from ..training.progress import duration
from ..training.run import Run
from .view import VideoScene

__all__ = ["write_video_report"]

_LONGEST = 480
_SHARES = (0.1, 0.5, 0.9)


def write_video_report(run: Run, scene: VideoScene, outcome, scores: dict) -> None:
    """Writes `run.report_path`. `scores` is what `evaluation.score` gives."""
    clip = scene.clip
    chosen = sorted({round(share * (clip.frames - 1)) for share in _SHARES})
    figures = [
        (f"{scores['psnr']:.2f} dB", "PSNR, mean over frames"),
        (f"{min(view['psnr'] for view in scores['views']):.2f} dB", "PSNR, worst frame"),
        (f"{scene.field.parameters_count():,}", "parameters"),
        (f"{outcome.step:,}", "steps"),
        (duration(outcome.elapsed), "training time"),
    ]
    name = html.escape(clip.name)
    body = [
        f"<h1>{name}</h1>",
        f"<p>{html.escape(run.config['settings']['model'])} on {clip.frames} frames of {clip.width} x {clip.height} pixels, "
        f"{clip.fps:g} a second</p>",
        page.figures(figures),
        '<h2>Truth, decoded, error</h2><div class="views">',
        *(page.views(_view(scene, number, scores)) for number in chosen),
        "</div>",
        page.previews(run),
        '<h2>Curves</h2><div class="charts">',
        "<figure><figcaption>PSNR of each frame, dB</figcaption>"
        + line_chart(
            "PSNR of each frame, dB", range(clip.frames), [view["psnr"] for view in scores["views"]], "frame"
        )
        + "</figure>",
        *page.charts(run.metrics())[:2],
        '</div><div class="tables">',
        page.table("Settings", run.config["settings"]),
        page.table("Machine", machine()),
        "</div>",
    ]
    atomic_write_text(run.report_path, page.document(clip.name, body))


def _view(scene: VideoScene, number: int, scores: dict) -> dict:
    shown, truth = scene.frame(number), scene.clip.frame(number)
    error = metrics.error_map(shown.astype(np.float32) / 255, truth.astype(np.float32) / 255)
    return {
        "name": f"frame {number}",
        "psnr": scores["views"][number]["psnr"],
        "truth": shrink(truth, _LONGEST),
        "rendering": shrink(shown, _LONGEST),
        "error": shrink(error, _LONGEST),
    }
