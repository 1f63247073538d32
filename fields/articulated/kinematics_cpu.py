"""Rotations and the tree in one compiled pass, for poses that need no gradient: a small batch costs call overhead, not arithmetic.

The same formulas as `core.rotations.axis_angle_to_matrix` and `kinematics`, in float64 inside, so that float32 results are the
nearest ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

__all__ = ["chain", "rotations"]


@njit(cache=True)
def _rotations(vectors, out):
    for n in range(vectors.shape[0]):
        x, y, z = np.float64(vectors[n, 0]), np.float64(vectors[n, 1]), np.float64(vectors[n, 2])
        square = x * x + y * y + z * z
        if square < 1e-6:
            a = 1 - square / 6 * (1 - square / 20)
            b = 0.5 - square / 24 * (1 - square / 30)
        else:
            angle = np.sqrt(square)
            half = np.sin(0.5 * angle)
            a, b = np.sin(angle) / angle, 2 * half * half / square
        cosine = 1 - b * square
        out[n, 0, 0], out[n, 0, 1], out[n, 0, 2] = cosine + b * x * x, b * x * y - a * z, b * x * z + a * y
        out[n, 1, 0], out[n, 1, 1], out[n, 1, 2] = b * x * y + a * z, cosine + b * y * y, b * y * z - a * x
        out[n, 2, 0], out[n, 2, 1], out[n, 2, 2] = b * x * z - a * y, b * y * z + a * x, cosine + b * z * z


@njit(cache=True)
def _chain(turns, rest, move, parents, transforms, skinning):
    joints = parents.shape[0]
    world = np.empty((joints, 3, 4))
    for body in range(turns.shape[0]):
        own, turn = rest[min(body, rest.shape[0] - 1)], turns[body]
        shift = move[min(body, move.shape[0] - 1)]
        for joint in range(joints):
            parent, here = parents[joint], world[joint]
            if parent < 0:
                for row in range(3):
                    for column in range(3):
                        here[row, column] = turn[joint, row, column]
                    here[row, 3] = own[joint, row] + shift[row]
            else:
                above = world[parent]
                for row in range(3):
                    a, b, c = above[row, 0], above[row, 1], above[row, 2]
                    for column in range(3):
                        here[row, column] = (
                            a * turn[joint, 0, column]
                            + b * turn[joint, 1, column]
                            + c * turn[joint, 2, column]
                        )
                    here[row, 3] = (
                        a * (own[joint, 0] - own[parent, 0])
                        + b * (own[joint, 1] - own[parent, 1])
                        + c * (own[joint, 2] - own[parent, 2])
                        + above[row, 3]
                    )
            global_, skin = transforms[body, joint], skinning[body, joint]
            for row in range(3):
                moved = here[row, 3]
                for column in range(3):
                    moved -= here[row, column] * own[joint, column]
                    global_[row, column] = skin[row, column] = here[row, column]
                global_[row, 3], skin[row, 3] = here[row, 3], moved
                global_[3, row] = skin[3, row] = 0
            global_[3, 3] = skin[3, 3] = 1


_ORIGIN = np.zeros((1, 3), np.float32)


def rotations(
    axis_angles: Tensor,  # (..., 3) float32
) -> Tensor:  # (..., 3, 3)
    """Rodrigues' formula. Not differentiable."""
    out = np.empty((axis_angles.numel() // 3, 3, 3), np.float32)
    _rotations(axis_angles.detach().reshape(-1, 3).contiguous().numpy(), out)
    return torch.from_numpy(out).view(*axis_angles.shape, 3)


def chain(
    turns: Tensor,  # (b, j, 3, 3) float32, relative to the parents
    rest: Tensor,  # (b or 1, j, 3)
    move: Tensor | None,  # (b or 1, 3)
    parents: np.ndarray,  # (j,) int64
) -> tuple[Tensor, Tensor]:  # (b, j, 4, 4) each
    """Global transforms of the joints, and transforms from rest to posed, both moved. Not differentiable."""
    transforms = np.empty((turns.shape[0], len(parents), 4, 4), np.float32)
    skinning = np.empty_like(transforms)
    shift = _ORIGIN if move is None else move.detach().contiguous().numpy()
    _chain(
        turns.detach().contiguous().numpy(),
        rest.detach().contiguous().numpy(),
        shift,
        parents,
        transforms,
        skinning,
    )
    return torch.from_numpy(transforms), torch.from_numpy(skinning)
