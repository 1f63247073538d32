"""A self-contained HTML report: parameters with uncertainty, verdicts, warnings, and pictures; nothing is loaded from anywhere."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np

from fieldstone.core.files import atomic_write_bytes

from .cloud import Cloud
from .result import Measurement, plain, software
from .table import COVERAGE_FACTOR, limits, quantity

__all__ = ["PICTURES", "write_report"]

PICTURES = {
    **dict.fromkeys(("line", "plane", "circle", "sphere", "cylinder", "cone", "torus"), "deviation_picture"),
    "decode": "decode_picture",
    "tolerances": "tolerance_picture",
    "thread": "thread_picture",
    "holes": "holes_picture",
    "flange": "holes_picture",
    "match": "match_picture",
}
"""Of each kind of measurement the module whose `pictures(measurement, cloud)` gives {title: inline SVG}."""

_MOST_ROWS = 400
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2126;background:#f4f5f6;margin:0}
main{max-width:1080px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:0 0 10px}h3{font-size:14px;margin:18px 0 6px;color:#4b5560}
section{background:#fff;border:1px solid #dcdfe3;border-radius:8px;padding:18px 22px;margin:18px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:4px 10px 4px 0;text-align:left;border-bottom:1px solid #eceef0;vertical-align:top}
th{font-weight:600;color:#4b5560}table.p th{width:190px}table.p td{overflow-wrap:anywhere}td.n{white-space:nowrap}
.quiet{color:#68727d;font-size:13px}.warning{background:#fff6dd;border-left:4px solid #d9a514;padding:6px 12px;margin:6px 0}
.accept{color:#176b3a;font-weight:600}.reject{color:#a51923;font-weight:600}.undecided{color:#8a5a00;font-weight:600}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(460px,1fr));gap:10px 22px}
figure{margin:0}figcaption{font-size:14px;color:#4b5560;margin:12px 0 4px}svg{max-width:100%;height:auto;display:block}
pre{overflow:auto;max-height:420px;background:#f4f5f6;padding:10px;font-size:12px}
"""


def write_report(
    folder: str | os.PathLike,
    measurements: Sequence[Measurement],
    *,
    cloud: Cloud | None = None,  # that they were measured in
    pictures: Iterable[tuple[str, str]] = (),  # (title, inline <svg> or <img>) beside those of each kind
) -> Path:
    """Writes FOLDER/report.html and gives its path. Every text from outside is escaped."""
    extra = list(pictures)
    parts = [_section(m, cloud, extra if i == 0 else []) for i, m in enumerate(measurements)]
    title = ", ".join(dict.fromkeys(m.kind for m in measurements)) or "measurement"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    version = software()
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main><h1>Measured: {escape(title)}</h1>"
        f'<p class="quiet">{escape(version["name"])} {escape(version["version"])}, {made}. Uncertainties are expanded, '
        f"U = {COVERAGE_FACTOR:g} u (about 95 %).</p>{''.join(parts)}</main></body></html>"
    )
    path = Path(folder) / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, html.encode())
    return path


def _section(m: Measurement, cloud: Cloud | None, extra: list[tuple[str, str]]) -> str:
    source = m.input.get("path")
    about = [f"{m.n_used:,} of {m.n_total:,} used", f"rms {m.rms:.4g} {m.unit or ''}".strip()]
    about += [f"seed {m.seed}"] if m.seed is not None else []
    name = f"{m.kind}: {Path(source).name}" if source else m.kind
    out = [f"<section><h2>{escape(name)}</h2>", f'<p class="quiet">{escape(", ".join(about))}</p>']
    if m.input.get("sha256"):
        out.append(f'<p class="quiet">SHA-256 of the input {escape(m.input["sha256"])}</p>')
    out += [f'<div class="warning">{escape(w)}</div>' for w in m.warnings]
    out.append(_characteristics(m) if m.kind == "tolerances" else _parameters(m))
    found = {
        **(_own_pictures(m, cloud) if cloud is not None or m.kind in ("tolerances", "match") else {}),
        **dict(extra),
    }
    if found:
        figures = (f"<figure><figcaption>{escape(t)}</figcaption>{svg}</figure>" for t, svg in found.items())
        out.append(f'<div class="pictures">{"".join(figures)}</div>')
    document = json.dumps(m.to_json(), indent=1, ensure_ascii=False)
    if len(document) > 400_000:
        document = document[:400_000] + "\n... (shortened)"
    out.append(
        f"<details><summary>all numbers (JSON)</summary><pre>{escape(document)}</pre></details></section>"
    )
    return "".join(out)


def _own_pictures(m: Measurement, cloud: Cloud | None) -> dict[str, str]:
    name = PICTURES.get(m.kind)
    if name is None or importlib.util.find_spec(f"{__package__}.{name}") is None:
        return {}
    module = importlib.import_module(f"{__package__}.{name}")
    return module.pictures(m, cloud) if hasattr(module, "pictures") else {}


def _parameters(m: Measurement) -> str:
    deviations = m.standard_uncertainty()
    rows, lists = [], []
    for name, value in m.parameters.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lists.append((name, value))
            continue
        if isinstance(value, list | tuple | np.ndarray) and np.ndim(value) == 1:
            at = [m.covariance_names[i] for i in m.indices(name)]
            spread = [COVERAGE_FACTOR * deviations[n] for n in at] + [None] * len(value)
            text = ", ".join(
                quantity(float(v), u) if isinstance(v, int | float) else str(v) for v, u in zip(value, spread)
            )
        elif isinstance(value, float):
            u = deviations.get(name)
            text = quantity(value, None if u is None else COVERAGE_FACTOR * u)
        else:
            text = (
                json.dumps(plain(value), ensure_ascii=False) if isinstance(value, dict | list) else str(value)
            )
        rows.append(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>")
    out = [f'<table class="p">{"".join(rows)}</table>']
    for name, items in lists:
        columns = list(
            dict.fromkeys(key for item in items for key in item if not isinstance(item[key], dict))
        )
        head = "".join(f"<th>{escape(c)}</th>" for c in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(item.get(c)))}</td>" for c in columns) + "</tr>"
            for item in items[:_MOST_ROWS]
        )
        out.append(f"<h3>{escape(name)}</h3><table><tr>{head}</tr>{body}</table>")
    return "".join(out)


def _characteristics(m: Measurement) -> str:
    rows = []
    for row in m.parameters["characteristics"]:
        value = "-" if row["value"] is None else quantity(row["value"], row["expanded"])
        bound = limits(row["lower"], row["upper"]) + (f" (bonus {row['bonus']:.4g})" if row["bonus"] else "")
        style = row["verdict"].split()[0] if row["verdict"] in ("accept", "reject", "undecided") else "reject"
        reason = f'<div class="quiet">{escape(row["reason"])}</div>' if row["reason"] else ""
        datums = "|".join(row["datums"])
        rows.append(
            f"<tr><td>{escape(row['name'])}{reason}</td><td>{escape(row['kind'])}</td><td>{escape(datums)}</td>"
            f'<td class="n">{escape(value)}</td><td class="n">{escape(bound)}</td><td class="{style}">{escape(row["verdict"])}</td></tr>'
        )
    verdict = m.parameters["verdict"]
    style = verdict if verdict in ("accept", "undecided") else "reject"
    return (
        f'<p>Verdict: <span class="{style}">{escape(verdict)}</span></p><table><tr><th>characteristic</th><th>kind</th><th>datums</th>'
        f"<th>value ({escape(m.unit or '')})</th><th>limit</th><th>verdict</th></tr>{''.join(rows)}</table>"
    )


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value).lower()
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(_cell(v) for v in value)
    return str(value)
