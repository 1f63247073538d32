"""Pose correctives by ridge regression, kept near the joints that cause them.

The unposed residual of a vertex is linear in the pose feature f = vec(R_k - I) (Romero et al. 2017, equation 4). The penalty of a
coefficient grows with the distance of its joint from the vertex, so that a fingertip does not learn from another finger's joints.
"""

from __future__ import annotations

import numpy as np

__all__ = ["corrective_penalty", "fit_correctives", "pose_features"]


def pose_features(rotations: np.ndarray) -> np.ndarray:
    """(n, j, 3, 3) to (n, 9 (j - 1)): R - I of all joints but the root, row by row."""
    return (rotations[:, 1:] - np.eye(3)).reshape(len(rotations), -1)


def corrective_penalty(
    template: np.ndarray,  # (v, 3)
    joints: np.ndarray,  # (j, 3)
    weights: np.ndarray,  # (v, j)
    parents: np.ndarray,
    reach: float,  # metres: twice as far is penalised far more
) -> np.ndarray:  # (v, j - 1)
    """1 + (distance / reach)^4, and half the distance for joints that move the vertex or whose parent does."""
    distance = np.linalg.norm(template[:, None] - joints[None, 1:], axis=-1)
    own = weights[:, 1:] + weights[:, np.maximum(parents[1:], 0)]
    distance = np.where(own > 0.02, distance / 2, distance)
    return 1 + (distance / reach) ** 4


def fit_correctives(
    features: np.ndarray,  # (n, k)
    residuals: np.ndarray,  # (n, v, 3) unposed vertices minus their subject's template
    subjects: np.ndarray,  # (n,) int
    penalty: np.ndarray,  # (v, k / 9)
    ridge: float,
) -> np.ndarray:  # (v, 3, k)
    """Coefficients with least squared error plus ridge n penalty |p|^2, from differences within subjects.

    Each subject's mean is taken from features and residuals first: what a subject always has is shape, not pose. Subjects
    with one mesh therefore say nothing.
    """
    features, residuals = features.copy(), residuals.copy()
    counts = np.zeros(len(features))
    for subject in np.unique(subjects):
        rows = subjects == subject
        counts[rows] = rows.sum()
        features[rows] -= features[rows].mean(0)
        residuals[rows] -= residuals[rows].mean(0)
    used = counts > 1
    features, residuals = features[used], residuals[used]
    n, k = features.shape
    vertices = len(penalty)
    gram = features.T @ features
    right = (features.T @ residuals.reshape(n, -1)).reshape(k, vertices, 3).transpose(1, 0, 2)
    solved = np.empty((vertices, k, 3))
    diagonal = np.arange(k)
    for first in range(0, vertices, 256):
        rows = slice(first, min(first + 256, vertices))
        systems = np.tile(gram, (rows.stop - rows.start, 1, 1))
        systems[:, diagonal, diagonal] += ridge * n * np.repeat(penalty[rows], 9, axis=1)
        solved[rows] = np.linalg.solve(systems, right[rows])
    return solved.transpose(0, 2, 1)
