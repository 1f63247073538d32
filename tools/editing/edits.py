"""Edits as plain data: checked, worked out on a scene, and done.

An edit says what to do to which primitives: {"do": "delete", "select": {"label": "car"}}. Working it out adds "done": the primitives
it found and the numbers it came to. With that an edit is done again exactly; without it, it is worked out anew on another run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from .arrangement import Arrangement
from .colour import toward_colour
from .pairing import nearest, one_to_one
from .selection import Selectable, described, ids_text, parse_ids, select

__all__ = ["ACTIONS", "Stage", "check_edit", "do", "work_out"]

_MOTION = {"translate", "rotate_deg", "scale", "about", "matrix"}
ACTIONS: dict[str, set[str]] = {
    "delete": set(),
    "duplicate": _MOTION,
    "move": _MOTION,
    "recolour": {"colour", "strength"},
    "swap": {"with"},
    "dress": {"with"},
}
"""What can be done, and the keys it takes beside "do" and "select"."""
MOST_PAIRED = 4000
"""Primitives of a swap; the assignment's time grows with the cube of it."""


@dataclass(frozen=True, eq=False)
class Stage:
    """What working out an edit needs to know of the n trained primitives."""

    middles: np.ndarray
    """(n, 3) of their vertices, source frame."""
    scale: np.ndarray
    """(n,) int64, 0 the finest."""
    part: np.ndarray
    """(n,) int64: the block each was trained in; appearance does not pass from one to another."""
    classes: Callable[[], tuple[np.ndarray, dict[int, str]]]
    """(n,) class numbers and their names; UserError where the data have none."""
    colour_of: Callable[[Arrangement, np.ndarray], np.ndarray]
    """Mean linear RGB (3,) in which rows of an arrangement are rendered."""

    def selectable(self, now: Arrangement) -> Selectable:
        def classes():
            numbers, names = self.classes()
            return numbers[now.shape], names

        return Selectable(now.ids, now.middles(self.middles), self.scale[now.shape], classes, now.given)


def check_edit(edit: object) -> None:
    """UserError unless `edit` is one, as far as can be said without a scene."""
    if not isinstance(edit, dict) or edit.get("do") not in ACTIONS:
        what = edit.get("do") if isinstance(edit, dict) else edit
        raise UserError(f'edit {what!r}: "do" is one of {", ".join(ACTIONS)}')
    known = {"do", "select", "done", *ACTIONS[edit["do"]]}
    unknown = sorted(set(edit) - known)
    if unknown:
        raise UserError(
            f"edit {edit['do']}: unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}"
        )
    if "select" not in edit:
        raise UserError(f'edit {edit["do"]}: it does not say which primitives; give "select"')
    if "with" in ACTIONS[edit["do"]] and "with" not in edit:
        raise UserError(f'edit {edit["do"]}: it does not say with which primitives; give "with"')
    if ACTIONS[edit["do"]] is _MOTION:
        _check_motion(edit)
    if edit["do"] == "recolour":
        _numbers(edit.get("colour"), 3, "colour", 0, 1)
        strength = edit.get("strength", 1)
        if not _is_number(strength) or not 0 < strength <= 1:
            raise UserError(f"edit recolour: strength {strength!r}; give a number above 0, up to 1")


def work_out(edit: dict, stage: Stage, now: Arrangement) -> dict:
    """`edit` with "done" added. UserError for a selection without primitives, and for what cannot be done."""
    check_edit(edit)
    edit = {key: value for key, value in edit.items() if key != "done"}
    scene = stage.selectable(now)
    rows = select(edit["select"], scene)
    done: dict = {"ids": ids_text(now.ids[rows])}
    action = edit["do"]
    if action in ("duplicate", "move"):
        done["transform"] = _motion(edit, scene.centres[rows]).to_json()
        if action == "duplicate":
            done["first_new"] = now.given
    elif action == "recolour":
        mean = stage.colour_of(now, rows)
        done["mean_linear"] = np.asarray(mean).tolist()
        done["affine"] = toward_colour(mean, edit["colour"], edit.get("strength", 1.0)).tolist()
    elif action in ("swap", "dress"):
        others = select(edit["with"], scene)
        _check_pair(edit, stage, now, rows, others)
        pair = one_to_one if action == "swap" else nearest
        found = pair(scene.centres[rows], scene.scale[rows], scene.centres[others], scene.scale[others])
        done["ids"] = now.ids[rows].tolist()
        done["with"] = now.ids[others[found]].tolist()
    return {**edit, "done": done}


def do(edit: dict, now: Arrangement) -> Arrangement:
    """An edit that was worked out, done. ValueError or KeyError if it does not fit the arrangement."""
    done = edit["done"]
    rows = now.rows(parse_ids(done["ids"]))
    match edit["do"]:
        case "delete":
            return now.without(rows)
        case "duplicate":
            if done["first_new"] != now.given:
                raise ValueError(f"copies numbered from {done['first_new']}, wanted {now.given}")
            return now.copied(rows, Similarity.from_json(done["transform"]))
        case "move":
            return now.moved(rows, Similarity.from_json(done["transform"]))
        case "recolour":
            return now.tinted(rows, np.array(done["affine"], float).reshape(3, 4))
        case "dress":
            return now.dressed(rows, now.rows(np.array(done["with"])))
        case "swap":
            others = now.rows(np.array(done["with"]))
            return now.dressed(np.concatenate([rows, others]), np.concatenate([others, rows]))
    raise ValueError(f"unknown edit {edit['do']!r}")


def _check_pair(edit: dict, stage: Stage, now: Arrangement, rows: np.ndarray, others: np.ndarray) -> None:
    names = f"{described(edit['select'])} and {described(edit['with'])}"
    parts = np.unique(stage.part[now.shape[np.concatenate([rows, others])]])
    if len(parts) > 1:
        raise UserError(
            f"edit {edit['do']}: {names} lie in {len(parts)} blocks; features pass within one block only"
        )
    if edit["do"] == "dress":
        return
    if len(rows) != len(others):
        raise UserError(
            f"edit swap: {names} are {len(rows)} and {len(others)} primitives; select equally many, "
            "or use dress, which takes any number"
        )
    if len(rows) > MOST_PAIRED:
        raise UserError(f"edit swap: {len(rows)} primitives; at most {MOST_PAIRED}: select less")
    if len(np.intersect1d(rows, others)):
        raise UserError(f"edit swap: {names} have primitives in common; make them apart")


def _check_motion(edit: dict) -> None:
    given = _MOTION & set(edit)
    if "matrix" in given:
        if len(given) > 1:
            raise UserError(f"edit {edit['do']}: matrix goes without {', '.join(sorted(given - {'matrix'}))}")
        _from_matrix(edit["matrix"], edit["do"])
        return
    if not given & {"translate", "rotate_deg", "scale"}:
        raise UserError(f"edit {edit['do']}: say where to with translate, rotate_deg, scale or matrix")
    for key in ("translate", "rotate_deg", "about"):
        if key in edit:
            _numbers(edit[key], 3, key)
    scale = edit.get("scale", 1)
    if not _is_number(scale) or not 0 < scale < math.inf:
        raise UserError(f"edit {edit['do']}: scale {scale!r}; give a number above 0")


def _motion(edit: dict, middles: np.ndarray) -> Similarity:
    """Scaled and turned about `about` (the middle of the selection's box), then shifted; or `matrix`. Source frame."""
    from scipy.spatial.transform import Rotation

    if "matrix" in edit:
        return _from_matrix(edit["matrix"], edit["do"])
    turn = Rotation.from_rotvec(np.radians(edit.get("rotate_deg", [0.0, 0.0, 0.0]))).as_matrix()
    scale = float(edit.get("scale", 1.0))
    about = np.asarray(edit.get("about", (middles.min(0) + middles.max(0)) / 2), float)
    shift = about - scale * turn @ about + np.asarray(edit.get("translate", [0.0, 0.0, 0.0]), float)
    return Similarity(scale, turn, shift)


def _from_matrix(value: object, action: str) -> Similarity:
    try:
        matrix = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise UserError(f"edit {action}: the matrix must be 4 x 4 finite numbers, it is {value!r}")
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise UserError(f"edit {action}: the last row of the matrix is {matrix[3].tolist()}, not 0 0 0 1")
    determinant = float(np.linalg.det(matrix[:3, :3]))
    scale = math.copysign(abs(determinant) ** (1 / 3), determinant)
    if not scale > 0:
        raise UserError(
            f"edit {action}: the matrix has determinant {determinant:.3g}: it mirrors or flattens"
        )
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    rotation = u @ vt
    error = float(np.abs(matrix[:3, :3] / scale - rotation).max())
    if error > 1e-4:
        raise UserError(
            f"edit {action}: the matrix is no rotation with one scale (off by {error:.2g}): shear and unequal scales "
            "are not possible"
        )
    return Similarity(scale, rotation, matrix[:3, 3])


def _numbers(value: object, count: int, key: str, low: float = -math.inf, high: float = math.inf) -> None:
    ok = isinstance(value, list | tuple) and len(value) == count and all(map(_is_number, value))
    if not ok or not all(math.isfinite(v) and low <= v <= high for v in value):
        limits = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
        raise UserError(f"edit: {key} {value!r}; give {count} finite numbers{limits}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
