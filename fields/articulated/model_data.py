"""The arrays of an articulated model, checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from fieldstone.core.errors import UserError

from .layouts import LAYOUTS, layout_of

__all__ = ["ModelData"]

MOST_VERTICES = 1 << 18
MOST_JOINTS = 512
MOST_COLUMNS = 1024
WEIGHT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class ModelData:
    """Template, bases, tree and weights in float64, metres and radians. `checked` refuses what does not fit together.

    The forward pass that these arrays define is in `model.ArticulatedModel` (Romero et al. 2017, equations 2-4).
    """

    template: np.ndarray
    """(v, 3) metres."""
    shape_basis: np.ndarray
    """(v, 3, s) metres per unit of shape."""
    pose_correctives: np.ndarray
    """(v, 3, 9 (j - 1)) metres per unit of R - I, rows of R first, joints in order, the root left out."""
    joint_regressor: np.ndarray
    """(j, v), rows sum to 1; it acts on the shaped, unposed vertices."""
    weights: np.ndarray
    """(v, j), at least 0, rows sum to 1."""
    parents: np.ndarray
    """(j,) int64; the root comes first and has -1, every other joint a smaller index than its own."""
    faces: np.ndarray
    """(f, 3) int64, counter-clockwise seen from outside."""
    pose_mean: np.ndarray
    """(3 (j - 1),) axis-angle: the mean pose of the joints after the root."""
    pose_components: np.ndarray
    """(c, 3 (j - 1)): each row one direction of pose space, most important first inside its group."""
    pose_coefficients: np.ndarray
    """(n, c): coefficients of the poses the components were learned from; n is 0 where they are not known."""
    fingertips: np.ndarray
    """(t,) int64 vertices: thumb, index, middle, ring, pinky of one hand, or of the left and then the right; t is 0, 5 or 10."""
    joint_names: tuple[str, ...] = ()
    layout: str = "custom"
    """mano, smpl, smplh, smplx or custom."""
    side: str = "none"
    """right or left for a hand, both for a body, none where it is not known."""
    info: dict = field(default_factory=dict)
    """Plain strings about the origin: source, sha256, licence, what was repaired."""

    @staticmethod
    def checked(arrays: dict, *, where: str = "model", **other: object) -> ModelData:
        """Builds a model from arrays by name, or raises a `UserError` that names key, expected and found.

        Needed: template, weights, parents, faces. joint_regressor may be missing where joints (j, 3) is given (then it is
        found by `regressor_for`). Other arrays are empty when missing.
        """
        given = {key: value for key, value in arrays.items() if value is not None}
        for key in ("template", "weights", "parents", "faces"):
            if key not in given:
                raise UserError(
                    f"{where}: {key} is missing; there are {', '.join(sorted(given)) or 'no arrays'}"
                )
        template = _real(given["template"], "template", where, (None, 3))
        v = len(template)
        if not 3 <= v <= MOST_VERTICES:
            raise UserError(f"{where}: template: expected 3 to {MOST_VERTICES} vertices, found {v}")
        parents = _whole(given["parents"], "parents", where, (None,))
        j = len(parents)
        _check_tree(parents, where)
        weights = _real(given["weights"], "weights", where, (v, j))
        _check_weights(weights, where)
        faces = _whole(given["faces"], "faces", where, (None, 3))
        if faces.size and (faces.min() < 0 or faces.max() >= v):
            raise UserError(
                f"{where}: faces: expected vertex numbers from 0 to {v - 1}, found {faces.min()} to {faces.max()}"
            )
        if "joint_regressor" not in given:
            raise UserError(
                f"{where}: joint_regressor is missing; expected ({j}, {v}), joints from rest vertices"
            )
        regressor = _real(given["joint_regressor"], "joint_regressor", where, (j, v))
        total = regressor.sum(1)
        worst = int(np.abs(total - 1).argmax())
        if abs(total[worst] - 1) > 1e-3:
            raise UserError(
                f"{where}: joint_regressor: expected rows that sum to 1, found {total[worst]:.6g} for joint {worst}"
            )
        shape_basis = _real(given.get("shape_basis", np.zeros((v, 3, 0))), "shape_basis", where, (v, 3, None))
        correctives = _real(
            given.get("pose_correctives", np.zeros((v, 3, 9 * (j - 1)))),
            "pose_correctives",
            where,
            (v, 3, 9 * (j - 1)),
        )
        mean = _real(
            given.get("pose_mean", np.zeros(3 * (j - 1))).reshape(-1), "pose_mean", where, (3 * (j - 1),)
        )
        components = _real(
            given.get("pose_components", np.zeros((0, 3 * (j - 1)))),
            "pose_components",
            where,
            (None, 3 * (j - 1)),
        )
        coefficients = _real(
            given.get("pose_coefficients", np.zeros((0, len(components)))),
            "pose_coefficients",
            where,
            (None, len(components)),
        )
        if shape_basis.shape[2] > MOST_COLUMNS or len(components) > MOST_COLUMNS:
            raise UserError(
                f"{where}: shape_basis and pose_components: expected at most {MOST_COLUMNS} columns, "
                f"found {shape_basis.shape[2]} and {len(components)}"
            )
        tips = _whole(given.get("fingertips", np.zeros(0, np.int64)), "fingertips", where, (None,))
        if len(tips) not in (0, 5, 10) or (tips.size and (tips.min() < 0 or tips.max() >= v)):
            raise UserError(
                f"{where}: fingertips: expected 0, 5 or 10 vertex numbers below {v}, found {tips.tolist()[:12]}"
            )
        layout = layout_of(tuple(parents))
        names = tuple(str(name) for name in other.pop("joint_names", ()) or ())
        if not names:
            names = (
                LAYOUTS[layout].joint_names if layout != "custom" else tuple(f"joint{i}" for i in range(j))
            )
        if len(names) != j:
            raise UserError(f"{where}: joint_names: expected {j} names, found {len(names)}")
        side = other.pop("side", "none")
        if side not in ("right", "left", "both", "none"):
            raise UserError(f"{where}: side: expected right, left, both or none, found {side!r}")
        data = ModelData(
            template, shape_basis, correctives, regressor, weights, parents, faces, mean, components, coefficients, tips,
            names, layout, str(side), dict(other.pop("info", {}) or {}),
        )  # fmt: skip
        if other:
            raise TypeError(f"unknown arguments {sorted(other)}")
        return data

    def replace(self, **changes: object) -> ModelData:
        """A copy with some arrays exchanged; not checked again."""
        return replace(self, **changes)

    @property
    def joints(self) -> np.ndarray:
        """(j, 3) metres: the joints of the template."""
        return self.joint_regressor @ self.template

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, in the order of the file format."""
        return {
            name: getattr(self, name)
            for name in (
                "template",
                "shape_basis",
                "pose_correctives",
                "joint_regressor",
                "weights",
                "parents",
                "faces",
                "pose_mean",
                "pose_components",
                "pose_coefficients",
                "fingertips",
            )
        }

    def sha256(self) -> str:
        """Of names, shapes and values of all arrays: the same model has the same number, whatever file it came in."""
        digest = hashlib.sha256()
        for name, array in self.arrays().items():
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _shape_text(expected: tuple) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in expected) + ")"


def _check_shape(array: np.ndarray, key: str, where: str, expected: tuple) -> None:
    if array.ndim != len(expected) or any(e is not None and e != n for e, n in zip(expected, array.shape)):
        raise UserError(f"{where}: {key}: expected shape {_shape_text(expected)}, found {array.shape}")


def _plain(value: object, key: str, where: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == object:
        raise UserError(f"{where}: {key}: expected numbers, found an array of Python objects")
    return array


def _real(value: object, key: str, where: str, expected: tuple) -> np.ndarray:
    array = _plain(value, key, where)
    _check_shape(array, key, where, expected)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{where}: {key}: expected real numbers, found type {array.dtype}")
    array = np.array(array, np.float64, order="C")  # a copy: what was given may be read-only, or change
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        raise UserError(
            f"{where}: {key}: expected finite numbers, found {array[tuple(bad)]} at {tuple(bad.tolist())}"
        )
    return array


def _whole(value: object, key: str, where: str, expected: tuple) -> np.ndarray:
    array = _plain(value, key, where)
    _check_shape(array, key, where, expected)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.round(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise UserError(f"{where}: {key}: expected whole numbers, found type {array.dtype}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise UserError(
            f"{where}: {key}: expected numbers below 2^63, found {array.max()}; write -1 for 'no parent'"
        )
    return np.array(array, np.int64, order="C")


def _check_tree(parents: np.ndarray, where: str) -> None:
    j = len(parents)
    if not 1 <= j <= MOST_JOINTS:
        raise UserError(f"{where}: parents: expected 1 to {MOST_JOINTS} joints, found {j}")
    if parents[0] != -1:
        raise UserError(f"{where}: parents: expected -1 for joint 0, the root, found {parents[0]}")
    for joint in range(1, j):
        if not 0 <= parents[joint] < joint:
            raise UserError(
                f"{where}: parents: expected each parent before its child (0 to {joint - 1} for joint {joint}), "
                f"found {parents[joint]}"
            )


def _check_weights(weights: np.ndarray, where: str) -> None:
    if weights.size and weights.min() < -1e-6:
        vertex, joint = np.unravel_index(weights.argmin(), weights.shape)
        raise UserError(
            f"{where}: weights: expected numbers of at least 0, found {weights.min():.6g} at vertex {vertex}, joint {joint}"
        )
    total = weights.sum(1)
    worst = int(np.abs(total - 1).argmax())
    if abs(total[worst] - 1) > WEIGHT_TOLERANCE:
        raise UserError(
            f"{where}: weights: expected rows that sum to 1 (within {WEIGHT_TOLERANCE:g}), found {total[worst]:.6g} at "
            f"vertex {worst}"
        )
