"""The shape space: individuals with other bone lengths and thicknesses, and their principal components."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from .anatomy import Anatomy, bone_frame

__all__ = ["individual", "joint_regressor", "shape_space"]


def individual(
    anatomy: Anatomy,
    vertices: np.ndarray,  # (v, 3)
    weights: np.ndarray,  # (v, j)
    scales: np.ndarray,  # (j, 3) along the bone, along the second and the third axis
) -> tuple[np.ndarray, np.ndarray]:  # (v, 3), (j, 3)
    """Vertices and joints of one individual. Each bone stretches its own frame; a joint moves with its parent's; vertices blend.

    Linear in the scales, so individuals form a linear shape space without remainder.
    """
    j = len(anatomy.parents)
    stretch, joints = np.empty((j, 3, 3)), np.empty((j, 3))
    for joint in range(j):
        frame = bone_frame(anatomy.joints[joint], anatomy.ends[joint], anatomy.second)
        stretch[joint] = frame @ np.diag(scales[joint]) @ frame.T
        parent = anatomy.parents[joint]
        joints[joint] = anatomy.joints[joint]
        if parent >= 0:
            joints[joint] = joints[parent] + stretch[parent] @ (
                anatomy.joints[joint] - anatomy.joints[parent]
            )
    anchors = joints - (stretch @ anatomy.joints[..., None])[..., 0]
    blended = (weights @ stretch.reshape(j, 9)).reshape(-1, 3, 3)
    return (blended @ vertices[..., None])[..., 0] + weights @ anchors, joints


def shape_space(
    anatomy: Anatomy,
    vertices: np.ndarray,
    weights: np.ndarray,
    count: int,
    generator: np.random.Generator,
    samples: int = 400,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (v, 3, count) for unit variance, joints of the samples (n, j, 3) and the samples (n, v, 3).

    Individuals are centred on the root joint. Principal components with signs such that each direction enlarges.
    """
    bodies, joints = [], []
    for _ in range(samples):
        body, own = individual(anatomy, vertices, weights, anatomy.sample_scales(generator))
        bodies.append(body - own[0] + anatomy.joints[0])
        joints.append(own - own[0] + anatomy.joints[0])
    bodies, joints = np.array(bodies), np.array(joints)
    centred = (bodies - vertices).reshape(samples, -1)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    basis = (rows[:count] * singular[:count, None] / np.sqrt(samples)).T.reshape(len(vertices), 3, count)
    larger = np.einsum("vdn,vd->n", basis, vertices - vertices.mean(0))
    return basis * np.where(larger < 0, -1.0, 1.0), joints, bodies


def joint_regressor(
    joints: np.ndarray,  # (n, j, 3)
    bodies: np.ndarray,  # (n, v, 3)
    vertices: np.ndarray,  # (v, 3) of the mean body
    neighbours: int = 80,
    samples: int = 40,
) -> np.ndarray:  # (j, v)
    """Rows of numbers of at least 0 that sum to 1 and give each joint from vertices near it (least squares over individuals)."""
    regressor = np.zeros((joints.shape[1], len(vertices)))
    use = np.linspace(0, len(bodies) - 1, samples).astype(int)
    for joint in range(joints.shape[1]):
        distance = np.linalg.norm(vertices - joints[:, joint].mean(0), axis=1)
        near = np.argsort(distance)[:neighbours]
        matrix = bodies[use][:, near].transpose(0, 2, 1).reshape(-1, len(near))
        target = joints[use, joint].reshape(-1)
        scale = 10.0  # the row that asks for a sum of 1, in metres, heavy against millimetres
        rows = np.concatenate((matrix, np.full((1, len(near)), scale)))
        # a little of every neighbour: one vertex alone is a poor joint on another mesh of the same kind
        ridge = 1e-3 * np.eye(len(near))
        solution, _ = nnls(
            np.concatenate((rows, ridge)),
            np.concatenate((target, [scale], np.zeros(len(near)))),
            maxiter=50 * len(near),
        )
        regressor[joint, near] = solution / solution.sum()
    return regressor
