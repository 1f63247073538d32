"""Pose correctives from posed truth: skinning's error, taken back to rest, as a linear function of R - I (Romero et al. 2017, section 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .anatomy import Anatomy

__all__ = ["flesh_errors", "learn_correctives"]

_TOGETHER = 20
"""Poses whose flesh is worked out at once."""


def flesh_errors(
    anatomy: Anatomy,
    vertices: np.ndarray,  # (v, 3) at rest
    weights: np.ndarray,  # (v, j)
    cones: list[np.ndarray],  # per set of vertices: numbers of the cones that shape it
    members: list[np.ndarray],  # per set: its vertices
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from poses (p, j, 3) to what has to be added at rest (p, v, 3) so that skinning meets the posed flesh.

    Each skinned vertex goes along the gradient of the posed flesh to the level it had at rest: thick limbs stay thick when bent, where
    blended matrices would thin them.
    """
    level = np.zeros(len(vertices))
    for chosen, own in zip(cones, members):
        level[own] = anatomy.flesh(vertices[own], None, chosen)

    def errors_of(axis_angles: np.ndarray) -> np.ndarray:
        motion = anatomy.motion(axis_angles)
        blended = np.einsum("vj,pjab->pvab", weights, motion, optimize=True)
        truth = np.einsum("pvab,vb->pva", blended[..., :3], vertices) + blended[..., 3]
        for chosen, own in zip(cones, members):
            truth[:, own] = anatomy.flesh.project(
                truth[:, own], level[own], motion, chosen, steps=3, most=0.004
            )
        return np.linalg.solve(blended[..., :3], (truth - blended[..., 3])[..., None])[..., 0] - vertices

    return errors_of


def learn_correctives(
    errors_of: Callable[[np.ndarray], np.ndarray],  # poses (p, j, 3) -> unposed errors of skinning (p, v, 3)
    sample_pose: Callable[[np.random.Generator], np.ndarray],
    reach: np.ndarray,  # (v, j) bool: which joints may correct which vertices
    generator: np.random.Generator,
    poses: int,
    *,
    ridge: float = 1e-3,
    most: float = 0.006,  # metres: longer errors are cut, they are where flesh meets flesh
) -> np.ndarray:  # (v, 3, 9 (j - 1))
    """Ridge regression of the unposed errors on R - I, each vertex on the joints within its reach."""
    import torch

    from fieldstone.core.rotations import axis_angle_to_matrix

    v, j = reach.shape
    sampled = np.stack([sample_pose(generator) for _ in range(poses)])
    turned = axis_angle_to_matrix(torch.from_numpy(sampled)).numpy()
    features = (turned[:, 1:] - np.eye(3)).reshape(poses, -1)
    errors = np.concatenate(
        [errors_of(sampled[first : first + _TOGETHER]) for first in range(0, poses, _TOGETHER)]
    )
    errors *= np.minimum(1, most / np.linalg.norm(errors, axis=2, keepdims=True).clip(1e-12))
    result = np.zeros((v, 3, 9 * (j - 1)))
    patterns, which = np.unique(reach[:, 1:], axis=0, return_inverse=True)
    which = which.reshape(-1)
    for index, pattern in enumerate(patterns):
        columns = np.repeat(pattern, 9)
        own = np.nonzero(which == index)[0]
        if not columns.any():
            continue
        f = features[:, columns]
        right = errors[:, own].reshape(poses, -1)
        solution = np.linalg.solve(f.T @ f + ridge * poses * np.eye(f.shape[1]), f.T @ right)
        part = solution.reshape(-1, len(own), 3).transpose(1, 2, 0)
        result[np.ix_(own, range(3), np.nonzero(columns)[0])] = part
    return result
