"""A mesh of even triangles on an implicit surface."""

from __future__ import annotations

import numpy as np

from fieldstone.core.lazy import require

from ..geometry import mesh_volume, unique_edges
from .coarsen import coarsen
from .implicit import Flesh

__all__ = ["mesh_of", "relax"]


def mesh_of(
    flesh: Flesh,
    low: np.ndarray,  # (3,) metres
    high: np.ndarray,  # (3,)
    cell: float,  # metres: of the fine mesh that is coarsened
    edge: tuple[float, float, float],  # wanted edge: share of the local radius, least and most, metres
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (v, 3) and faces (f, 3) of f = 0 inside a box. The surface is open where it leaves the box, on the box's sides."""
    measure = require("skimage.measure", purpose="meshing")
    counts = np.maximum(np.round((high - low) / cell).astype(int), 2) + 1
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, counts)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    values = np.concatenate([flesh(part) for part in np.array_split(grid, max(1, len(grid) // 50_000))])
    vertices, faces, _, _ = measure.marching_cubes(values.reshape(counts), 0.0)
    vertices = low + vertices.astype(np.float64) * (high - low) / (counts - 1)
    vertices, faces = _largest_piece(vertices, faces)
    radius = np.array([max(cone.radii) for cone in flesh.cones])[flesh.distances(vertices).argmin(1)]
    vertices, faces = coarsen(vertices, faces, (edge[0] * radius).clip(edge[1], edge[2]))
    vertices = relax(flesh, vertices, faces, 30)
    if mesh_volume(vertices, faces) < 0:
        faces = faces[:, ::-1].copy()
    return vertices, faces


def relax(flesh: Flesh, vertices: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Vertices slid towards the mean of their neighbours along the surface, and put back onto it; open rims stay."""
    edges = unique_edges(faces)
    count = np.bincount(edges.reshape(-1), minlength=len(vertices))[:, None]
    sides = np.sort(np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]])), 1)
    pairs, times = np.unique(sides, axis=0, return_counts=True)
    inner = np.ones(len(vertices), bool)
    inner[pairs[times == 1].reshape(-1)] = False
    for done in range(rounds):
        total = np.zeros_like(vertices)
        np.add.at(total, edges[:, 0], vertices[edges[:, 1]])
        np.add.at(total, edges[:, 1], vertices[edges[:, 0]])
        move = 0.5 * (total / count.clip(1) - vertices)
        normal = flesh.gradient(vertices)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
        moved = vertices + move - (move * normal).sum(1, keepdims=True) * normal
        if done % 3 == 2 or done == rounds - 1:
            moved = flesh.project(moved, steps=3)
        vertices = np.where(inner[:, None], moved, vertices)
    return vertices


def _largest_piece(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(faces) * 2), (faces[:, [0, 1]].T.reshape(-1), faces[:, [1, 2]].T.reshape(-1))),
                       (len(vertices), len(vertices)))  # fmt: skip
    _, label = connected_components(graph, directed=False)
    keep = label[faces[:, 0]] == np.bincount(label[faces[:, 0]]).argmax()
    used, faces = np.unique(faces[keep], return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)
