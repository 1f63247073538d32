"""Removing what is no surface: floaters, hidden voids, broken faces."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["compact", "component_labels", "drop_degenerate", "keep_components", "signed_volumes"]


def compact(vertices: np.ndarray, faces: np.ndarray, *attributes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Without the vertices (and their rows of `attributes`) that no face uses; faces are renumbered."""
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    return vertices[used], number[faces], *(attribute[used] for attribute in attributes)


def drop_degenerate(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces (f, 3) without those that are points or lines, and without repeats.

    Corners of one face that coincide exactly are welded in all faces first, so that taking out a face of no
    size leaves no hole. Flat faces of three different points stay: without them the neighbours would no
    longer meet.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    same = ends[(vertices[ends[:, 0]] == vertices[ends[:, 1]]).all(1) & (ends[:, 0] != ends[:, 1])]
    if len(same):
        graph = coo_matrix((np.ones(len(same), bool), same.T), shape=(len(vertices),) * 2)
        labels = connected_components(graph, directed=False)[1]
        representative = np.full(labels.max() + 1, len(vertices))
        np.minimum.at(representative, labels, np.arange(len(vertices)))
        faces = representative[labels][faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[distinct]
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    return faces[np.sort(first)]


def component_labels(faces: np.ndarray, vertex_count: int) -> np.ndarray:
    """(f,) component of each face, numbered from 0; faces that share a vertex are connected."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(ends), bool), ends.T), shape=(vertex_count, vertex_count))
    labels = connected_components(graph, directed=False)[1]
    return np.unique(labels[faces[:, 0]], return_inverse=True)[1]


def signed_volumes(vertices: np.ndarray, faces: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Volume within each component, cubic source units; negative where its faces look inwards, as round a
    void.
    """
    corners = (vertices - vertices.mean(0))[faces]
    parts = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    return np.bincount(labels, parts)


def keep_components(
    vertices: np.ndarray,
    faces: np.ndarray,
    keep: int | float = 0.005,
    voids_without: np.ndarray | None = None,
) -> tuple[np.ndarray, int, int]:
    """Faces of the components worth keeping, and how many floaters and voids were dropped.

    `keep`: a whole number keeps that many of largest area; a float in [0, 1) keeps those of at least that
    share of the largest one's area. `voids_without`, points (m, 3) from which the scene was seen, also drops
    voids: closed components whose faces look inwards, inside the bounds of a larger one, with none of these
    points in their bounds. A radiance field is not constrained inside solid things, and no picture ever shows
    these.
    """
    if isinstance(keep, bool) or not (
        (isinstance(keep, int) and keep >= 1) or (isinstance(keep, float) and 0 <= keep < 1)
    ):
        raise UserError(
            f"keep_components {keep!r}: give a number to keep (1, 2, ...) or a share of the largest's area"
        )
    if not len(faces):
        return faces, 0, 0
    labels = component_labels(faces, len(vertices))
    corners = vertices[faces]
    areas = np.bincount(
        labels,
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2,
    )
    voids = np.zeros(len(areas), bool)
    if voids_without is not None:
        voids = _voids(vertices, faces, labels, areas, np.asarray(voids_without, np.float64).reshape(-1, 3))
    solid = np.where(voids, -1.0, areas)
    if isinstance(keep, int):
        kept = np.zeros(len(areas), bool)
        kept[np.argsort(-solid, kind="stable")[:keep]] = True
    else:
        kept = areas >= keep * solid.max()
    kept &= ~voids
    return faces[kept[labels]], int((~kept & ~voids).sum()), int(voids.sum())


def _voids(vertices, faces, labels, areas, seen_from) -> np.ndarray:
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    _, inverse, uses = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    open_edges = (uses[inverse.reshape(-1)] == 1).reshape(3, -1).any(0)
    is_open = np.bincount(labels, open_edges) > 0
    low = np.full((len(areas), 3), np.inf)
    high = np.full((len(areas), 3), -np.inf)
    for corner in range(3):
        np.minimum.at(low, labels, vertices[faces[:, corner]])
        np.maximum.at(high, labels, vertices[faces[:, corner]])
    result = (signed_volumes(vertices, faces, labels) < 0) & ~is_open
    for c in np.flatnonzero(result):
        inside_another = ((low < low[c]) & (high > high[c])).all(1).any()
        watched = ((seen_from > low[c]) & (seen_from < high[c])).all(1).any()
        result[c] = inside_another and not watched
    return result
