"""Finger joints by what anatomists call their movements: twist, spread and bend, in radians.

Each finger joint has a frame from the rest joints of its own shape: x (twist) along its bone, z (bend) perpendicular to the bone and the
palm's normal, y (spread) the third. A pose is R = F R_x(twist) R_y(spread) R_z(bend) F^T (the order of manotorch's composition). Signs are
those of the right hand, and equal angles on the left hand give the mirror image:

| angle | positive |
|---|---|
| twist | right-handed about the bone, base to tip |
| spread | towards the little finger's side of the hand |
| bend | towards the palm; of the thumb, across the palm |

Frames are ours: the thumb's bend axis lies as recorded hands bend it (handy-work 3.1.13). Joints that are no finger's (the root, a
body's) have the rest frame's axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.rotations import euler_to_matrix, matrix_to_euler

from .layouts import LAYOUTS

__all__ = ["anatomical_frames", "anatomical_to_matrix", "matrix_to_anatomical"]

_THUMB = (0.3, 0.95)
"""The thumb's pad looks out of the palm by the first, towards the little finger by the second."""


def anatomical_frames(
    joints: Tensor,  # (..., j, 3) rest joints
    layout: str,  # mano, smplh or smplx
    side: str = "right",  # of a mano hand
) -> Tensor:  # (..., j, 3, 3), columns twist, spread, bend
    """The frames of all joints. Differentiable with respect to joints. Raises `UserError` for a layout without fingers."""
    if layout not in ("mano", "smplh", "smplx"):
        raise UserError(
            f"anatomical angles: the model's layout is {layout}; only mano, smplh and smplx have fingers"
        )
    if layout == "mano" and side not in ("left", "right"):
        raise UserError(f"anatomical angles: expected the side right or left, found {side!r}")
    tree = LAYOUTS[layout]
    hands = {side: (0, tree.groups["hand"])} if layout == "mano" else {}
    if not hands:
        for name in ("left", "right"):
            hands[name] = tree.joint_names.index(f"{name}_wrist"), tree.groups[f"{name}_hand"]
    columns: dict[int, Tensor] = {}
    for name, (wrist, group) in hands.items():
        columns |= _hand_frames(joints, wrist, group, name)
    eye = torch.eye(3, dtype=joints.dtype, device=joints.device).expand(*joints.shape[:-2], 3, 3)
    return torch.stack([columns.get(joint, eye) for joint in range(joints.shape[-2])], -3)


def _hand_frames(joints: Tensor, wrist: int, group: tuple[int, ...], side: str) -> dict[int, Tensor]:
    """Frames of one hand's 15 joints, in MANO's order: index, middle, pinky, ring, thumb."""
    # the left hand's are the right hand's, seen in the mirror: signs of what axes are, not of what bones are
    mirror = joints.new_tensor([-1.0 if side == "left" else 1.0, 1.0, 1.0])
    place = joints * mirror
    index1, pinky1 = place[..., group[0], :], place[..., group[6], :]
    palm = _unit(torch.linalg.cross(index1 - place[..., wrist, :], pinky1 - place[..., wrist, :]))
    across = _unit(pinky1 - index1)
    found = {}
    for number, joint in enumerate(group):
        finger, part = divmod(number, 3)
        other = group[number + 1] if part < 2 else group[number - 1]
        bone = place[..., other, :] - place[..., joint, :]
        twist = _unit(bone if part < 2 else -bone)  # the last bone goes on as the one before
        normal = palm if finger < 4 else _THUMB[0] * palm + _THUMB[1] * across
        bend = _unit(torch.linalg.cross(twist, normal))
        frame = torch.stack((twist, torch.linalg.cross(bend, twist), bend), -1)
        # an axis of rotation is mirrored as the vector's opposite
        found[joint] = frame if side == "right" else -mirror[:, None] * frame
    return found


def anatomical_to_matrix(
    angles: Tensor,  # (..., j, 3) twist, spread, bend
    frames: Tensor,  # (..., j, 3, 3)
) -> Tensor:  # (..., j, 3, 3)
    """Rotations relative to the parents. Differentiable."""
    return frames @ euler_to_matrix(angles, "xyz") @ frames.mT


def matrix_to_anatomical(
    rotations: Tensor,  # (..., j, 3, 3)
    frames: Tensor,  # (..., j, 3, 3)
) -> Tensor:  # (..., j, 3)
    """Inverse of `anatomical_to_matrix`; spread lies in [-pi/2, pi/2]. Differentiable inside."""
    return matrix_to_euler(frames.mT @ rotations @ frames, "xyz")


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
