"""A measurement as lines of text: each parameter with its expanded uncertainty."""

from __future__ import annotations

import math

import numpy as np

from .result import Measurement

__all__ = ["COVERAGE_FACTOR", "characteristic_lines", "limits", "measurement_lines", "quantity"]

COVERAGE_FACTOR = 2.0
"""k of the expanded uncertainty U = k u that is printed: about 95 % (GUM 6.2.1)."""


def quantity(value: float, uncertainty: float | None) -> str:
    """ "12.3456 ± 0.0012": the uncertainty with two digits, the value down to the same place."""
    if uncertainty is None or not math.isfinite(uncertainty) or uncertainty <= 0:
        return f"{value:.6g}"
    digits = max(0, min(12, 1 - math.floor(math.log10(uncertainty))))
    return f"{value:.{digits}f} ± {uncertainty:.{digits}f}"


def measurement_lines(measurement: Measurement) -> list[str]:
    """A title line and one line for each scalar or vector parameter; lists of features as one line each."""
    unit = measurement.unit or "(unit not known)"
    deviations = measurement.standard_uncertainty()
    used = f"{measurement.n_used:,} of {measurement.n_total:,} points, rms {measurement.rms:.4g} {unit}"
    lines = [f"{measurement.kind}: {used}"]
    if measurement.kind == "tolerances":
        return lines + characteristic_lines(measurement)
    for name, value in measurement.parameters.items():
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            items = value if isinstance(value, list) else [value]
            lines += [f"  {name}[{i}]: {_short(item)}" for i, item in enumerate(items)]
            continue
        if isinstance(value, list | tuple | np.ndarray):
            rows = measurement.indices(name)
            spread = [COVERAGE_FACTOR * deviations[measurement.covariance_names[i]] for i in rows]
            cells = [quantity(float(v), spread[i] if i < len(spread) else None) for i, v in enumerate(value)]
            lines.append(f"  {name:<16} ({', '.join(cells)})")
        elif isinstance(value, float | np.floating):
            u = deviations.get(name)
            lines.append(f"  {name:<16} {quantity(float(value), None if u is None else COVERAGE_FACTOR * u)}")
        else:
            lines.append(f"  {name:<16} {value}")
    return lines


def characteristic_lines(measurement: Measurement) -> list[str]:
    """The characteristics of a plan, aligned: name, value with expanded uncertainty, limit, verdict; reasons below."""
    rows = measurement.parameters["characteristics"]
    cells = [
        [
            row["name"],
            "-" if row["value"] is None else quantity(row["value"], row["expanded"]),
            limits(row["lower"], row["upper"]) + (f" (bonus {row['bonus']:.4g})" if row["bonus"] else ""),
            row["verdict"],
        ]
        for row in rows
    ]
    widths = [max((len(line[column]) for line in cells), default=0) for column in range(4)]
    lines = []
    for row, line in zip(rows, cells):
        lines.append("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip())
        if row["reason"]:
            lines.append(f"      {row['reason']}")
    return [*lines, f"  verdict: {measurement.parameters['verdict']}"]


def limits(lower: float | None, upper: float | None) -> str:
    """ "<= 0.05", or "9.9 to 10.1"."""
    if lower is None:
        return "-" if upper is None else f"<= {upper:.6g}"
    return f">= {lower:.6g}" if upper is None else f"{lower:.6g} to {upper:.6g}"


def _short(item: object) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{key} {_short(value)}" for key, value in item.items())
    if isinstance(item, float | np.floating):
        return f"{item:.6g}"
    if isinstance(item, list | tuple | np.ndarray):
        return "(" + ", ".join(_short(v) for v in item) + ")"
    return str(item)
