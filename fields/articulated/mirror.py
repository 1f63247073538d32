"""The other hand: a model mirrored in x (Romero et al. 2017, supplement: one right model is learned, the left is its mirror image)."""

from __future__ import annotations

import numpy as np

from .layouts import LAYOUTS
from .model_data import ModelData

__all__ = ["mirror_model", "mirror_pose"]

_MIRROR = np.array([-1.0, 1.0, 1.0])
_AXIS_ANGLE = np.array([1.0, -1.0, -1.0])


def mirror_model(data: ModelData) -> ModelData:
    """Left from right or right from left: mirrored model and mirrored pose give the mirrored mesh, exactly.

    With M = diag(-1, 1, 1): template and shape basis times M; a rotation R becomes M R M, so the corrective of entry (r, c)
    of vertex coordinate d gets the sign s_d s_r s_c; axis-angles (a, b, c) become (a, -b, -c); faces turn round; regressor
    and weights stay.
    """
    correctives = data.pose_correctives.reshape(len(data.template), 3, -1, 3, 3)
    signs = _MIRROR[:, None, None, None] * _MIRROR[None, None, :, None] * _MIRROR
    joints = len(data.parents) - 1
    turn = np.tile(_AXIS_ANGLE, joints)
    side = {"right": "left", "left": "right"}.get(data.side, data.side)
    return data.replace(
        template=data.template * _MIRROR,
        shape_basis=data.shape_basis * _MIRROR[:, None],
        pose_correctives=(correctives * signs).reshape(data.pose_correctives.shape),
        faces=np.ascontiguousarray(data.faces[:, ::-1]),
        pose_mean=data.pose_mean * turn,
        pose_components=data.pose_components * turn,
        side=side,
        info=data.info | {"mirrored": "in x, from the other hand"},
    )


def mirror_pose(
    axis_angles: np.ndarray,  # (..., j, 3) or (..., 3 j)
    layout: str = "mano",
) -> np.ndarray:
    """The pose of the mirror image; on a body, left and right joints also change places."""
    flat = axis_angles.shape[-1] != 3
    pose = axis_angles.reshape(*axis_angles.shape[:-1], -1, 3) if flat else axis_angles
    pose = pose * _AXIS_ANGLE
    if layout in LAYOUTS and layout != "mano":
        names = LAYOUTS[layout].joint_names
        swap = {"left": "right", "right": "left"}
        other = [
            names.index(f"{swap[name.split('_')[0]]}_{name.split('_', 1)[1]}")
            if name.split("_")[0] in swap
            else index
            for index, name in enumerate(names)
        ]
        pose = pose[..., other, :]
    return pose.reshape(axis_angles.shape)
