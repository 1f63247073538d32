"""Dual quaternion skinning (Kavan et al. 2008): twisted and bent limbs keep their thickness. The truth that correctives are learned from
where a model has a mesh but no flesh.
"""

from __future__ import annotations

import numpy as np

__all__ = ["skin_dual_quaternions"]


def skin_dual_quaternions(
    vertices: np.ndarray,  # (v, 3)
    transforms: np.ndarray,  # (j, 3, 4) rigid, from rest to posed
    weights: np.ndarray,  # (v, j)
) -> tuple[np.ndarray, np.ndarray]:  # (v, 3) posed, (v, 3, 4) the rigid motion of each vertex
    """Blends unit dual quaternions and normalises (equation 11 there); signs follow each vertex's heaviest joint."""
    from scipy.spatial.transform import Rotation

    real = Rotation.from_matrix(transforms[:, :, :3]).as_quat()[:, [3, 0, 1, 2]]
    shift = transforms[:, :, 3]
    dual = 0.5 * _product(np.concatenate((np.zeros((len(shift), 1)), shift), 1), real)
    heaviest = real[weights.argmax(1)]
    sign = np.where(heaviest @ real.T < 0, -1.0, 1.0)
    blend = (weights * sign) @ np.concatenate((real, dual), 1)
    length = np.linalg.norm(blend[:, :4], axis=1, keepdims=True)
    r, d = blend[:, :4] / length, blend[:, 4:] / length
    rotation = Rotation.from_quat(r[:, [1, 2, 3, 0]]).as_matrix()
    move = 2 * _product(d, r * np.array([1, -1, -1, -1]))[:, 1:]
    motion = np.concatenate((rotation, move[..., None]), -1)
    return np.einsum("vab,vb->va", rotation, vertices) + move, motion


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton's product of quaternions (n, 4), w first."""
    aw, ax, ay, az = a.T
    bw, bx, by, bz = b.T
    return np.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        1,
    )
