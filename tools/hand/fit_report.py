"""The report of a fit: one HTML page with pictures of what is left over, and how well each degree of freedom is known."""

from __future__ import annotations

import base64
import html
import os

import numpy as np

from fieldstone.core.files import atomic_write_text

from ...fields.articulated.model_data import ModelData
from ..pictures import encode, to_uint8
from .fitting.observation_fit import Fitted
from .observed.observation import Observation
from .residual_pictures import RAMP, residual_pictures
from .result import HandResult

__all__ = ["write_report"]

_UNSEEN = 0.5
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{font-size:13px;color:#555}"
    "img{max-width:27em;border:1px solid #ddd}table{border-collapse:collapse;font-size:14px}"
    "td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child{text-align:left}"
    ".u{color:#a50f3c;font-weight:600}.r{height:14px;width:20em;border:1px solid #ccc}"
)


def write_report(
    path: str | os.PathLike, data: ModelData, seen: Observation, found: Fitted, result: HandResult
) -> None:
    """Of the first frame; the file needs nothing beside it."""
    pictures, limit = residual_pictures(data, seen, found)
    figures = "".join(
        f'<figure><img src="data:image/png;base64,{_png(image)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
        for caption, image in pictures
    )
    stops = ",".join(f"rgb({','.join(str(round(255 * c)) for c in colour)})" for colour in RAMP)
    legend = ""
    if found.kind in ("points", "scans", "depth"):
        legend = (
            f"<p>distance, 0 to {limit:g} {found.unit}; blue-grey: nothing seen there, black: taken for an outlier</p>"
            f'<div class="r" style="background:linear-gradient(90deg,{stops})"></div>'
        )
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in found.fit.report(found.scale, found.unit))
    atomic_write_text(
        path,
        f"<!doctype html><meta charset=utf-8><title>Fit of {html.escape(os.path.basename(seen.where))}</title><style>{_STYLE}</style>"
        f"<h1>Fit of {html.escape(os.path.basename(seen.where))}</h1><p>{html.escape(', '.join(seen.kinds()))}; model "
        f"{html.escape(os.path.basename(result.model))}, {data.layout} {data.side}</p><ul>{lines}</ul>{figures}{legend}"
        f"<h2>How well it is known</h2><p>One standard deviation, first frame: degrees about each axis of the joint's own frame, millimetres "
        f"for the translation. <span class=u>Red</span>: the data left more than half of the variance that there was before it; what "
        f"the result says there comes from the priors.</p>{_table(result)}",
    )


def _table(result: HandResult) -> str:
    own = result.uncertainty
    rows: dict[str, list[str]] = {}
    shape = []
    for name, deviation, unseen in zip(own.names, own.standard_deviation[0], own.unseen[0]):
        mark = ' class="u"' if unseen > _UNSEEN else ""
        joint = name.rpartition(" ")[0]
        if not joint:
            shape.append(f"<td{mark}>{deviation:.2f}</td>")
            continue
        value = deviation * 1e3 if joint == "translation" else np.degrees(deviation)
        rows.setdefault(joint, []).append(f"<td{mark}>{value:.3g}</td>")
    body = "".join(f"<tr><td>{html.escape(joint)}</td>{''.join(cells)}</tr>" for joint, cells in rows.items())
    numbers = ""
    if shape:
        head = "".join(f"<th>{i}</th>" for i in range(len(shape)))
        numbers = f"<h3>Shape</h3><table><tr><th>direction</th>{head}</tr><tr><td>deviation</td>{''.join(shape)}</tr></table>"
    return f"<table><tr><th>joint</th><th>x</th><th>y</th><th>z</th></tr>{body}</table>{numbers}"


def _png(image: np.ndarray) -> str:
    return base64.b64encode(encode(to_uint8(image), "png")).decode()
