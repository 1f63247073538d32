"""Edges shorter than wanted are collapsed, shortest first: a fine even mesh becomes a coarser even one that keeps its tips."""

from __future__ import annotations

import heapq

import numpy as np

__all__ = ["coarsen"]


def coarsen(
    vertices: np.ndarray,  # (v, 3)
    faces: np.ndarray,  # (f, 3) a manifold, possibly with open rims
    length: np.ndarray,  # (v,) wanted edge length at each vertex
    flatness: float = 0.3,  # least cosine between a face's normal before and after
) -> tuple[np.ndarray, np.ndarray]:
    """Collapses edges to their middles while they are shorter than 0.8 of what is wanted and the mesh stays a manifold.

    A rim vertex only takes part along the rim, or takes an inner vertex in where it stands.
    """
    points = [np.array(p) for p in vertices]
    corners = [tuple(int(i) for i in face) for face in faces]
    around: list[set[int]] = [set() for _ in points]
    for number, face in enumerate(corners):
        for vertex in face:
            around[vertex].add(number)
    alive = [True] * len(points)
    version = [0] * len(points)

    def neighbours(vertex: int) -> set[int]:
        return {other for face in around[vertex] for other in corners[face]} - {vertex}

    def shared(a: int, b: int) -> set[int]:
        return around[a] & around[b]

    def on_rim(vertex: int) -> bool:
        return any(len(shared(vertex, other)) == 1 for other in neighbours(vertex))

    rim = [on_rim(vertex) for vertex in range(len(points))]
    heap: list[tuple[float, int, int, int, int]] = []

    def push(a: int, b: int) -> None:
        ratio = float(np.linalg.norm(points[a] - points[b]) / (0.5 * (length[a] + length[b])))
        if ratio < 0.8:
            heapq.heappush(heap, (ratio, a, b, version[a], version[b]))

    for a in range(len(points)):
        for b in neighbours(a):
            if a < b:
                push(a, b)
    while heap:
        _, a, b, at_a, at_b = heapq.heappop(heap)
        if not (alive[a] and alive[b]) or version[a] != at_a or version[b] != at_b:
            continue
        gone = shared(a, b)
        edge_on_rim = len(gone) == 1
        if rim[a] and rim[b] and not edge_on_rim:
            continue
        if len(neighbours(a) & neighbours(b)) != len(gone):
            continue
        if rim[b] and not rim[a]:
            a, b = b, a
        place = points[a] if rim[a] and not rim[b] else (points[a] + points[b]) / 2
        if not _keeps_facing(points, corners, (around[a] | around[b]) - gone, a, b, place, flatness):
            continue
        for face in gone:
            for vertex in corners[face]:
                around[vertex].discard(face)
        for face in around[b]:
            corners[face] = tuple(a if vertex == b else vertex for vertex in corners[face])
        around[a] |= around[b]
        around[b] = set()
        alive[b] = False
        points[a] = place
        length[a] = 0.5 * (length[a] + length[b])
        version[a] += 1
        for other in neighbours(a):
            push(min(a, other), max(a, other))
    kept = sorted({face for own in around for face in own})
    result = np.array([corners[face] for face in kept])
    used, result = np.unique(result, return_inverse=True)
    return np.array(points)[used], result.reshape(-1, 3)


def _keeps_facing(
    points: list, corners: list, faces: set[int], a: int, b: int, place: np.ndarray, flatness: float
) -> bool:
    """Whether no face turns by more than allowed, nor loses its area, when a and b move to `place`."""
    for face in faces:
        before = [points[vertex] for vertex in corners[face]]
        after = [place if vertex in (a, b) else points[vertex] for vertex in corners[face]]
        n0 = _cross(before)
        n1 = _cross(after)
        size = np.sqrt((n0 @ n0) * (n1 @ n1))
        if size == 0 or n0 @ n1 < flatness * size:
            return False
    return True


def _cross(triangle: list) -> np.ndarray:
    (ax, ay, az), (bx, by, bz) = triangle[1] - triangle[0], triangle[2] - triangle[0]
    return np.array((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))
