"""The nearest point of a triangle mesh, and what a mesh's boundary is."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["NearestOnMesh", "beyond_opening", "boundary_vertices", "incident_faces", "vertex_normals"]


def incident_faces(faces: np.ndarray, count: int) -> np.ndarray:
    """(v, most) faces at each vertex, padded with -1."""
    order = np.argsort(faces.reshape(-1), kind="stable")
    vertex = faces.reshape(-1)[order]
    start = np.searchsorted(vertex, np.arange(count))
    place = np.arange(len(vertex)) - start[vertex]
    table = np.full((count, int(place.max(initial=0)) + 1), -1)
    table[vertex, place] = order // 3
    return table


def boundary_vertices(faces: np.ndarray) -> np.ndarray:
    """Vertices of edges that only one face has."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    return np.unique(unique[counts == 1])


def beyond_opening(
    vertices: np.ndarray,  # (v, 3)
    edge: np.ndarray,  # boundary vertices of the model's one opening
    points: np.ndarray,  # (m, 3)
    margin: float = 0.003,  # metres inside the opening that count as beyond: a scan's stump is cut off, rounded and closed
) -> np.ndarray:  # (m,) bool
    """What of a scan lies past a hand's open wrist: behind the plane of the opening, within two of its radii. Nothing for a closed model."""
    if len(edge) < 3:
        return np.zeros(len(points), bool)
    centre = vertices[edge].mean(0)
    axis = np.linalg.svd(vertices[edge] - centre, full_matrices=False)[2][2]
    axis = axis if (vertices.mean(0) - centre) @ axis < 0 else -axis  # out of the hand
    offset = points - centre
    along = offset @ axis
    radius = np.linalg.norm(vertices[edge] - centre, axis=1).max()
    return (along > -margin) & (np.linalg.norm(offset - along[:, None] * axis, axis=1) < 2 * radius)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(v, 3) unit, weighted by the faces' areas; zero where there is no area."""
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normals)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)


class NearestOnMesh:
    """Nearest points on a mesh that moves but keeps its faces.

    Candidates are the faces around the `around` nearest vertices, each solved exactly: right wherever triangles are not much
    longer than they are wide.
    """

    def __init__(self, faces: np.ndarray, count: int, around: int = 3) -> None:
        self.faces, self.around = faces, around
        self.incident = incident_faces(faces, count)

    def __call__(
        self,
        vertices: np.ndarray,  # (v, 3)
        queries: np.ndarray,  # (m, 3)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face (m,), barycentric weights (m, 3) and distance (m,)."""
        _, near = cKDTree(vertices).query(queries, k=min(self.around, len(vertices)))
        near = near.reshape(len(queries), -1)
        candidates = self.incident[near].reshape(len(queries), -1)
        # a face appears once for each of its corners that is near: keep the first
        ordered = np.sort(candidates, axis=1)
        ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = -1
        row, column = np.nonzero(ordered >= 0)
        face = ordered[row, column]
        weights = nearest_on_triangles(vertices[self.faces[face]], queries[row])
        offset = (weights[:, :, None] * vertices[self.faces[face]]).sum(1) - queries[row]
        distance = np.linalg.norm(offset, axis=1)
        best = np.full(len(queries), -1)
        order = np.argsort(-distance, kind="stable")  # the last one written is the nearest
        best[row[order]] = order
        return face[best], weights[best], distance[best]


def nearest_on_triangles(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(m, 3, 3) and (m, 3) to barycentric weights (m, 3) of the nearest points.

    The regions of Ericson, "Real-Time Collision Detection" (2005), section 5.1.5.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac = b - a, c - a

    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("ij,ij->i", x, y)

    ap, bp, cp = points - a, points - b, points - c
    d1, d2, d3, d4, d5, d6 = dot(ab, ap), dot(ac, ap), dot(ab, bp), dot(ac, bp), dot(ab, cp), dot(ac, cp)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = va + vb + vc
    safe = np.where(np.abs(total) < 1e-300, 1.0, total)
    v, w = vb / safe, vc / safe

    def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x / np.where(np.abs(y) < 1e-300, 1.0, y)

    result = np.stack((1 - v - w, v, w), 1)
    zero, one = np.zeros(len(points)), np.ones(len(points))
    edge_bc = ratio(d4 - d3, (d4 - d3) + (d5 - d6))
    edge_ac, edge_ab = ratio(d2, d2 - d6), ratio(d1, d1 - d3)
    for inside, weights in (
        ((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), (zero, 1 - edge_bc, edge_bc)),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), (1 - edge_ac, zero, edge_ac)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), (1 - edge_ab, edge_ab, zero)),
        ((d6 >= 0) & (d5 <= d6), (zero, zero, one)),
        ((d3 >= 0) & (d4 <= d3), (zero, one, zero)),
        ((d1 <= 0) & (d2 <= 0), (one, zero, zero)),
    ):
        result[inside] = np.stack(weights, 1)[inside]
    return result
