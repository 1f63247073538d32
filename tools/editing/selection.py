"""Which primitives an edit is about: by box, class, number or scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["KEYS", "Selectable", "described", "ids_text", "parse_ids", "parse_terms", "select"]

KEYS = {
    "box": "x0,y0,z0,x1,y1,z1 (two corners)",
    "oriented_box": "cx,cy,cz,sx,sy,sz,rx,ry,rz (middle, sides, rotation vector in degrees)",
    "label": "a class, or several with commas between them",
    "ids": "numbers of primitives, as in 3,7-12",
    "scale": "0 for the finest, 1 for those twice as wide, ...",
    "all": "true",
}
"""What a selection may say; a primitive is selected that fits all of it. Lengths in the source frame and unit."""


@dataclass(frozen=True, eq=False)
class Selectable:
    """The m primitives that are there to be selected."""

    ids: np.ndarray
    """(m,) int64 ascending."""
    centres: np.ndarray
    """(m, 3) middles of their vertices, source frame: a box selects those whose middle lies in it."""
    scale: np.ndarray
    """(m,) int64, 0 the finest."""
    classes: Callable[[], tuple[np.ndarray, dict[int, str]]]
    """Called if a class is asked for: (m,) class numbers, -1 unknown, and the names of classes. May raise UserError."""
    given: int
    """Numbers given so far: those of primitives that were deleted are among them, and are not given again."""


def parse_terms(terms: Iterable[str]) -> dict:
    """The selection that a command line says: "label=car", "box=1,2,0,5,4,2", ... UserError for what is none."""
    selection: dict = {}
    for term in terms:
        key, equals, value = term.partition("=")
        key = key.replace("-", "_")
        if not equals or key not in KEYS:
            raise UserError(
                f"selection {term!r}: write "
                + ", ".join(f"{name.replace('_', '-')}=..." for name in KEYS if name != "all")
                + " or all=true"
            )
        if key in selection:
            raise UserError(f"selection: {key} is given twice; a primitive has to fit all that is said")
        if key in ("box", "oriented_box"):
            numbers = _numbers(value, 6 if key == "box" else 9, key)
            selection[key] = (
                [numbers[:3], numbers[3:]]
                if key == "box"
                else {"centre": numbers[:3], "size": numbers[3:6], "rotation_deg": numbers[6:]}
            )
        elif key == "scale":
            if not value.isdigit():
                raise UserError(f"selection: scale {value!r}; give a whole number from 0")
            selection[key] = int(value)
        elif key == "all":
            selection[key] = value == "true"
        else:
            selection[key] = [name.strip() for name in value.split(",")] if key == "label" else value
    return selection


def described(selection: dict) -> str:
    """For messages."""
    parts = []
    for key, value in selection.items():
        text = ",".join(map(str, value)) if key == "label" and not isinstance(value, str) else value
        parts.append(f"{key}={text}")
    return " ".join(parts) or "nothing"


def select(selection: object, scene: Selectable) -> np.ndarray:  # (k,) int64 rows, at least one
    """Rows of `scene` that fit all of `selection`, plain data as in an edit list. UserError if none does or it makes no sense."""
    if not isinstance(selection, dict) or not selection:
        raise UserError(f"selection {selection!r}: say one of {', '.join(KEYS)}")
    unknown = sorted(set(selection) - set(KEYS))
    if unknown:
        raise UserError(f"selection: unknown key {unknown[0]!r}; there are {', '.join(KEYS)}")
    chosen = np.ones(len(scene.ids), bool)
    for key, value in selection.items():
        chosen &= _SELECTORS[key](value, scene)
    if not chosen.any():
        low, high = (scene.centres.min(0), scene.centres.max(0)) if len(scene.ids) else (0, 0)
        raise UserError(
            f"selection {described(selection)}: no primitive fits; there are {len(scene.ids)}, with middles from "
            f"{np.round(low, 2).tolist()} to {np.round(high, 2).tolist()}"
        )
    return np.flatnonzero(chosen)


def _box(value: object, scene: Selectable) -> np.ndarray:
    corners = _array(value, (2, 3), "box", "[[x0, y0, z0], [x1, y1, z1]]")
    low, high = corners.min(0), corners.max(0)
    return ((scene.centres >= low) & (scene.centres <= high)).all(1)


def _oriented_box(value: object, scene: Selectable) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    form = '{"centre": [x, y, z], "size": [x, y, z], "rotation_deg": [x, y, z]}'
    if not isinstance(value, dict) or set(value) != {"centre", "size", "rotation_deg"}:
        raise UserError(f"selection: oriented_box {value!r}; give {form}")
    centre, size, turn = (
        _array(value[key], (3,), f"oriented_box {key}", "[x, y, z]")
        for key in ("centre", "size", "rotation_deg")
    )
    if (size <= 0).any():
        raise UserError(f"selection: oriented_box of size {size.tolist()}; sides must be above 0")
    local = Rotation.from_rotvec(np.radians(turn)).inv().apply(scene.centres - centre)
    return (np.abs(local) <= size / 2).all(1)


def _label(value: object, scene: Selectable) -> np.ndarray:
    wanted = [value] if isinstance(value, str) else value
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise UserError(f"selection: label {value!r}; give a name or a list of names")
    classes, names = scene.classes()
    present = {names[number] for number in np.unique(classes) if number in names}
    for name in wanted:
        if name not in names.values():
            raise UserError(f"selection: no class {name!r}; here are {', '.join(sorted(present))}")
    return np.isin(classes, [number for number, name in names.items() if name in wanted])


def _ids(value: object, scene: Selectable) -> np.ndarray:
    ids = np.unique(parse_ids(value))
    if ids[-1] >= scene.given:
        raise UserError(f"selection: no primitive {ids[-1]}; they are numbered from 0 to {scene.given - 1}")
    gone = np.setdiff1d(ids, scene.ids)
    if len(gone):
        raise UserError(f"selection: primitive {ids_text(gone)} is not there any more")
    return np.isin(scene.ids, ids)


def _scale(value: object, scene: Selectable) -> np.ndarray:
    there = int(scene.scale.max()) if len(scene.scale) else 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= there:
        raise UserError(f"selection: scale {value!r}; there are 0 to {there}")
    return scene.scale == value


def _all(value: object, scene: Selectable) -> np.ndarray:
    if value is not True:
        raise UserError(f"selection: all {value!r}; it can only be true")
    return np.ones(len(scene.ids), bool)


_SELECTORS = {
    "box": _box,
    "oriented_box": _oriented_box,
    "label": _label,
    "ids": _ids,
    "scale": _scale,
    "all": _all,
}


def parse_ids(value: object) -> np.ndarray:
    """(k,) int64 of "3,7-12" or [3, 7, 8]. UserError for anything else."""
    if isinstance(value, str):
        found: list[int] = []
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
                raise UserError(f"selection: ids {part.strip()!r}; write numbers and ranges, as in 3,7-12")
            if dash and int(last) - int(first) > 10**8:
                raise UserError(f"selection: ids {part.strip()!r}: more than any scene has")
            found += range(int(first), int(last if dash else first) + 1)
        return np.array(found, np.int64)
    if (
        isinstance(value, list)
        and value
        and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value)
    ):
        return np.array(value, np.int64)
    raise UserError(f"selection: ids {value!r}; write numbers and ranges, as in 3,7-12, or a list of numbers")


def ids_text(ids: np.ndarray) -> str:
    """Ascending numbers as "3,7-12"."""
    ids = np.asarray(ids)
    runs = np.split(ids, np.flatnonzero(np.diff(ids) != 1) + 1)
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _numbers(text: str, count: int, key: str) -> list[float]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise UserError(f"selection: {key} {text!r}; give {count} finite numbers: {KEYS[key]}")
    return values


def _array(value: object, shape: tuple[int, ...], what: str, form: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.isfinite(array).all():
        raise UserError(f"selection: {what} {value!r}; give finite numbers {form}")
    return array
