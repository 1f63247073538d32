"""Scans (.ply, .obj, .stl, .glb, .off: meshes or clouds) and depth images as points with normals."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from fieldstone.core.errors import UserError

from ....datasets.archive import NumberArchive
from ....render.cameras import Cameras
from ..fitting.depth_view import DepthView
from ..fitting.scan import Scan
from ..fitting.surface import estimated_normals, toward
from .keypoint_file import read_keypoints
from .observation import Observation, metres_per

__all__ = ["SCANS", "depth_scan", "read_depth", "read_scan"]

SCANS = (".ply", ".obj", ".stl", ".glb", ".off")
_LARGEST = 1 << 30
_POINTS = 20000


def read_scan(
    path: str | os.PathLike,
    unit: str | None,
    *,
    complete: bool = True,  # seen from all sides
    rng: np.random.Generator,
) -> Scan:
    """A mesh is sampled evenly by area, its faces say where outside is; a cloud keeps its points, normals estimated without a sign.

    Raises UserError for what is damaged, has no points, or is not of a hand's or person's size in `unit`.
    """
    import trimesh

    path = Path(path)
    scale = metres_per(unit or "m", str(path))
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: larger than {_LARGEST >> 20} MB")
        found = trimesh.load(path, process=False, force="mesh" if path.suffix.lower() == ".glb" else None)
    except UserError:
        raise
    except Exception as error:  # trimesh's readers raise nearly anything on a damaged file
        raise UserError(
            f"{path}: not a readable scan ({' '.join(str(error).split())[:120] or type(error).__name__})"
        ) from error
    vertices = np.asarray(getattr(found, "vertices", np.zeros((0, 3))), np.float64)
    faces = np.asarray(getattr(found, "faces", np.zeros((0, 3))), np.int64)
    if not len(vertices):
        raise UserError(f"{path}: no points in it")
    if not np.isfinite(vertices).all():
        raise UserError(
            f"{path}: {int((~np.isfinite(vertices)).any(1).sum())} of {len(vertices)} points are not finite"
        )
    try:
        if len(faces):
            points, normals = _sampled(vertices * scale, faces, rng)
            return Scan(points, normals, signed=True, complete=complete)
        points = vertices * scale
        if len(points) > _POINTS:
            points = points[np.sort(rng.choice(len(points), _POINTS, replace=False))]
        return Scan(points, estimated_normals(points), signed=False, complete=complete)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def depth_scan(
    z_depth: np.ndarray,  # (h, w) metres along the optical axis, 0 or NaN where unknown
    camera: Cameras,  # one
    where: str,
    mask: np.ndarray | None = None,  # (h, w) bool: what belongs to the hand
) -> Scan:
    """What one camera saw of a surface, in the world's frame, with normals towards it."""
    width, height = camera.size(0)
    if z_depth.shape != (height, width):
        raise UserError(
            f"{where}: depth: expected {(height, width)}, its camera's size, found {z_depth.shape}"
        )
    seen = np.isfinite(z_depth) & (z_depth > 0)
    if mask is not None:
        seen &= mask
    row, column = np.nonzero(seen)
    if len(row) < 50:
        raise UserError(
            f"{where}: depth: expected at least 50 pixels with a depth (inside the mask), found {len(row)}"
        )
    pixels = torch.from_numpy(np.stack((column + 0.5, row + 0.5), 1))
    local = camera.unproject(pixels, torch.zeros(len(row), dtype=torch.long)).numpy()
    local = local / local[:, 2:] * z_depth[row, column][:, None]
    pose = camera.camera_to_world[0].numpy()
    points = local @ pose[:3, :3].T + pose[:3, 3]
    normals = toward(points, estimated_normals(points), pose[:3, 3])
    near = ndimage.binary_dilation(seen, iterations=2)  # an outline is not known better than this
    nearest = ndimage.minimum_filter(
        np.where(seen, z_depth, np.inf), 5
    )  # nor is where one finger ends before another

    def empty(places: np.ndarray) -> np.ndarray:
        at = camera.project(torch.from_numpy(places), torch.zeros(len(places), dtype=torch.long))[0].numpy()
        inside = np.isfinite(at).all(1) & (at >= 0).all(1) & (at < (width, height)).all(1)
        x, y = (np.where(inside, at[:, k], 0).astype(int) for k in (0, 1))
        z = (places - pose[:3, 3]) @ pose[:3, 2]
        before = seen[y, x] & (z < nearest[y, x] - 0.01)
        return inside & (~near[y, x] | before)

    try:
        view = DepthView(camera, np.where(seen, z_depth, 0.0))
        return Scan(points, normals, signed=True, complete=False, empty=empty, origin=pose[:3, 3], view=view)
    except UserError as error:
        raise UserError(f"{where}: {error}; is what lies behind the hand set to 0 or masked?") from None


def read_depth(path: str | os.PathLike, unit: str | None = None) -> Observation:
    """An .npz of z_depth (h, w) or (b, h, w), intrinsics (3, 3) and, if wanted, mask, camera_to_world, unit (default m) and
    keypoints in space beside it: points, joint_set, side."""
    path = Path(path)
    with NumberArchive(path) as archive:
        intrinsics = archive.array("intrinsics", (3, 3))
        pose = archive.array("camera_to_world", (4, 4)) if "camera_to_world" in archive else np.eye(4)
        scale = metres_per(unit or (archive.text("unit") if "unit" in archive else "m"), str(path))
        try:
            depths = archive.array("z_depth", (None, None), missing=True)[None]
        except UserError as error:
            if "expected shape" not in str(error):
                raise
            depths = archive.array("z_depth", (None, None, None), missing=True)
        mask = None
        if "mask" in archive:
            mask = archive.array("mask", (None,) * 2 if len(depths) == 1 else (None,) * 3) != 0
            mask = mask.reshape(-1, *mask.shape[-2:])
            if mask.shape != depths.shape:
                raise UserError(
                    f"{path}: mask: expected {depths.shape[-2:]} as z_depth, found {mask.shape[-2:]}"
                )
        rate = float(archive.array("frames_per_second", ())) if "frames_per_second" in archive else None
        beside = "points" in archive
    seen = {}
    if beside:
        own = read_keypoints(path, unit=unit)[0]
        seen = {key: getattr(own, key) for key in ("joint_set", "points", "confidence", "side")}
    pose[:3, 3] *= scale
    height, width = depths.shape[1:]
    camera = Cameras.pinhole(
        pose, (intrinsics[0, 0], intrinsics[1, 1]), width, height, (intrinsics[0, 2], intrinsics[1, 2])
    )
    scans = [
        depth_scan(z.astype(np.float64) * scale, camera, str(path), None if mask is None else mask[i])
        for i, z in enumerate(depths)
    ]
    return Observation(where=str(path), scans=scans, cameras=camera, frames_per_second=rate, **seen)


def _sampled(
    vertices: np.ndarray, faces: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    if not area.sum() > 0:
        raise UserError("its faces have no area")
    face = rng.choice(len(faces), _POINTS // 2, p=area / area.sum())
    u, v = rng.random((2, len(face)))
    low = u + v > 1
    u[low], v[low] = 1 - u[low], 1 - v[low]
    a, b, c = corners[face].transpose(1, 0, 2)
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return points, cross[face] / area[face, None]
