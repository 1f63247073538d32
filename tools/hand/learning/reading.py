"""Folders of meshes and scans, as a model is learned from them.

The folder under `folder` that holds a file is its subject; files that lie in `folder` itself belong to the subject named by what is before
the last "_" in their name, or to one of their own. A file with the starting model's faces is a registered mesh; anything else is a raw
scan. Files with "left" in their name, or in a folder's, are mirrored where the starting model is a right hand, and the other way
round (Romero et al. 2017, supplement: one right model is learned from both).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from ..fitting.closest import vertex_normals
from ..fitting.scan import Scan
from ..fitting.surface import estimated_normals

__all__ = ["Item", "SUFFIXES", "read_item", "read_items"]

SUFFIXES = (".obj", ".ply", ".stl", ".off", ".glb")
MOST_BYTES = 1 << 29
UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


@dataclass(frozen=True)
class Item:
    """One file."""

    name: str
    """Relative to the folder, without suffix."""
    subject: str
    vertices: np.ndarray
    """(n, 3) metres."""
    faces: np.ndarray
    """(f, 3); (0, 3) of a point cloud."""
    registered: bool
    """Whether the vertices are the starting model's, in its order."""
    mirrored: bool = False

    def scan(self) -> Scan:
        """The item as points with normals."""
        if len(self.faces):
            return Scan(self.vertices, vertex_normals(self.vertices, self.faces))
        return Scan(self.vertices, estimated_normals(self.vertices), signed=False)


def read_items(folder: str | Path, data: ModelData, *, unit: str = "m") -> list[Item]:
    """All meshes and clouds under `folder`, sorted by name. Raises `UserError` where there is none or one cannot be read."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder of meshes ({', '.join(SUFFIXES)}), found no such folder"
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{folder}: no meshes or point clouds ({', '.join(SUFFIXES)}) in it")
    return [read_item(path, folder, data, unit=unit) for path in files]


def read_item(path: Path, folder: Path, data: ModelData, *, unit: str = "m") -> Item:
    """One file of `folder`."""
    vertices, faces = _mesh(path)
    vertices = vertices * UNITS[unit]
    inside = path.relative_to(folder)
    name = inside.with_suffix("").as_posix()
    subject = inside.parent.as_posix() if inside.parent.parts else inside.stem.rsplit("_", 1)[0]
    named = re.findall(r"left|right", name.lower())
    mirrored = bool(named) and data.side in ("left", "right") and named[-1] != data.side
    if mirrored:
        vertices, faces = vertices * (-1.0, 1.0, 1.0), faces[:, ::-1]
        subject = re.sub(r"(?i)[ _-]*(left|right)[ _-]*", "", subject) + f" ({named[-1]} hand)"
    same = len(vertices) == len(data.template) and len(faces) == len(data.faces)
    registered = same and _same_faces(faces, data.faces)
    return Item(name, subject, vertices, faces, registered, mirrored)


def _same_faces(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the triangles are the same, whatever corner and whatever side they begin with."""

    def ordered(faces: np.ndarray) -> np.ndarray:
        rows = np.sort(faces, 1)
        return rows[np.lexsort(rows.T)]

    return np.array_equal(ordered(first), ordered(second))


def _mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    size = path.stat().st_size
    if size > MOST_BYTES:
        raise UserError(f"{path}: expected at most {MOST_BYTES} bytes, found {size}")
    try:
        options = {"maintain_order": True} if path.suffix.lower() == ".obj" else {}
        mesh = trimesh.load(str(path), process=False, force=None, **options)
        if isinstance(mesh, trimesh.Scene):
            mesh = mesh.to_geometry() if len(mesh.geometry) else trimesh.Trimesh()
        vertices = np.asarray(mesh.vertices, np.float64)
        faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), np.int64).reshape(-1, 3)
    except Exception as error:  # whatever a damaged file makes a reader raise
        raise UserError(
            f"{path}: not a readable mesh ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or not len(vertices):
        raise UserError(f"{path}: expected vertices (n, 3), found {vertices.shape}")
    if not np.isfinite(vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(vertices).all(1))[0])
        raise UserError(f"{path}: expected finite vertices, found {vertices[bad].tolist()} at vertex {bad}")
    if path.suffix.lower() in (".stl", ".glb"):  # corners of triangles apart, or along seams
        vertices, inverse = np.unique(vertices, axis=0, return_inverse=True)
        faces = inverse.reshape(-1)[faces]
        faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    return vertices, faces
