"""Meshes (STL, OBJ) as clouds: points drawn uniformly over the surface, through trimesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .raw import Raw

__all__ = ["read"]


def read(path: Path, samples: int, rng: np.random.Generator) -> Raw:
    """`samples` points, uniform in area, with the normals of their triangles; the vertices if there is no triangle.

    Raises `UserError` for a file trimesh cannot read, or one without area.
    """
    import trimesh

    try:
        loaded = trimesh.load(path, process=False, skip_materials=True)
        if isinstance(loaded, trimesh.Scene):
            loaded = loaded.to_mesh()
        vertices = np.asarray(loaded.vertices, np.float64)
    except Exception as error:  # trimesh's readers raise whatever the damage causes
        raise UserError(f"{path}: trimesh cannot read it ({type(error).__name__}: {error})") from error
    faces = getattr(loaded, "faces", None)
    if faces is None or not len(faces):
        return Raw(points=vertices, notes=("the file has no triangles: its vertices are taken as points",))
    corners = vertices[np.asarray(faces)]
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
