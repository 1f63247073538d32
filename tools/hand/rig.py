"""A rigged hand or body in a GLB as one of our models."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping

import numpy as np

from fieldstone.core.errors import UserError

from ...fields.articulated.joint_sets import WEBXR_NAMES
from ...fields.articulated.layouts import FINGERS, LAYOUTS
from ...fields.articulated.model_data import ModelData
from .glb_reader import read_glb

__all__ = ["WEBXR_PARENTS", "regressor_for", "rig_model", "webxr_to_mano", "weld"]

WEBXR_PARENTS = {
    name: before if before.startswith(name.split("-")[0]) else "wrist"
    for before, name in itertools.pairwise(WEBXR_NAMES)
}
"""The tree that WebXR's joints have but the common GLB files leave out: all their joints hang on one node."""


def rig_model(
    path: str | os.PathLike,
    *,
    parents: Mapping[str, str]
    | None = None,  # joint -> parent; None: WebXR's where the joints are WebXR's, else the file's tree
    welded: bool = True,
) -> ModelData:
    """The first skinned mesh of a GLB in its bind pose, in the file's unit and axes.

    Joints come in an order where parents precede children, whatever the file's order; seams of the texture are welded, so that a
    watertight hand is watertight. The rest frames of our joints are the world's axes. Pose correctives and shapes are empty.
    Raises `UserError` where there is no skin, or more than one joint without a parent.
    """
    scene = read_glb(path)
    found = [
        n for n in range(len(scene.names)) if scene.mesh_of[n] is not None and scene.skin_of[n] is not None
    ]
    if not found:
        raise UserError(f"{path}: no skinned mesh; meshes {len(scene.surfaces)}, skins {len(scene.skins)}")
    surface, skin = scene.surfaces[scene.mesh_of[found[0]]], scene.skins[scene.skin_of[found[0]]]
    names = [scene.names[node] for node in skin.joints]
    if len(set(names)) != len(names):
        raise UserError(f"{path}: two joints of one name ({next(n for n in names if names.count(n) > 1)})")
    tree = _tree(scene, skin.joints, names, parents)
    roots = [name for name in names if tree.get(name) is None]
    if len(roots) != 1:
        raise UserError(
            f"{path}: {len(roots)} joints without a parent ({', '.join(roots[:4])}...): expected one; give parents"
        )
    order = [roots[0]]
    for name in order:
        order += [child for child in names if tree.get(child) == name]
    if len(order) != len(names):
        raise UserError(f"{path}: joints that hang in a ring: {', '.join(sorted(set(names) - set(order)))}")
    bind = np.linalg.inv(skin.inverse_bind)
    place = {name: bind[i, :3, 3] for i, name in enumerate(names)}
    weights = np.zeros((len(surface.vertices), len(names)))
    column = np.array([order.index(name) for name in names])
    rows = np.arange(len(weights))
    for slot in range(surface.joints.shape[1]):
        np.add.at(weights, (rows, column[surface.joints[:, slot]]), surface.weights[:, slot])
    total = weights.sum(1, keepdims=True)
    if (total <= 0).any():
        raise UserError(f"{path}: weights: vertex {int(total.argmin())} hangs on no joint")
    weights /= total
    vertices, faces = surface.vertices, surface.faces
    if welded:
        keep, faces = weld(vertices, faces)
        vertices, weights = vertices[keep], weights[keep]
    joints = np.stack([place[name] for name in order])
    return ModelData.checked(
        {
            "template": vertices,
            "weights": weights,
            "parents": np.array(
                [-1 if tree.get(name) is None else order.index(tree[name]) for name in order]
            ),
            "faces": faces,
            "joint_regressor": regressor_for(vertices, joints),
        },
        where=str(path),
        joint_names=tuple(order),
        side="left"
        if "left" in os.path.basename(path).lower()
        else "right"
        if "right" in os.path.basename(path).lower()
        else "none",
        info={"source": os.path.basename(path)},
    )


def webxr_to_mano(data: ModelData) -> ModelData:
    """A WebXR hand with MANO's 16 joints: metacarpals go to the wrist, tips become fingertip vertices. Axes stay the file's."""
    missing = sorted(set(WEBXR_NAMES) - set(data.joint_names))
    if missing:
        raise UserError(
            f"not a WebXR hand: no joint {missing[0]!r}; found {', '.join(data.joint_names[:6])}, ..."
        )
    bones = {"thumb": ("metacarpal", "phalanx-proximal", "phalanx-distal")}
    wanted = ["wrist"]
    for finger in FINGERS:
        stem = "thumb" if finger == "thumb" else f"{finger}-finger"
        parts = bones.get(finger, ("phalanx-proximal", "phalanx-intermediate", "phalanx-distal"))
        wanted += [f"{stem}-{part}" for part in parts]
    weights = np.zeros((len(data.template), 16))
    for column, name in enumerate(data.joint_names):
        own = name
        while own not in wanted:
            own = WEBXR_PARENTS[own]
        weights[:, wanted.index(own)] += data.weights[:, column]
    joints = data.joints
    place = np.stack([joints[data.joint_names.index(name)] for name in wanted])
    tips = []
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        stem = "thumb" if finger == "thumb" else f"{finger}-finger"
        tip = joints[data.joint_names.index(f"{stem}-tip")]
        tips.append(int(np.linalg.norm(data.template - tip, axis=1).argmin()))
    return ModelData.checked(
        {
            "template": data.template,
            "weights": weights,
            "parents": np.array(LAYOUTS["mano"].parents),
            "faces": data.faces,
            "joint_regressor": regressor_for(data.template, place),
            "fingertips": np.array(tips),
        },
        where="webxr hand",
        side=data.side,
        info=data.info,
    )


def regressor_for(
    template: np.ndarray,  # (v, 3)
    joints: np.ndarray,  # (j, 3)
    neighbours: int = 40,
) -> np.ndarray:  # (j, v)
    """Rows that sum to 1 and give these joints exactly, of least norm over the vertices nearest to each joint."""
    result = np.zeros((len(joints), len(template)))
    for row, joint in enumerate(joints):
        near = np.argsort(np.linalg.norm(template - joint, axis=1))[:neighbours]
        size = max(np.linalg.norm(template[near] - joint, axis=1).max(), 1e-12)
        matrix = np.concatenate(((template[near] - joint).T / size, np.ones((1, len(near)))))
        result[row, near] = np.linalg.pinv(matrix) @ np.array([0.0, 0.0, 0.0, 1.0])
        result[row] /= result[row].sum()
    return result


def weld(vertices: np.ndarray, faces: np.ndarray, tolerance: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Which vertices to keep, and faces between them, when vertices at one place become one; faces without area go."""
    key = np.round(vertices / tolerance).astype(np.int64)
    _, keep, which = np.unique(key, axis=0, return_index=True, return_inverse=True)
    faces = which.reshape(-1)[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return keep, faces[whole]


def _tree(
    scene, joints: list[int], names: list[str], parents: Mapping[str, str] | None
) -> dict[str, str | None]:
    if parents is None and set(names) == set(WEBXR_NAMES):
        parents = WEBXR_PARENTS
    if parents is not None:
        unknown = sorted((set(parents) | set(parents.values())) - set(names))
        if unknown:
            raise UserError(
                f"parents: no joint {unknown[0]!r} in the rig; it has {', '.join(names[:6])}, ..."
            )
        return {name: parents.get(name) for name in names}
    tree: dict[str, str | None] = {}
    for node, name in zip(joints, names):
        above = scene.parents[node]
        while above >= 0 and above not in joints:
            above = scene.parents[above]
        tree[name] = scene.names[above] if above >= 0 else None
    return tree
