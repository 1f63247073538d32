"""A skeleton and its motion: what every motion-capture file comes down to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["SkeletonMotion", "euler_rotation"]


@dataclass(frozen=True)
class SkeletonMotion:
    """t frames of a tree of j joints, in float64.

    A joint's frame in the world is its parent's times [rotation | translation]; the root's parent is the world.
    """

    names: tuple[str, ...]
    """j joint names as in the file; the end of a leaf bone is a joint too, named "<leaf>_end"."""
    parents: np.ndarray
    """(j,) int64, -1 for the root, which comes first; a parent comes before its children."""
    offsets: np.ndarray
    """(j, 3) rest position of each joint in its parent's frame, in metres."""
    rotations: np.ndarray
    """(t, j, 3, 3) rotation of each joint relative to its parent."""
    translations: np.ndarray
    """(t, j, 3) position of each joint in its parent's frame, in metres; equals `offsets` but for joints that slide."""
    frames_per_second: float
    source: str = ""
    """Which file this was read from, for messages."""

    def __len__(self) -> int:
        return len(self.rotations)

    def transforms(self) -> np.ndarray:
        """(t, j, 4, 4) joint frames in the world (forward kinematics)."""
        frames, joints = self.translations.shape[:2]
        world = np.zeros((frames, joints, 4, 4))
        world[..., 3, 3] = 1
        for joint, parent in enumerate(self.parents):
            local_r, local_t = self.rotations[:, joint], self.translations[:, joint]
            if parent < 0:
                world[:, joint, :3, :3], world[:, joint, :3, 3] = local_r, local_t
                continue
            rotation = world[:, parent, :3, :3]
            world[:, joint, :3, :3] = rotation @ local_r
            world[:, joint, :3, 3] = (rotation @ local_t[..., None])[..., 0] + world[:, parent, :3, 3]
        return world

    def positions(self) -> np.ndarray:
        """(t, j, 3) joint positions in the world, in metres."""
        return self.transforms()[..., :3, 3]

    def rest(self) -> SkeletonMotion:
        """One frame in the file's rest pose: no rotation, joints at their offsets."""
        j = len(self.names)
        return replace(
            self, rotations=np.tile(np.eye(3), (1, j, 1, 1)), translations=self.offsets[None].copy()
        )

    def frames(self, chosen: slice | np.ndarray) -> SkeletonMotion:
        """The chosen frames; the rate follows a slice's step."""
        step = chosen.step or 1 if isinstance(chosen, slice) else 1
        return replace(
            self,
            rotations=self.rotations[chosen],
            translations=self.translations[chosen],
            frames_per_second=self.frames_per_second / abs(step),
        )


def euler_rotation(
    angles: np.ndarray,  # (..., n) radians
    order: str,  # n letters out of "xyz"
) -> np.ndarray:  # (..., 3, 3)
    """R(order[0], angles[0]) @ R(order[1], angles[1]) @ ...: rotations about moving axes, first letter outermost."""
    result = np.broadcast_to(np.eye(3), (*angles.shape[:-1], 3, 3))
    for column, letter in enumerate(order):
        axis = "xyz".index(letter)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        cos, sin = np.cos(angles[..., column]), np.sin(angles[..., column])
        turn = np.zeros((*angles.shape[:-1], 3, 3))
        turn[..., axis, axis] = 1
        turn[..., a, a], turn[..., a, b], turn[..., b, a], turn[..., b, b] = cos, -sin, sin, cos
        result = result @ turn
    return result
