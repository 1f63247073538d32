"""A posed model's skeleton as BVH or JSON."""

from __future__ import annotations

import os

import numpy as np
import torch

from fieldstone.core.files import atomic_write_json, atomic_write_text
from fieldstone.core.rotations import axis_angle_to_matrix, matrix_to_euler

from ...fields.articulated.kinematics import rest_offsets
from ...fields.articulated.model import ArticulatedModel
from ...fields.articulated.model_data import ModelData

__all__ = ["write_bvh", "write_skeleton_json"]


def write_bvh(
    path: str | os.PathLike,
    data: ModelData,
    pose: np.ndarray,  # (n, j, 3) axis-angles
    *,
    shape: np.ndarray | None = None,
    translation: np.ndarray | None = None,  # (n, 3) metres
    frames_per_second: float = 30.0,
) -> None:
    """Offsets in metres (BVH states no unit), channels Z, Y, X outermost first, root position in the world.

    Leaf bones end at the fingertip vertices of the shaped body where the model names them, else one centimetre further on.
    """
    joints, tips = _rest(data, shape)
    offsets = rest_offsets(torch.from_numpy(joints), tuple(int(p) for p in data.parents)).numpy()
    pose = np.asarray(pose, np.float64)
    move = np.zeros((len(pose), 3)) if translation is None else np.broadcast_to(translation, (len(pose), 3))
    angles = np.degrees(matrix_to_euler(axis_angle_to_matrix(torch.from_numpy(pose)), "zyx").numpy())
    lines = ["HIERARCHY"]
    order: list[int] = []
    _write_joint(0, "", data, offsets, tips - joints, order, lines)
    lines += ["MOTION", f"Frames: {len(pose)}", f"Frame Time: {1 / frames_per_second:.9g}"]
    for frame in range(len(pose)):
        values = [*(joints[0] + move[frame]), *angles[frame, order].reshape(-1)]
        lines.append(" ".join(f"{value:.9g}" for value in values))
    atomic_write_text(path, "\n".join(lines) + "\n")


def write_skeleton_json(
    path: str | os.PathLike,
    data: ModelData,
    pose: np.ndarray,  # (n, j, 3)
    *,
    shape: np.ndarray | None = None,
    translation: np.ndarray | None = None,
    frames_per_second: float = 30.0,
) -> None:
    """Names, parents, rest joints, and per frame the axis-angles, joint positions and 4x4 joint frames. Metres, radians."""
    model = ArticulatedModel(data, dtype=torch.float64)
    posed = model(
        None if shape is None else torch.from_numpy(np.asarray(shape, np.float64)),
        torch.from_numpy(np.asarray(pose, np.float64)),
        None if translation is None else torch.from_numpy(np.asarray(translation, np.float64)),
        pose_format="axis_angle",
        skeleton_only=True,
    )
    atomic_write_json(
        path,
        {
            "format": "fieldstone-skeleton-1",
            "units": {"length": "metre", "angle": "radian"},
            "layout": data.layout,
            "side": data.side,
            "joint_names": list(data.joint_names),
            "parents": data.parents.tolist(),
            "rest_joints": _rest(data, shape)[0].tolist(),
            "frames_per_second": frames_per_second,
            "frames": [
                {
                    "axis_angles": np.asarray(pose, float)[i].tolist(),
                    "joints": posed.joints[i].tolist(),
                    "transforms": posed.transforms[i].tolist(),
                }
                for i in range(len(pose))
            ],
        },
    )


def _rest(data: ModelData, shape: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rest joints (j, 3), and where the bones of leaves end (j, 3)."""
    model = ArticulatedModel(data, dtype=torch.float64)
    identity = model.identity(None if shape is None else torch.from_numpy(np.asarray(shape, np.float64)))
    joints, vertices = identity.joints[0].numpy(), identity.vertices[0].numpy()
    parents = data.parents
    ends = joints.copy()
    for joint in range(1, len(joints)):
        ends[joint] += (
            0.01
            * (joints[joint] - joints[parents[joint]])
            / max(np.linalg.norm(joints[joint] - joints[parents[joint]]), 1e-9)
        )
    fingers = [name for name in data.joint_names if name.endswith("3") and not name.startswith("spine")]
    for place, tip in enumerate(data.fingertips):
        finger = ("thumb", "index", "middle", "ring", "pinky")[place % 5]
        side = "" if len(data.fingertips) == 5 else ("left_", "right_")[place // 5]
        if f"{side}{finger}3" in fingers:
            ends[data.joint_names.index(f"{side}{finger}3")] = vertices[tip]
    return joints, ends


def _write_joint(
    joint: int,
    indent: str,
    data: ModelData,
    offsets: np.ndarray,
    ends: np.ndarray,
    order: list[int],
    lines: list[str],
) -> None:
    order.append(joint)
    name = data.joint_names[joint].replace(" ", "_")
    lines.append(f"{indent}{'ROOT' if joint == 0 else 'JOINT'} {name}")
    lines.append(indent + "{")
    inner = indent + "  "
    lines.append(inner + "OFFSET " + " ".join(f"{value:.9g}" for value in offsets[joint]))
    position = "6 Xposition Yposition Zposition" if joint == 0 else "3"
    lines.append(f"{inner}CHANNELS {position} Zrotation Yrotation Xrotation")
    children = [child for child in range(len(offsets)) if data.parents[child] == joint]
    for child in children:
        _write_joint(child, inner, data, offsets, ends, order, lines)
    if not children:
        lines += [
            inner + "End Site",
            inner + "{",
            inner + "  OFFSET " + " ".join(f"{value:.9g}" for value in ends[joint]),
            inner + "}",
        ]
    lines.append(indent + "}")
