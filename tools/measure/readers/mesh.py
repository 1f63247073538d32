"""Meshes (STL, OBJ) as clouds: points drawn uniformly over the surface, through trimesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .raw import Raw

__all__ = ["read", "triangles"]


def read(path: Path, samples: int, rng: np.random.Generator) -> Raw:
    """`samples` points, uniform in area, with the normals of their triangles; the vertices if there is no triangle.

    Raises `UserError` for a file trimesh cannot read, or one without area.
    """
    vertices, faces = triangles(path)
    if not len(faces):
        return Raw(points=vertices, notes=("the file has no triangles: its vertices are taken as points",))
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(normals, axis=1)
    total = np.cumsum(areas)
    if not np.isfinite(total[-1]) or total[-1] <= 0:
        raise UserError(f"{path}: its {len(faces)} triangles have no area")
    chosen = np.searchsorted(total, rng.random(samples) * total[-1], side="right").clip(max=len(faces) - 1)
    u, v = rng.random((2, samples))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[chosen, 0], corners[chosen, 1], corners[chosen, 2]
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    note = f"{samples} points drawn uniformly from {len(faces)} triangles"
    return Raw(points=points, normals=normals[chosen] / areas[chosen, None], notes=(note,))


def triangles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) float64 vertices and (m, 3) int64 faces, m = 0 where the file has none. Raises `UserError` where trimesh cannot read it."""
    import trimesh

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        loaded = trimesh.load(path, process=False, skip_materials=True)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh()
        vertices = np.asarray(loaded.vertices, np.float64)
    except Exception as error:  # trimesh's readers raise whatever the damage causes
        raise UserError(f"{path}: trimesh cannot read it ({type(error).__name__}: {error})") from error
    faces = getattr(loaded, "faces", None)
    faces = np.zeros((0, 3), np.int64) if faces is None else np.asarray(faces, np.int64).reshape(-1, 3)
    if len(faces) and not (faces.min() >= 0 and faces.max() < len(vertices)):
        raise UserError(f"{path}: its triangles name vertices that it does not have")
    return vertices, faces
