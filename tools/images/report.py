"""report.html of an image run: truth, field and error, curves, settings; in the dress of the scenes' report."""

from __future__ import annotations

import html

from fieldstone.core.files import atomic_write_text

from .. import metrics
from ..pictures import shrink, to_uint8
from ..training import report_page as page
from ..training.device import machine
from ..training.progress import duration
from ..training.run import Run

__all__ = ["write_image_report"]

_LONGEST = 640


def write_image_report(run: Run, scene, outcome, scores: dict[str, float]) -> None:
    """Writes `run.report_path`. `scores` is what `evaluation.score` gives."""
    picture = scene.picture
    values, target = scene.values(), picture.target
    view = {
        "name": picture.name,
        "psnr": scores["psnr"],
        "truth": shrink(to_uint8(target), _LONGEST),
        "rendering": shrink(to_uint8(values), _LONGEST),
        "error": shrink(metrics.error_map(values, target), _LONGEST),
    }
    figures = [
        (f"{scores['psnr']:.2f} dB", "PSNR, all pixels" + (", mu-law" if picture.depth == "hdr" else "")),
        *(
            [(f"{scores['psnr_held_out']:.2f} dB", "PSNR, held-out pixels")]
            if "psnr_held_out" in scores
            else []
        ),
        (f"{scene.field.parameters_count():,}", "parameters"),
        (f"{outcome.step:,}", "steps"),
        (duration(outcome.elapsed), "training time"),
    ]
    name = html.escape(picture.name)
    body = [
        f"<h1>{name}</h1>",
        f"<p>{html.escape(run.config['settings']['model'])} on {picture.width} x {picture.height} pixels</p>",
        page.figures(figures),
        '<h2>Truth, field, error</h2><div class="views">',
        page.views(view),
        "</div>",
        page.previews(run),
        '<h2>Curves</h2><div class="charts">',
        *page.charts(run.metrics())[:2],
        '</div><div class="tables">',
        page.table("Settings", run.config["settings"]),
        page.table("Machine", machine()),
        "</div>",
    ]
    atomic_write_text(run.report_path, page.document(picture.name, body))
