"""Skinning weights: each point belongs to its nearest bone, then belonging spreads over the surface like heat."""

from __future__ import annotations

import numpy as np

from ..geometry import unique_edges
from .implicit import Flesh

__all__ = ["diffuse", "skinning_weights"]


def skinning_weights(
    flesh: Flesh,
    joints: int,
    vertices: np.ndarray,  # (v, 3)
    faces: np.ndarray,
    spread: np.ndarray,  # (j,) metres: how far belonging spreads around each joint
    influences: int = 4,
) -> np.ndarray:  # (v, j)
    """Rows sum to 1, at most `influences` entries. Spreads along the surface only, so fingers side by side do not mix."""
    distances = flesh.distances(vertices)
    nearest = np.full((len(vertices), joints), np.inf)
    for joint in range(joints):
        own = flesh.joint == joint
        if own.any():
            nearest[:, joint] = distances[:, own].min(1)
    label = nearest.argmin(1)
    start = np.zeros((len(vertices), joints))
    start[np.arange(len(vertices)), label] = 1
    weights = diffuse(start, vertices, faces, spread[label])
    keep = np.argsort(-weights, 1)[:, :influences]
    pruned = np.zeros_like(weights)
    np.put_along_axis(pruned, keep, np.take_along_axis(weights, keep, 1), 1)
    pruned[pruned < 1e-3] = 0
    return pruned / pruned.sum(1, keepdims=True)


def diffuse(
    values: np.ndarray,  # (v, n)
    vertices: np.ndarray,
    faces: np.ndarray,
    spread: np.ndarray,  # (v,) metres
    steps: int = 4,
) -> np.ndarray:
    """Implicit heat flow with edge weights 1 / length: convex combinations of the input, so weights stay weights."""
    import scipy.sparse as sparse
    from scipy.sparse.linalg import splu

    edges = unique_edges(faces)
    length = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
    count = np.bincount(edges.reshape(-1), minlength=len(vertices))
    # a vertex of valence 6 with edges of length h: the graph Laplacian is 6 / (1.5 h^2 / h^2) times the surface's h^2
    conductance = 4.0 / (count[edges].mean(1) * length**2)
    a, b = edges.T
    matrix = sparse.coo_matrix(
        (np.concatenate((conductance, conductance)), (np.concatenate((a, b)), np.concatenate((b, a)))),
        (len(vertices), len(vertices)),
    ).tocsr()
    laplacian = sparse.diags(np.asarray(matrix.sum(1)).reshape(-1)) - matrix
    time = spread**2 / 2 / steps
    solver = splu((sparse.eye(len(vertices)) + sparse.diags(time) @ laplacian).tocsc())
    for _ in range(steps):
        values = solver.solve(values)
    values = values.clip(0)
    return values / values.sum(1, keepdims=True)
