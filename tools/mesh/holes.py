"""Closing small holes."""

from __future__ import annotations

import numpy as np

__all__ = ["boundary_loops", "fill_holes"]


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Simple closed loops of vertices along edges that only one face uses, in the direction that a filling
    face runs.

    Where two holes touch in a vertex they are told apart; an edge chain that does not close is left out.
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, inverse, uses = np.unique(np.sort(ends, 1), axis=0, return_inverse=True, return_counts=True)
    border = ends[uses[inverse.reshape(-1)] == 1][:, ::-1]
    following: dict[int, list[int]] = {}
    for a, b in border.tolist():
        following.setdefault(a, []).append(b)
    loops = []
    for start in list(following):
        path, place, at = [], {}, start
        while True:
            if at in place:  # a closed piece: cut it off and go on from its first vertex
                loops.append(np.array(path[place[at] :]))
                for vertex in path[place[at] :]:
                    del place[vertex]
                path = path[: len(path) - len(loops[-1])]
            if not following.get(at):
                break
            place[at] = len(path)
            path.append(at)
            at = following[at].pop()
    return [loop for loop in loops if len(loop) >= 3]


def fill_holes(
    vertices: np.ndarray,  # (v, 3)
    faces: np.ndarray,  # (f, 3)
    longest: float,  # source units
) -> tuple[np.ndarray, np.ndarray, int]:
    """Closes holes whose rim is at most `longest` long; new vertices, new faces, and how many were closed.

    A rim of three edges takes one face, a longer one a fan round its mean point. Larger holes stay: what is
    there was not seen, or the box cuts the scene.
    """
    extra, added, closed = [], [], 0
    for loop in boundary_loops(faces):
        rim = vertices[loop]
        if np.linalg.norm(rim - np.roll(rim, -1, 0), axis=1).sum() > longest:
            continue
        closed += 1
        if len(loop) == 3:
            added.append(loop[None])
            continue
        centre = len(vertices) + len(extra)
        extra.append(rim.mean(0))
        added.append(np.column_stack([loop, np.roll(loop, -1), np.full(len(loop), centre)]))
    if not closed:
        return vertices, faces, 0
    return np.concatenate([vertices, np.array(extra).reshape(-1, 3)]), np.concatenate([faces, *added]), closed
