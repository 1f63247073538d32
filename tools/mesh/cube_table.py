"""The triangles of each of the 256 marching-cubes cells, derived rather than typed in.

A cell's corners are numbered by their offset: bit 0 is x, bit 1 is y, bit 2 is z. Its 12 edges are numbered
as in `EDGES`. A case is the set of inside corners, one bit each (Lorensen and Cline 1987). For every case the
surface is traced over the six faces, which gives closed loops of edge crossings; each loop is then cut into
triangles.

Two choices make the result a closed manifold, which the original table was not:

- On an ambiguous face (two inside corners, diagonal) the *inside* corners are joined, in every case. Both
  cells that share the face decide alike, so there are no cracks; and thin inside parts stay in one piece.
- A loop is never cut by a diagonal that lies in a cell face, where the neighbouring cell might put the same
  edge.
"""

from __future__ import annotations

import functools

import numpy as np

__all__ = ["EDGES", "triangle_table"]

CORNERS = np.array([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)])

EDGES: tuple[tuple[int, int], ...] = tuple(
    (corner, axis) for axis in range(3) for corner in range(8) if not corner >> axis & 1
)
"""(lower corner, axis) of each of the 12 edges."""

# Corners of each face, counter-clockwise as seen from outside the cell.
_FACES = ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6))


def _edge_between(a: int, b: int) -> int:
    low = min(a, b)
    return EDGES.index((low, (a ^ b).bit_length() - 1))


def _loops(case: int) -> list[list[int]]:
    """Closed loops of edges crossed by the surface, which run clockwise as seen from outside the surface."""
    following: dict[int, int] = {}
    for corners in _FACES:
        crossed = []  # (edge, True where the walk round the face leaves the inside)
        for a, b in zip(corners, corners[1:] + corners[:1]):
            inside_a, inside_b = case >> a & 1, case >> b & 1
            if inside_a != inside_b:
                crossed.append((_edge_between(a, b), bool(inside_a)))
        for k, (edge, leaves) in enumerate(crossed):
            if leaves:  # up to the edge where the inside is entered again: this cuts off outside corners only
                following[edge] = crossed[(k + 1) % len(crossed)][0]
    loops = []
    while following:
        start = min(following)
        loop, edge = [], start
        while edge in following:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(loop)
    return loops


def _same_face(first: int, second: int) -> bool:
    ends = [{c, c | 1 << axis} for c, axis in (EDGES[first], EDGES[second])]
    return any(ends[0] <= set(face) and ends[1] <= set(face) for face in _FACES)


def _cut(loop: list[int]) -> list[tuple[int, int, int]]:
    """Triangles of one loop with no diagonal in a cell face and else the shortest diagonals."""
    middle = np.array([CORNERS[c] + 0.5 * np.eye(3)[axis] for c, axis in EDGES])

    def price(i: int, j: int) -> float:
        if j - i == 1 or (i == 0 and j == len(loop) - 1):
            return 0.0
        length = float(np.linalg.norm(middle[loop[i]] - middle[loop[j]]))
        return length + (1000.0 if _same_face(loop[i], loop[j]) else 0.0)

    @functools.cache
    def best(i: int, j: int) -> tuple[float, tuple]:
        if j - i == 1:
            return 0.0, ()
        options = []
        for k in range(i + 1, j):
            (left, a), (right, b) = best(i, k), best(k, j)
            total = left + right + price(i, k) + price(k, j)
            options.append((total, (*a, *b, (loop[j], loop[k], loop[i]))))
        return min(options)

    cost, triangles = best(0, len(loop) - 1)
    if cost >= 1000.0:
        raise AssertionError(f"loop {loop} cannot be cut without a diagonal in a cell face")
    return list(triangles)


@functools.cache
def triangle_table() -> tuple[np.ndarray, np.ndarray]:
    """Number of triangles per case, (256,) int64, and their edges, (256, most, 3) int64 padded with -1."""
    cases = [[t for loop in _loops(case) for t in _cut(loop)] for case in range(256)]
    counts = np.array([len(triangles) for triangles in cases])
    table = np.full((256, counts.max(), 3), -1)
    for case, triangles in enumerate(cases):
        if triangles:
            table[case, : len(triangles)] = triangles
    return counts, table
