"""Surfaces of articulated models: open loops, caps, subdivision that carries all arrays, parts."""

from __future__ import annotations

import numpy as np

from .model_data import ModelData

__all__ = [
    "boundary_loops",
    "cap",
    "mesh_volume",
    "part_labels",
    "subdivide",
    "unique_edges",
    "vertex_normals",
]


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """(e, 2) edges of triangles (f, 3), each once, smaller vertex first."""
    edges = np.sort(np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]])), 1)
    return np.unique(edges, axis=0)


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Open loops of a mesh as vertex numbers in the direction in which the boundary's faces pass them, longest first.

    Raises ValueError where a vertex has more than one boundary edge going out (the mesh is not a manifold there).
    """
    edges = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    known = {(int(a), int(b)) for a, b in edges}
    following: dict[int, int] = {}
    for a, b in known:
        if (b, a) not in known:
            if a in following:
                raise ValueError(f"vertex {a} has several boundary edges: not a manifold")
            following[a] = b
    loops = []
    while following:
        start = min(following)
        loop = [start]
        while (after := following.pop(loop[-1])) != start:
            loop.append(after)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def mesh_volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume inside a closed mesh whose faces are counter-clockwise seen from outside (divergence theorem)."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(v, 3) unit normals, faces weighted by their area; (0, 0, 0) where a vertex has no face."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], normal)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0)


def part_labels(data: ModelData) -> tuple[np.ndarray, np.ndarray]:
    """The joint that moves each vertex most (v,), and each face (f,): the largest sum of its corners' weights."""
    return data.weights.argmax(1), data.weights[data.faces].sum(1).argmax(1)


def cap(data: ModelData) -> ModelData:
    """Closes every open loop with a fan around one new vertex, the mean of the loop in every array.

    The new vertices and faces come last, so old numbers stay; losses on the surface can leave them out. The regressor ignores
    them, so joints do not change. Winding follows the loop, so right and left hands close alike.
    """
    loops = boundary_loops(data.faces)
    if not loops:
        return data
    v = len(data.template)
    rows = np.zeros((len(loops), v))
    faces = [data.faces]
    for number, loop in enumerate(loops):
        rows[number, loop] = 1 / len(loop)
        centre = np.full(len(loop), v + number)
        faces.append(np.stack((np.roll(loop, -1), loop, centre), 1))
    regressor = np.concatenate((data.joint_regressor, np.zeros((len(data.parents), len(loops)))), 1)
    return _carried(data, np.concatenate((np.eye(v), rows)), np.concatenate(faces), regressor)


def subdivide(
    data: ModelData,
    times: int = 1,
    *,
    rule: str = "midpoint",
) -> ModelData:
    """Splits every triangle in four, `times` times; template, shape, correctives, weights and joints go along.

    "midpoint" puts new vertices in the middle of edges: the surface is the same. "loop" smooths (Loop 1987, with the boundary
    rules of Hoppe et al. 1994). Every new vertex is a convex combination of old ones, so weights stay weights, and posing and
    refining differ only by the blend of the transforms. Joints are exactly those of the coarse model.
    """
    import scipy.sparse as sparse
    from scipy.sparse.linalg import splu

    if rule not in ("midpoint", "loop"):
        raise ValueError(f"rule {rule!r}: expected midpoint or loop")
    for _ in range(times):
        v, faces = len(data.template), data.faces
        edges = unique_edges(faces)
        number = {(int(a), int(b)): v + i for i, (a, b) in enumerate(edges)}
        middle = np.array(
            [[number[tuple(sorted((int(f[k]), int(f[(k + 1) % 3]))))] for k in range(3)] for f in faces]
        )
        a, b, c = faces.T
        ab, bc, ca = middle.T
        fine = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
        matrix = _loop_matrix(faces, edges, v) if rule == "loop" else _midpoint_matrix(edges, v)
        if rule == "midpoint":
            regressor = np.concatenate((data.joint_regressor, np.zeros((len(data.parents), len(edges)))), 1)
        else:  # the regressor of least norm that gives the coarse model's joints: J' M = J
            normal = sparse.csc_matrix(matrix.T @ matrix)
            regressor = (matrix @ splu(normal).solve(np.ascontiguousarray(data.joint_regressor.T))).T
        data = _carried(data, matrix, fine, np.ascontiguousarray(regressor))
    return data


def _carried(data: ModelData, matrix: object, faces: np.ndarray, regressor: np.ndarray) -> ModelData:
    """All vertex arrays multiplied by a (new v, v) matrix whose rows are convex weights."""
    v = matrix.shape[1]

    def carry(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(
            (matrix @ array.reshape(v, -1)).reshape(matrix.shape[0], *array.shape[1:])
        )

    weights = carry(data.weights)
    return data.replace(
        template=carry(data.template),
        shape_basis=carry(data.shape_basis),
        pose_correctives=carry(data.pose_correctives),
        weights=weights / weights.sum(1, keepdims=True),
        joint_regressor=regressor,
        faces=faces.astype(np.int64),
    )


def _midpoint_matrix(edges: np.ndarray, v: int) -> object:
    import scipy.sparse as sparse

    rows = np.concatenate((np.arange(v), np.repeat(np.arange(v, v + len(edges)), 2)))
    columns = np.concatenate((np.arange(v), edges.reshape(-1)))
    values = np.concatenate((np.ones(v), np.full(2 * len(edges), 0.5)))
    return sparse.csr_matrix((values, (rows, columns)), (v + len(edges), v))


def _loop_matrix(faces: np.ndarray, edges: np.ndarray, v: int) -> object:
    """Loop's masks: inner vertices by their valence, boundary vertices 1/8 3/4 1/8, edges 3/8 3/8 1/8 1/8 or their middle."""
    import scipy.sparse as sparse

    opposite: dict[tuple[int, int], list[int]] = {(int(a), int(b)): [] for a, b in edges}
    for face in faces:
        for k in range(3):
            a, b, c = int(face[k]), int(face[(k + 1) % 3]), int(face[(k + 2) % 3])
            opposite[min(a, b), max(a, b)].append(c)
    matrix = sparse.lil_matrix((v + len(edges), v))
    around: list[list[int]] = [[] for _ in range(v)]
    rim: list[list[int]] = [[] for _ in range(v)]
    for row, ((a, b), corners) in enumerate(opposite.items(), v):
        around[a].append(b)
        around[b].append(a)
        inner = len(corners) == 2
        matrix[row, a] = matrix[row, b] = 0.375 if inner else 0.5
        if inner:
            for corner in corners:
                matrix[row, corner] += 0.125
        else:
            rim[a].append(b)
            rim[b].append(a)
    for vertex in range(v):
        if len(rim[vertex]) == 2:
            matrix[vertex, vertex] = 0.75
            for other in rim[vertex]:
                matrix[vertex, other] = 0.125
            continue
        n = len(around[vertex])
        if n == 0 or rim[vertex]:
            matrix[vertex, vertex] = 1.0
            continue
        beta = (0.625 - (0.375 + 0.25 * np.cos(2 * np.pi / n)) ** 2) / n
        matrix[vertex, vertex] = 1 - n * beta
        for other in around[vertex]:
            matrix[vertex, other] = beta
    return matrix.tocsr()
