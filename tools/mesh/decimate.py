"""Fewer faces for the same shape."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["decimate", "transfer"]


def decimate(
    vertices: np.ndarray, faces: np.ndarray, target_faces: int, keep_border: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Quadric edge collapse (Garland and Heckbert 1997, through fast_simplification) to about `target_faces`.

    Vertices along open borders stay where they are with `keep_border`. A mesh that has no more faces is
    returned as it is. Coordinates are centred and scaled for the collapse, as its thresholds are absolute.
    """
    if target_faces < 4:
        raise UserError(f"target_faces {target_faces}: give at least 4")
    if len(faces) <= target_faces:
        return vertices, faces
    import fast_simplification

    centre = vertices.mean(0)
    scale = float(np.abs(vertices - centre).max()) or 1.0
    points, triangles = fast_simplification.simplify(
        (vertices - centre) / scale,
        faces.astype(np.int32),
        target_count=int(target_faces),
        preserve_border=keep_border,
    )
    return points * scale + centre, triangles.astype(np.int64)


def transfer(values: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Vertex `values` (v, c) at `source` (v, 3) carried to `target` (w, 3): mean of the 3 nearest by inverse
    distance.
    """
    from scipy.spatial import cKDTree

    distance, index = cKDTree(source).query(target, k=min(3, len(source)))
    distance, index = distance.reshape(len(target), -1), index.reshape(len(target), -1)
    weight = 1 / np.maximum(distance, 1e-9 * max(float(np.ptp(source, 0).max()), 1e-30))
    return (values[index] * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
