"""Text tables: XYZ, TXT, CSV, ASC, PTS, and NIST's .ds; the separator, a header and a count line are recognised."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..units import UNITS, parse_unit
from .raw import Raw, columns

__all__ = ["read"]

_NAMES = {
    **{"r": "red", "g": "green", "b": "blue", "normal_x": "nx", "normal_y": "ny", "normal_z": "nz"},
    **{"xcoord": "x", "ycoord": "y", "zcoord": "z", "sd": "sigma", "std": "sigma"},
}
_SEPARATORS = re.compile(r"[,;\t ]+")
_UNIT = re.compile(r"\bunits?\s*[:=]?\s*([a-zµμ]+)", re.IGNORECASE)


def read(path: Path) -> Raw:
    """Rows of at least three numbers. Without a header line the columns are x y z [nx ny nz | red green blue].

    A header may name columns (x, y, z, nx, ..., red, ..., sigma), with the unit in brackets as in "x [mm]"; a comment line may say "unit: mm". Lines
    that start with #, // or % are comments; a first line with one number is the count. With ";" between columns a decimal comma is read.
    Raises `UserError` naming the first line that does not fit.
    """
    text = path.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff")
    unit, names, rows, promised = None, None, [], None
    decimal_comma = ";" in text and "." not in text and "," in text
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line:
            continue
        if line.startswith(("#", "//", "%")):
            unit = unit or _unit_in(line)
            words = _words(line.lstrip("#/% "))
            if names is None and not rows and [w.lower() for w in words[:3]] == ["x", "y", "z"]:
                names = words
            continue
        words = _words(line.replace(",", ".") if decimal_comma else line)
        if not rows:
            if len(words) == 1 and words[0].isdigit():
                promised = int(words[0])
                continue
            if not _is_number(words[0]):
                if names is not None:
                    raise UserError(f"{path}: line {number} is {line[:60]!r}; numbers belong there")
                names = words
                units = re.findall(r"[\[(]([a-zµμ]+)[\])]", line, re.IGNORECASE)
                unit = unit or (units[0] if units and _known(units[0]) else None)
                continue
        if rows and len(words) != len(rows[0][1]):
            raise UserError(
                f"{path}: line {number} has {len(words)} columns, the first data line (line {rows[0][0]}) has {len(rows[0][1])}"
            )
        rows.append((number, words))
    if not rows or len(rows[0][1]) < 3:
        raise UserError(f"{path}: no rows of at least three numbers (x y z)")
    try:
        values = np.array([words for _, words in rows], dtype=np.float64)
    except ValueError:
        number, words = next((n, w) for n, w in rows if not all(_is_number(v) for v in w))
        raise UserError(f"{path}: line {number} is {' '.join(words)[:60]!r}; numbers belong there") from None
    notes = ()
    if promised is not None and promised != len(values):
        notes = (f"the first line promises {promised} points, {len(values)} follow",)
    table = _table(path, names, values)
    colours = columns(table, ("red", "green", "blue"))
    if colours is not None and colours.max() > 1:
        colours = np.clip(colours, 0, 255).astype(np.uint8)
    return Raw(
        points=columns(table, ("x", "y", "z")),
        normals=columns(table, ("nx", "ny", "nz")),
        colours=colours,
        sigma=table.get("sigma"),
        unit=unit,
        notes=notes,
    )


def _table(path: Path, names: list[str] | None, values: np.ndarray) -> dict[str, np.ndarray]:
    width = values.shape[1]
    if names is None:
        names = ["x", "y", "z"]
        if width >= 6:
            rest = values[:, 3:6]
            unit_length = np.abs(np.linalg.norm(rest, axis=1) - 1) < 0.01
            if unit_length.mean() > 0.9:
                names += ["nx", "ny", "nz"]
            elif rest.min() >= 0 and rest.max() <= 255 and (rest == np.round(rest)).all():
                names += ["red", "green", "blue"]
        return {name: values[:, i] for i, name in enumerate(names)}
    clean = [re.sub(r"[\[(].*?[\])]", "", name).strip(' "').lower() for name in names]
    clean = [_NAMES.get(name, name) for name in clean if name]
    if len(clean) != width or not {"x", "y", "z"} <= set(clean):
        raise UserError(
            f"{path}: the header names the columns {clean}, the rows have {width}; x, y and z are needed"
        )
    return {name: values[:, i] for i, name in enumerate(clean)}


def _words(line: str) -> list[str]:
    line = re.sub(r"\s+([\[(][^\])]*[\])])", r"\1", line)  # "x [mm]" is one word
    return [word for word in _SEPARATORS.split(line.strip()) if word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unit_in(line: str) -> str | None:
    match = _UNIT.search(line)
    return match[1] if match and _known(match[1]) else None


def _known(word: str) -> bool:
    try:
        return parse_unit(word) in UNITS
    except UserError:
        return False
