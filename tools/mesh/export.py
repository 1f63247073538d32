"""From a trained scene to a mesh, start to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras
from .blocks import Lattice
from .clean import compact, drop_degenerate
from .clean import keep_components as keep_largest
from .colours import surface_colours
from .decimate import decimate, transfer
from .files import check_suffix, write_mesh
from .holes import fill_holes as close_holes
from .level import choose_level
from .marching_cubes import extract_iso_surface
from .report import KEY, describe
from .settle import settle
from .texture import bake
from .tsdf import fuse
from .views import MeshableScene, cameras_around, see_surface

if TYPE_CHECKING:
    import trimesh

__all__ = ["METHODS", "export_mesh"]

METHODS = ("tsdf", "marching-cubes")

TEXTURE_FACES = 100_000
"""A mesh to be textured is reduced to this many faces unless the caller names a number."""

EDGE_STEPS = 4
"""Root-finding steps that put a vertex on the level set of the field itself."""

REACH = 2.0
"""Voxels to either side within which a vertex is settled and its colour sought."""


def export_mesh(
    scene: MeshableScene,
    out: str | os.PathLike | None = None,
    *,
    method: str = "tsdf",
    resolution: int = 256,
    box: np.ndarray | None = None,
    cameras: Cameras | None = None,
    level: float | str = "auto",
    settled: bool = True,
    target_faces: int | None = None,
    texture: bool = False,
    texture_size: int = 2048,
    keep_components: int | float = 0.005,
    fill_holes: float = 0.02,
    progress: Callable[[str, float], None] | None = None,
) -> trimesh.Trimesh:
    """The scene's surface as a triangle mesh in the source frame and unit, coloured, and written to `out` if
    given.

    - `method`: "tsdf", which fuses rendered depths and leaves out whatever no view sees, or "marching-cubes" on the density, which
      closes what views leave open, but also shows debris inside solid things.
    - `resolution`: cells along the longest side of `box` (2, 3), which is the scene's core box by default.
    - `cameras`: views of the scene, for the level, the fusion and the colours; the training cameras are best.
      Without, cameras are put evenly round the box, which suits an object but not a room.
    - `level`: density per source unit, or "auto": the one that agrees best with rendered depth
      (`level.choose_level`).
    - `settled`: marching cubes' vertices are moved onto the surface that rays see (`settle.settle`).
    - `target_faces`: decimated to about this many. With `texture` and no number, to 100,000.
    - `texture`: a baked picture of `texture_size` texels a side instead of vertex colours.
    - `keep_components`: how many (int), or the least share of the largest one's area (float).
    - `fill_holes`: rims up to this share of the box's diagonal are closed; 0 closes none.
    - `progress`: told (stage, share done) with stages "level", "views", "field", "clean", "colour",
      "texture", "write".

    The mesh's `metadata["fieldstone"]` is a plain dict: faces, vertices, watertight, components, area,
    volume, bounds, unit, method, notes (lines on what was chosen, dropped or could not be held by the file).
    With a texture, the mesh repeats vertices along chart seams; the report describes the surface before that.
    Raises UserError for bad settings and for a scene without a surface.
    """
    import trimesh

    if out is not None:
        check_suffix(out)
    if method not in METHODS:
        raise UserError(f"mesh method {method!r}: use one of {', '.join(METHODS)}")
    if hasattr(scene, "surface_mesh"):  # a scene of mesh primitives: written as it is, nothing is extracted
        if texture or target_faces is not None or level != "auto":
            raise UserError(
                "export-mesh: this scene is a mesh already and is written as it is; leave out texture, faces and level"
            )
        return scene.surface_mesh(out)
    if method == "tsdf" and level != "auto":
        raise UserError(
            f"mesh level {level!r}: depths are fused without one; it goes with method marching-cubes"
        )
    tell = progress or (lambda stage, share: None)
    notes: list[str] = []
    box = np.asarray(scene.core_box() if box is None else box, np.float64)
    voxel = Lattice.in_box(box, resolution).voxel
    positions = None if cameras is None else cameras.camera_to_world[:, :3, 3].cpu().double().numpy()
    colours = None
    if method == "tsdf":
        views = cameras_around(box, 48, 320) if cameras is None else cameras
        vertices, faces, colours = fuse(
            scene, views, box, resolution, progress=lambda s: tell("views", s)
        ).surface()
    else:
        vertices, faces, note = _level_set(scene, box, resolution, cameras, level, voxel, tell)
        notes += note
    tell("clean", 0.0)
    coloured = vertices if colours is None else np.column_stack([vertices, colours])
    around = cameras_around(box) if cameras is None else cameras
    vertices, faces, cleaned = _clean(
        vertices, faces, keep_components, fill_holes * float(np.linalg.norm(box[1] - box[0])),
        around.camera_to_world[:, :3, 3].cpu().double().numpy(),
    )  # fmt: skip
    notes += cleaned
    if method == "marching-cubes" and settled:
        normals = np.array(trimesh.Trimesh(vertices, faces, process=False).vertex_normals)
        vertices = settle(scene.density, vertices, faces, normals, REACH * voxel)
    if texture and target_faces is None and len(faces) > TEXTURE_FACES:
        target_faces = TEXTURE_FACES
        notes.append(
            f"reduced from {len(faces):,} faces for the texture; target_faces chooses another number"
        )
    if target_faces is not None:
        vertices, faces = decimate(vertices, faces, target_faces)
        vertices, faces = compact(vertices, drop_degenerate(vertices, faces))
    tell("clean", 1.0)

    facts = describe(vertices, faces) | {"method": method, "resolution": int(resolution), "notes": notes}
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    normals = np.array(mesh.vertex_normals)

    def colour(points: np.ndarray, directions: np.ndarray, stage: str) -> np.ndarray:
        return surface_colours(scene, points, directions, REACH * voxel, positions, lambda s: tell(stage, s))

    if texture:
        mesh = _textured(vertices, faces, normals, colour, texture_size, tell)
    elif colours is not None:
        mesh.visual.vertex_colors = _bytes(transfer(coloured[:, 3:], coloured[:, :3], vertices))
    else:
        mesh.visual.vertex_colors = _bytes(colour(vertices, normals, "colour"))
    mesh.metadata[KEY] = facts
    if out is not None:
        tell("write", 0.0)
        facts["notes"] += write_mesh(mesh, out)
        tell("write", 1.0)
    return mesh


def _level_set(
    scene, box, resolution, cameras, level, voxel, tell
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    notes = []
    if level == "auto":
        views = cameras_around(box) if cameras is None else cameras
        seen = see_surface(scene, views, box, progress=lambda s: tell("level", s))
        choice = choose_level(scene.density, seen, voxel)
        level = choice.level
        notes.append(str(choice))
    elif isinstance(level, str) or not float(level) > 0:
        raise UserError(f"mesh level {level!r}: give a density per unit above 0, or 'auto'")
    vertices, faces = extract_iso_surface(
        scene.density, box, resolution, float(level), occupied=scene.occupied, refine=EDGE_STEPS,
        progress=lambda s: tell("field", s),
    )  # fmt: skip
    return vertices, faces, notes


def _clean(vertices, faces, keep, longest_rim, seen_from) -> tuple[np.ndarray, np.ndarray, list[str]]:
    notes = []
    faces = drop_degenerate(vertices, faces)
    faces, floaters, voids = keep_largest(vertices, faces, keep, voids_without=seen_from)
    if floaters:
        notes.append(f"removed {floaters} small component(s)")
    if voids:
        notes.append(f"removed {voids} void(s) inside solid parts")
    vertices, faces = compact(vertices, faces)
    if longest_rim > 0:
        vertices, faces, closed = close_holes(vertices, faces, longest_rim)
        if closed:
            notes.append(f"closed {closed} hole(s)")
    return vertices, faces, notes


def _textured(vertices, faces, normals, colour, size, tell) -> trimesh.Trimesh:
    import trimesh
    from PIL import Image
    from trimesh.visual.material import PBRMaterial

    baked = bake(
        vertices,
        faces,
        normals,
        lambda p, n: colour(p, n, "colour"),
        size,
        progress=lambda s: tell("texture", s),
    )
    material = PBRMaterial(
        name="fieldstone",
        baseColorTexture=Image.fromarray(baked.image),
        metallicFactor=0.0,
        roughnessFactor=1.0,
    )
    return trimesh.Trimesh(
        vertices[baked.atlas.source],
        baked.atlas.faces,
        vertex_normals=normals[baked.atlas.source],
        visual=trimesh.visual.TextureVisuals(uv=baked.atlas.uv, material=material),
        process=False,
    )


def _bytes(colours: np.ndarray) -> np.ndarray:
    """(n, 3) in [0, 1] -> (n, 4) uint8, opaque."""
    rgb = np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
    return np.column_stack([rgb, np.full(len(rgb), 255, np.uint8)])
