"""What a fit looks for, and how a small step changes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .posing import Moved
from .so3 import exp, log, right_jacobian

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """One shape and b frames of pose.

    A step is (s,) for the shape and (b, 3 j + 3) for the frames, in this order: the root's small turn in its own frame, changes of the other
    joints' axis-angles, and of the translation. Axis-angles make pose priors linear; the root has none, and may turn anywhere.
    """

    shape: np.ndarray
    """(s,)."""
    root: np.ndarray
    """(b, 3, 3)."""
    angles: np.ndarray
    """(b, j - 1, 3) axis-angles, mean pose included."""
    translation: np.ndarray
    """(b, 3) metres."""

    def __len__(self) -> int:
        return len(self.root)

    @property
    def frame_size(self) -> int:
        """Numbers of a frame's step."""
        return 3 * self.angles.shape[1] + 6

    def rotations(self) -> np.ndarray:
        """(b, j, 3, 3) relative to the parents."""
        return np.concatenate((self.root[:, None], exp(self.angles)), 1)

    def moved(self, shape: np.ndarray, frames: np.ndarray) -> State:
        """The state after a step (s,), (b, 3 j + 3). Axis-angles that passed 1.5 pi are rewritten the short way round."""
        angles = self.angles + frames[:, 3:-3].reshape(self.angles.shape)
        far = np.linalg.norm(angles, axis=-1) > 1.5 * np.pi
        if far.any():
            angles[far] = log(exp(angles[far]))
        return replace(
            self,
            shape=self.shape + shape,
            root=self.root @ exp(frames[:, :3]),
            angles=angles,
            translation=self.translation + frames[:, -3:],
        )

    def frames(self, chosen: np.ndarray | slice) -> State:
        """The chosen frames."""
        return State(self.shape, self.root[chosen], self.angles[chosen], self.translation[chosen])

    def jacobian(self, moved: Moved) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of the points by the step: (b, n, 3, s) and (b, n, 3, 3 j + 3)."""
        by_rotation = moved.by_rotation
        frames, n = by_rotation.shape[:2]
        turns = np.concatenate(
            (np.broadcast_to(np.eye(3), (frames, 1, 3, 3)), right_jacobian(self.angles)), 1
        )
        by_angle = np.einsum("bndka,bkae->bndke", by_rotation, turns, optimize=True).reshape(frames, n, 3, -1)
        by_translation = np.broadcast_to(np.eye(3), (frames, n, 3, 3))
        return moved.by_shape, np.concatenate((by_angle, by_translation), -1)
