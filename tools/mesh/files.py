"""Mesh files: glTF binary, PLY, OBJ, STL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes, atomic_write_text

if TYPE_CHECKING:
    import trimesh

__all__ = ["MESH_SUFFIXES", "check_suffix", "write_mesh"]

MESH_SUFFIXES = (".glb", ".ply", ".obj", ".stl")

# Beyond this many box sizes from the origin, glTF vertices are stored relative to the mesh's centre.
FAR_AWAY = 4.0


def check_suffix(path: str | os.PathLike) -> Path:
    """`path` if its suffix names a format we write; else UserError. Ask before long work, not after it."""
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise UserError(f"{path}: no mesh format {path.suffix!r}; use one of {', '.join(MESH_SUFFIXES)}")
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file name that ends in {path.suffix}")
    return path


def write_mesh(mesh: trimesh.Trimesh, path: str | os.PathLike) -> list[str]:
    """Writes `mesh` in the format of the suffix, whole or not at all; returns one line for each thing the
    format cannot hold.

    Vertices stay in the mesh's own frame in every format: nothing is turned to glTF's y-up convention. glTF
    and PLY and STL hold 32-bit floats; far from the origin a glTF's vertices are therefore stored round the
    mesh's centre with the centre as the node's translation, which every importer adds back. A textured OBJ
    gets its .mtl and .png beside it, written first, so that an OBJ never names files that are not there.
    """
    path = check_suffix(path)
    kind = path.suffix.lower()
    textured = mesh.visual.kind == "texture"
    coloured = mesh.visual.kind == "vertex"
    notes = []
    if kind == ".glb":
        atomic_write_bytes(path, _glb(mesh))
    elif kind == ".obj":
        _write_obj(mesh, path, textured)
    elif kind == ".ply":
        plain = _without_texture(mesh) if textured else mesh
        atomic_write_bytes(path, plain.export(file_type="ply", vertex_normal=True))
        if textured:
            notes.append(
                f"{path.name}: PLY holds no texture; it has the texture's colours at the vertices instead"
            )
    else:
        atomic_write_bytes(path, mesh.export(file_type="stl"))
        if textured or coloured:
            notes.append(f"{path.name}: STL holds no colours; only the shape was written")
    notes += _rounding(mesh, path, kind)
    return notes


def _rounding(mesh: trimesh.Trimesh, path: Path, kind: str) -> list[str]:
    if kind not in (".ply", ".stl"):
        return []
    size = float(np.ptp(mesh.bounds, axis=0).max())
    step = float(np.spacing(np.float32(np.abs(mesh.bounds).max())))
    if step <= 1e-5 * size:
        return []
    return [f"{path.name}: 32-bit floats, all that {kind[1:].upper()} holds, round to {step:.3g} units here"]


def _glb(mesh: trimesh.Trimesh) -> bytes:
    import trimesh

    centre = mesh.bounds.mean(0)
    scene = trimesh.Scene()
    size = float(np.ptp(mesh.bounds, axis=0).max())
    if np.abs(centre).max() <= FAR_AWAY * size:
        scene.add_geometry(mesh, node_name="mesh", geom_name="mesh")
    else:
        moved = trimesh.Trimesh(
            mesh.vertices - centre,
            mesh.faces,
            vertex_normals=mesh.vertex_normals,
            visual=mesh.visual.copy(),
            process=False,
        )
        translation = np.eye(4)
        translation[:3, 3] = centre
        scene.add_geometry(moved, node_name="mesh", geom_name="mesh", transform=translation)
    return scene.export(file_type="glb", include_normals=True)


def _write_obj(mesh: trimesh.Trimesh, path: Path, textured: bool) -> None:
    from trimesh.exchange.obj import export_obj

    if not textured:
        atomic_write_text(path, export_obj(mesh, include_normals=True, digits=9, header=None))
        return
    # trimesh names the material's files itself; they are renamed after the OBJ and written beside it.
    text, extra = export_obj(
        mesh, include_normals=True, return_texture=True, digits=9, header=None, mtl_name="material.mtl"
    )
    stem = re.sub(r"\s+", "_", path.stem)
    images = {name: f"{stem}{Path(name).suffix}" for name in extra if not name.endswith(".mtl")}
    for name, data in extra.items():
        if name in images:
            atomic_write_bytes(path.with_name(images[name]), data)
    picture = next(iter(images.values()))
    # White, as renderers multiply the picture by Kd; no highlights, as they are in the picture if anywhere.
    material = f"newmtl fieldstone\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {picture}\n"
    atomic_write_text(path.with_name(f"{stem}.mtl"), material)
    atomic_write_text(path, text.replace("mtllib material.mtl", f"mtllib {stem}.mtl"))


def _without_texture(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    import trimesh

    return trimesh.Trimesh(
        mesh.vertices,
        mesh.faces,
        vertex_normals=mesh.vertex_normals,
        vertex_colors=mesh.visual.to_color().vertex_colors,
        process=False,
    )
