"""Registered meshes with known truth, to learn from and to be judged by."""

from __future__ import annotations

import numpy as np
import torch

from ....fields.articulated.model import ArticulatedModel
from ....fields.articulated.model_data import ModelData
from ....fields.articulated.procedural.hand import sample_hand_pose
from .learn import Registered

__all__ = ["synthetic_hands"]


def synthetic_hands(
    data: ModelData,  # the true model: a right hand in MANO's layout
    *,
    subjects: int,
    poses: int,  # of each subject, all different
    noise: float,  # standard deviation of each coordinate, metres
    rng: np.random.Generator,
) -> Registered:
    """Shapes with coefficients of unit variance, poses within a hand's limits, roots turned and moved at random."""
    count = subjects * poses
    shapes = np.repeat(rng.normal(size=(subjects, data.shape_basis.shape[2])), poses, 0)
    angles = np.array([sample_hand_pose(rng, root=True) for _ in range(count)])
    move = rng.normal(0, 0.1, (count, 3))
    posed = ArticulatedModel(data, dtype=torch.float64)(
        *(torch.from_numpy(array) for array in (shapes, angles, move)), pose_format="axis_angle"
    )
    vertices = posed.vertices.numpy()
    return Registered(
        vertices + rng.normal(0, noise, vertices.shape),
        np.repeat(np.arange(subjects), poses),
        names=tuple(f"subject{i // poses:03d}/pose{i % poses:03d}" for i in range(count)),
        truth=vertices,
    )
