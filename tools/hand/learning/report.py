"""What `hand learn` says: a table for people, JSON, or a page with the three curves of the literature."""

from __future__ import annotations

import html
import json
from pathlib import Path

from fieldstone.core.files import atomic_write_json, atomic_write_text

from ...training.chart import line_chart

__all__ = ["learning_lines", "write_learning_report"]


def learning_lines(report: dict) -> list[str]:
    """The report for people."""
    error, shape = report["held_out_error_mm"], report["shape"]
    lines = [
        f"{report['meshes']} meshes of {report['subjects']} subjects; noise of a coordinate {report['noise_mm']:.3f} mm"
    ]
    if error["skinning"] is not None:
        tail = (
            f", with correctives {error['correctives']:.3f} mm"
            if error["correctives"] is not None
            else ", no correctives"
        )
        lines.append(
            f"held-out vertex error of {report['held_out_meshes']} meshes: skinning alone {error['skinning']:.3f} mm{tail}"
        )
    lines.append("components  explained  compactness  generalisation  specificity")
    for row, count in enumerate(shape["components"]):
        lines.append(
            f"{count:10d}  {report['explained'][str(count)]:9.4f}  {shape['compactness'][row]:11.4f}  "
            f"{shape['generalisation_mm'][row]:11.3f} mm  {shape['specificity_mm'][row]:8.3f} mm"
        )
    return lines + [f"note: {note}" for note in report["notes"]]


def write_learning_report(path: str | Path, report: dict) -> None:
    """Writes .json, or .html with charts."""
    path = Path(path)
    if path.suffix == ".json":
        atomic_write_json(path, report)
        return
    shape = report["shape"]
    charts = [
        line_chart(title, shape["components"], values, "components")
        for title, values in (
            ("compactness: share of variance", shape["compactness"]),
            ("generalisation, mm", shape["generalisation_mm"]),
            ("specificity, mm", shape["specificity_mm"]),
        )
    ]
    titles = (
        "Compactness: share of the variance in the first components",
        "Generalisation: distance of a person left out, mm",
        "Specificity: distance of a drawn shape from the nearest person, mm",
    )
    figures = "".join(
        f"<figure>{chart}<figcaption>{title}</figcaption></figure>" for chart, title in zip(charts, titles)
    )
    table = html.escape("\n".join(learning_lines(report)))
    atomic_write_text(
        path,
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>hand learn</title><style>'
        "body{margin:2em auto;max-width:60em;font:15px/1.5 system-ui,sans-serif}figure{margin:1em 0;max-width:34em}"
        "svg text{font:11px system-ui;fill:#6f6a62}svg .grid{stroke:#ddd;fill:none}svg .line{stroke:#b4531f;fill:none;"
        f"stroke-width:2}}</style><h1>Learned model</h1><pre>{table}</pre>{figures}"
        f"<details><summary>All figures</summary><pre>{html.escape(json.dumps(report, indent=1))}</pre></details></html>",
    )
