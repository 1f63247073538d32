"""Non-rigid registration: a raw scan gets the model's topology, so that meshes of many scans correspond.

First the model is posed and shaped onto the scan (`fitting.scan`). Then its vertices leave the model: they are drawn to the scan along its
normals while the surface stays as rigid as possible between neighbours (Sorkine and Alexa 2007), stiff at first and softer with every stage
(Amberg, Romdhani and Vetter 2007). Vertices that no scan point speaks for follow their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

from ....fields.articulated.geometry import unique_edges
from ....fields.articulated.model_data import ModelData
from ..fitting.closest import NearestOnMesh, boundary_vertices, vertex_normals
from ..fitting.fit import Settings
from ..fitting.posing import Posing
from ..fitting.scan import Scan, fit_scans

__all__ = ["Registration", "deform", "register"]

_STIFFNESS = (3.0, 1.0, 0.3, 0.1)
"""Weight of an edge's bending beside that of a scan point, stage by stage."""
_ROUNDS = 4
_SLIDE = 0.05
"""Pull along the surface beside that along the normal."""
_FACING = 0.5
"""Cosine below which two normals do not belong together."""


@dataclass(frozen=True)
class Registration:
    """One scan in the model's topology."""

    vertices: np.ndarray
    """(v, 3) metres."""
    fitted: np.ndarray
    """(v, 3) the model's own best surface, where the deformation began."""
    distance: np.ndarray
    """(n,) metres, from each believed scan point to the registered surface."""


def register(
    data: ModelData,
    scan: Scan,
    *,
    settings: Settings | None = None,
    count: int = 4000,
    rng: np.random.Generator,
) -> Registration:
    """The model's mesh laid on a scan, in any pose, of at most `count` points. Raises `UserError` for a scan that is none."""
    fit = fit_scans(data, [scan], settings, rng=rng)
    posing = Posing(data, None, len(fit.state.shape))
    moved = posing(fit.state.shape, fit.state.rotations(), fit.state.translation, jacobian=False)
    fitted = moved.points[0, : len(data.template)]
    vertices, distance = deform(fitted, data.faces, scan.thinned(count, rng))
    return Registration(vertices, fitted, distance)


def deform(
    start: np.ndarray,  # (v, 3) a surface near the scan
    faces: np.ndarray,  # (f, 3)
    scan: Scan,
    gate: float = 0.008,  # metres: what is further away is not believed
) -> tuple[np.ndarray, np.ndarray]:  # (v, 3), (m,)
    """The surface bent onto the scan, and the distances of the points it was bent to."""
    edges, v = unique_edges(faces), len(start)
    nearest = NearestOnMesh(faces, v, around=4)
    on_edge = np.zeros(v, bool)
    on_edge[boundary_vertices(faces)] = True
    vertices, distance = start.copy(), np.zeros(0)
    for stiffness in _STIFFNESS:
        for _ in range(_ROUNDS):
            rows, targets, normals, distance = _pairs(vertices, faces, scan, nearest, on_edge, gate)
            vertices = _bent(start, vertices, edges, rows, targets, normals, stiffness * len(targets) / v)
    distance = _pairs(vertices, faces, scan, nearest, on_edge, gate)[3]
    return vertices, distance


def _pairs(
    vertices: np.ndarray,
    faces: np.ndarray,
    scan: Scan,
    nearest: NearestOnMesh,
    on_edge: np.ndarray,
    gate: float,
) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray, np.ndarray]:
    """Which combination of vertices (rows (m, v)) is to meet which point along which normal (m, 3), and their distance."""
    face, weights, distance = nearest(vertices, scan.points)
    corners = faces[face]
    normal = (weights[:, :, None] * vertex_normals(vertices, faces)[corners]).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
    good = (distance < gate) & ((weights > 1e-9) & ~on_edge[corners]).any(1)
    if scan.normals is not None:
        cosine = (normal * scan.normals).sum(1)
        good &= (cosine if scan.signed else np.abs(cosine)) > _FACING
    m = int(good.sum())
    rows = sparse.csr_matrix(
        (weights[good].reshape(-1), (np.repeat(np.arange(m), 3), corners[good].reshape(-1))),
        (m, len(vertices)),
    )
    return rows, scan.points[good], normal[good], distance[good]


def _bent(
    start: np.ndarray,
    vertices: np.ndarray,
    edges: np.ndarray,
    rows: sparse.csr_matrix,
    targets: np.ndarray,
    normals: np.ndarray,
    stiffness: float,
) -> np.ndarray:
    """One step: rotations of the neighbourhoods as they are, then the vertices that suit them and the scan, in closed form."""
    v = len(start)
    turns = _turns(start, vertices, edges)
    a, b = edges.T
    wanted = 0.5 * ((turns[a] + turns[b]) @ (start[a] - start[b])[..., None])[..., 0]
    one = np.ones(len(edges))
    place = np.tile(np.arange(len(edges)), 2)
    difference = sparse.csr_matrix(
        (np.concatenate((one, -one)), (place, np.concatenate((a, b)))), (len(edges), v)
    )
    metric = normals[:, :, None] * normals[:, None, :] * (1 - _SLIDE) + _SLIDE * np.eye(3)
    # unknowns are ordered x of all vertices, then y, then z: blocks of normal equations
    blocks, right = [[None] * 3 for _ in range(3)], []
    bend = stiffness * (difference.T @ difference)
    for i in range(3):
        for j in range(3):
            part = rows.T @ sparse.diags(metric[:, i, j]) @ rows
            blocks[i][j] = part + bend if i == j else part
        pull = (metric[:, i] * targets).sum(1)
        right.append(rows.T @ pull + stiffness * (difference.T @ wanted[:, i]))
    system = sparse.bmat(blocks, format="csc") + 1e-9 * sparse.identity(3 * v, format="csc")
    return splu(system).solve(np.concatenate(right) + 1e-9 * vertices.T.reshape(-1)).reshape(3, v).T


def _turns(start: np.ndarray, vertices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(v, 3, 3): the rotation that takes each vertex's edges from start to where they are, best in least squares."""
    a, b = edges.T
    before, after = start[b] - start[a], vertices[b] - vertices[a]
    product = after[:, :, None] * before[:, None, :]
    total = np.zeros((len(start), 3, 3))
    np.add.at(total, a, product)
    np.add.at(total, b, product)
    left, _, right = np.linalg.svd(total)
    sign = np.linalg.det(left @ right)
    left[:, :, 2] *= sign[:, None]
    return left @ right
