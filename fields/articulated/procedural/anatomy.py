"""What the generator needs to know about a creature: skeleton, flesh, where it is open, how it varies, how it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .implicit import Flesh

__all__ = ["Anatomy", "bone_frame"]


@dataclass
class Anatomy:
    """A skeleton and everything around it, in metres, in the rest pose."""

    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    joints: np.ndarray
    """(j, 3)."""
    ends: np.ndarray
    """(j, 3): where the bone that a joint moves ends."""
    flesh: Flesh
    spread: np.ndarray
    """(j,) metres: how far over the surface belonging to a joint's bone spreads around it (`weights.skinning_weights`)."""
    sample_scales: Callable[[np.random.Generator], np.ndarray]
    """-> (j, 3): factors of one random individual, per joint: along the bone, along `second`, along the third axis."""
    sample_pose: Callable[[np.random.Generator], np.ndarray]
    """-> (j, 3) axis-angles of one random pose."""
    second: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0, 0.0]))
    """What the second axis of bone frames leans towards."""

    def motion(self, axis_angles: np.ndarray) -> np.ndarray:
        """(p, j, 3) poses to (p, j, 3, 4): from rest to posed, in float64."""
        import torch

        from fieldstone.core.rotations import axis_angle_to_matrix

        from ..kinematics import forward_kinematics, skinning_transforms

        joints = torch.from_numpy(self.joints)[None]
        turned = axis_angle_to_matrix(torch.from_numpy(np.asarray(axis_angles, np.float64)))
        joints = joints.expand(len(turned), -1, -1)
        posed = forward_kinematics(turned, joints, tuple(self.parents))
        return skinning_transforms(posed, joints).numpy()


def bone_frame(start: np.ndarray, end: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(3, 3), columns: along the bone, towards `second` as far as it is at right angles, and their cross product."""
    along = (end - start) / np.linalg.norm(end - start)
    aside = second - (second @ along) * along
    if np.linalg.norm(aside) < 1e-6:
        aside = np.eye(3)[np.abs(along).argmin()]
        aside = aside - (aside @ along) * along
    aside = aside / np.linalg.norm(aside)
    return np.stack((along, aside, np.cross(along, aside)), 1)
