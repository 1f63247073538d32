"""MANO, SMPL, SMPL+H and SMPL-X files as their owners bring them: pickle or npz, checked, without chumpy and without executing anything.

Fieldstone comes with none of them and needs none. What the keys are called and what their shapes are: docs/hands.md.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.legacy_pickle import MOST_BYTES, ObjectArray, read_pickle

from .layouts import LAYOUTS, layout_of
from .model_data import ModelData
from .model_file import read_npz

__all__ = ["LEFT_SHAPEDIRS", "ForeignModel", "fix_left_shapedirs", "merge_hands", "read_mano", "side_of"]

LEFT_SHAPEDIRS = ("auto", "as_file", "mirrored")
"""What to do about a left hand that carries the right hand's shape directions (smplx's issue 48)."""

_KEYS = {
    "template": "v_template",
    "shape_basis": "shapedirs",
    "pose_correctives": "posedirs",
    "joint_regressor": "J_regressor",
    "weights": "weights",
    "faces": "f",
    "tree": "kintree_table",
}
_HAND_KEYS = ("hands_components", "hands_mean", "hands_coeffs")


@dataclass
class ForeignModel:
    """A model as read, with what a report says about its file."""

    data: ModelData
    sha256: str
    """Of the file."""
    kind: str
    """pickle or npz."""
    keys: dict[str, str]
    """Key -> shape and type."""
    names: tuple[str, ...] = ()
    """Classes and functions a pickle named."""
    notes: list[str] = field(default_factory=list)


def read_mano(
    path: str | os.PathLike,
    *,
    hands: tuple[str | os.PathLike, str | os.PathLike] | None = None,
    right: str | os.PathLike | None = None,
    left_shapedirs: str = "auto",
    side: str | None = None,
) -> ForeignModel:
    """Reads MANO_*.pkl, SMPL_*.pkl, SMPLH_*.pkl or an .npz with the same keys.

    `hands` (left and right MANO file) brings the pose components that SMPL+H files lack. `right` is the right hand's file beside a
    left one: with left_shapedirs="auto" the two are compared, and shape directions that were not mirrored are; "mirrored" negates
    them unseen, "as_file" leaves them (DexYCB's shapes were fitted so). `side` overrules what the file says. Raises `UserError`.
    """
    path = Path(path)
    if left_shapedirs not in LEFT_SHAPEDIRS:
        raise UserError(
            f"left_shapedirs: expected one of {', '.join(LEFT_SHAPEDIRS)}, found {left_shapedirs!r}"
        )
    found = _read_arrays(path)
    arrays, where = found["arrays"], str(path)
    notes: list[str] = []
    given = {ours: arrays[theirs] for ours, theirs in _KEYS.items() if theirs in arrays}
    missing = [theirs for ours, theirs in _KEYS.items() if ours not in given]
    if missing:
        raise UserError(
            f"{where}: {missing[0]} is missing; a MANO or SMPL file has {', '.join(_KEYS.values())}; "
            f"found {', '.join(sorted(map(str, arrays))[:20])}"
        )
    for key, expected in (("bs_style", "lbs"), ("bs_type", "lrotmin")):
        value = arrays.get(key, expected)
        value = value.decode() if isinstance(value, bytes) else str(value)
        if value != expected:
            raise UserError(f"{where}: {key}: expected {expected!r}, found {value!r}")
    for ours, value in given.items():
        if isinstance(value, ObjectArray) or not isinstance(value, np.ndarray):
            raise UserError(
                f"{where}: {_KEYS[ours]}: expected an array of numbers, found "
                f"{'Python objects' if isinstance(value, ObjectArray) else type(value).__name__}"
            )
    parents, order = _tree(given.pop("tree"), where)
    given["parents"] = parents
    if order is not None:
        notes.append("joints are numbered by kintree_table's second row")
    layout = layout_of(tuple(parents))
    vertices = len(given["template"]) if given["template"].ndim else 0
    correctives = given["pose_correctives"]
    if correctives.ndim == 2 and correctives.shape[0] == 9 * (len(parents) - 1):
        given["pose_correctives"] = correctives.reshape(len(correctives), vertices, 3).transpose(1, 2, 0)
        notes.append("posedirs were stored as smplx keeps them in memory, (p, 3 v)")
    pose = _pose_arrays(arrays, layout, len(parents), where, notes)
    file_side = "both" if layout in ("smpl", "smplh", "smplx") else "none"
    data = ModelData.checked(
        given | pose,
        where=where,
        side=file_side,
        info={"source": path.name, "sha256": found["sha256"], "licence": "as the file's owner says"},
    )
    if layout == "mano":
        data = data.replace(side=_hand_side(data, path, side))
        data = _left(data, right, left_shapedirs, notes)
    if hands is not None:
        data = merge_hands(data, read_mano(hands[0]).data, read_mano(hands[1]).data)
        notes.append("pose components of both hands merged in")
    elif layout in ("smplh", "smplx") and not len(data.pose_components):
        notes.append(
            "no pose components of the hands: pose them with axis-angles, or merge with --hands MANO_LEFT MANO_RIGHT"
        )
    return ForeignModel(data, found["sha256"], found["kind"], found["keys"], found["names"], notes)


def merge_hands(data: ModelData, left: ModelData, right: ModelData) -> ModelData:
    """SMPL+H with the pose mean and components of two MANO hands (smplx does this with a script of its own).

    Raises `UserError` unless data has two hands and left and right are hands of the side their names say.
    """
    if data.layout not in ("smplh", "smplx"):
        raise UserError(
            f"hands: expected a model with two hands (smplh or smplx) to merge into, found {data.layout}"
        )
    for name, hand in (("left", left), ("right", right)):
        if hand.layout != "mano" or not len(hand.pose_components):
            raise UserError(
                f"hands: {name}: expected a MANO hand with hands_components, found layout {hand.layout} with "
                f"{len(hand.pose_components)} components"
            )
        if hand.side not in (name, "none"):
            raise UserError(
                f"hands: expected the left hand first, then the right; the {name} one is a {hand.side} hand"
            )
    mean, rows = np.zeros_like(data.pose_mean), []
    for name, hand in (("left_hand", left), ("right_hand", right)):
        start = 3 * (LAYOUTS[data.layout].groups[name][0] - 1)
        mean[start : start + 45] = hand.pose_mean
        block = np.zeros((len(hand.pose_components), len(mean)))
        block[:, start : start + 45] = hand.pose_components
        rows.append(block)
    components = np.concatenate(rows)
    return data.replace(
        pose_mean=mean, pose_components=components, pose_coefficients=np.zeros((0, len(components)))
    )


def side_of(data: ModelData) -> str:
    """right or left from MANO's rest frame (back of the hand +y, fingers of a right hand to -x), else none."""
    joints = data.joints
    reach = joints[data.joint_names.index("middle3")] - joints[0] if "middle3" in data.joint_names else None
    if reach is None or abs(reach[0]) < 0.6 * np.linalg.norm(reach):
        return "none"
    return "right" if reach[0] < 0 else "left"


def fix_left_shapedirs(left: ModelData, right: ModelData) -> ModelData | None:
    """The left hand with its shape directions mirrored, if they are the right hand's unmirrored ones; else None."""
    a, b = left.shape_basis[:, 0], right.shape_basis[:, 0]
    if a.shape != b.shape:
        raise UserError(
            f"right: expected shapedirs of shape {left.shape_basis.shape}, found {right.shape_basis.shape}"
        )
    if np.abs(a - b).sum() >= np.abs(a + b).sum():
        return None
    return _negated(left)


def _negated(data: ModelData) -> ModelData:
    basis = data.shape_basis.copy()
    basis[:, 0] *= -1
    return data.replace(shape_basis=basis, info=data.info | {"left_shapedirs": "mirrored"})


def _left(data: ModelData, right: str | os.PathLike | None, rule: str, notes: list[str]) -> ModelData:
    if data.side != "left":
        if right is not None:
            raise UserError(f"right: goes with a left hand; this is a {data.side} one")
        return data
    data = data.replace(info=data.info | {"left_shapedirs": "as_file"})
    if rule == "mirrored":
        return _negated(data)
    if rule == "as_file":
        return data
    if right is not None:
        fixed = fix_left_shapedirs(data, read_mano(right).data)
        if fixed is not None:
            notes.append("the left hand had the right hand's shapedirs; x was negated")
        return fixed or data
    if _looks_unmirrored(data):
        notes.append(
            "shapedirs look like the right hand's (its x was not mirrored): left as they are; use --left-shapedirs mirrored "
            "unless your shapes were fitted with them, as DexYCB's were"
        )
    return data


def _looks_unmirrored(data: ModelData) -> bool:
    """Whether the first direction, which is size, shrinks x while it grows z."""
    if data.shape_basis.shape[2] == 0:
        return False
    centred = data.template - data.template.mean(0)
    move = data.shape_basis[..., 0] - data.shape_basis[..., 0].mean(0)
    x, z = (centred[:, axis] @ move[:, axis] for axis in (0, 2))
    return x * z < 0 and min(abs(x), abs(z)) > 0.02 * np.linalg.norm(centred) * np.linalg.norm(move)


def _hand_side(data: ModelData, path: Path, side: str | None) -> str:
    if side is not None:
        if side not in ("right", "left"):
            raise UserError(f"side: expected right or left, found {side!r}")
        return side
    geometry = side_of(data)
    named = re.search(r"(left|right)", path.stem.lower())
    if named and geometry != "none" and named.group(1) != geometry:
        raise UserError(
            f"{path}: side: the name says {named.group(1)}, but the fingers point to {'-x' if geometry == 'right' else '+x'} as in "
            f"a {geometry} hand: give --side {geometry} or --side {named.group(1)}"
        )
    return named.group(1) if named else geometry


def _read_arrays(path: Path) -> dict:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    if size > MOST_BYTES:
        raise UserError(f"{path}: expected at most {MOST_BYTES} bytes, found {size}")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if content[:2] == b"PK":
        wanted = (*_KEYS.values(), *_HAND_KEYS, *(key + side for key in _HAND_KEYS for side in "lr"))
        wanted = (*wanted, "bs_style", "bs_type")
        arrays = read_npz(path, keys=wanted)
        kind, names = "npz", ()
    elif content[:1] in (b"\x80", b"(", b"}", b"]"):
        read = read_pickle(content, str(path))
        if not isinstance(read.value, dict):
            raise UserError(f"{path}: expected a dictionary of arrays, found {type(read.value).__name__}")
        arrays, kind, names = read.value, "pickle", read.globals
    else:
        raise UserError(f"{path}: neither a pickle nor an .npz (it begins with {content[:4]!r})")
    keys = {
        str(key): f"{value.dtype}{list(value.shape)}"
        if isinstance(value, np.ndarray)
        else type(value).__name__
        for key, value in arrays.items()
    }
    return {"arrays": arrays, "sha256": digest, "kind": kind, "names": names, "keys": keys}


def _tree(table: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Parents by joint, from rows (parent, id); the root's parent is -1 or 2^32 - 1 in the file."""
    if table.ndim != 2 or table.shape[0] != 2 or table.dtype.kind not in "iuf":
        raise UserError(
            f"{where}: kintree_table: expected (2, joints) whole numbers, found {table.shape} {table.dtype}"
        )
    table = table.astype(np.int64)
    count = table.shape[1]
    ids = table[1]
    parents = np.where((table[0] >= 2**32 - 1) | (table[0] < 0), -1, table[0])
    parents[0] = -1
    if sorted(ids.tolist()) != list(range(count)):
        raise UserError(
            f"{where}: kintree_table: expected the ids 0 to {count - 1} in row 1, found {ids.tolist()[:8]}"
        )
    if (ids == np.arange(count)).all():
        return parents, None
    result = np.empty(count, np.int64)
    result[ids] = parents
    return result, ids


def _pose_arrays(arrays: dict, layout: str, joints: int, where: str, notes: list[str]) -> dict:
    """Mean and components over all joints after the root, from one hand's keys or two hands'."""
    if layout == "mano" and "hands_components" in arrays:
        components = _array(arrays, "hands_components", where, (None, 45))
        mean = _array(arrays, "hands_mean", where, (45,)) if "hands_mean" in arrays else np.zeros(45)
        result = {"pose_components": components, "pose_mean": mean}
        if "hands_coeffs" in arrays:
            result["pose_coefficients"] = _array(arrays, "hands_coeffs", where, (None, len(components)))
        return result
    if layout in ("smplh", "smplx") and "hands_componentsl" in arrays and "hands_componentsr" in arrays:
        mean, rows = np.zeros(3 * (joints - 1)), []
        for side, group in (("l", "left_hand"), ("r", "right_hand")):
            start = 3 * (LAYOUTS[layout].groups[group][0] - 1)
            components = _array(arrays, f"hands_components{side}", where, (None, 45))
            block = np.zeros((len(components), len(mean)))
            block[:, start : start + 45] = components
            rows.append(block)
            if f"hands_mean{side}" in arrays:
                mean[start : start + 45] = _array(arrays, f"hands_mean{side}", where, (45,))
        return {"pose_components": np.concatenate(rows), "pose_mean": mean}
    if layout == "mano":
        notes.append("hands_components is missing: no pose coefficients, axis-angles only")
    return {}


def _array(arrays: dict, key: str, where: str, expected: tuple) -> np.ndarray:
    value = arrays[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise UserError(f"{where}: {key}: expected an array of numbers, found {type(value).__name__}")
    if value.ndim != len(expected) or any(e is not None and e != n for e, n in zip(expected, value.shape)):
        raise UserError(
            f"{where}: {key}: expected shape ({', '.join('any' if e is None else str(e) for e in expected)}), "
            f"found {value.shape}"
        )
    return np.asarray(value, np.float64)
