"""Pictures of meshes, without a screen: shaded, by normals, depth or faces."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path

from ..cameras import Cameras
from ..cameras.paths import look_at
from .fragments import Fragments, fragments
from .interpolation import face_normals, interpolate, vertex_normals

__all__ = ["STYLES", "camera_at", "picture", "write_picture"]

STYLES = ("lambert", "normals", "z-depth", "faces")
BACKGROUND = (1.0, 1.0, 1.0)
PLAIN = (0.74, 0.76, 0.80)
AMBIENT = 0.35
LIGHT = (-0.45, -0.6, -1.0)
"""Left of the camera, above and behind it."""
BAND = 1 << 18
"""Pixels drawn at once: bounds the memory of a picture of any size."""


@torch.no_grad()
def picture(
    vertices: Tensor,  # (v, 3)
    faces: Tensor,  # (f, 3)
    camera: Cameras,  # one
    style: str = "lambert",
    *,
    colours: Tensor | None = None,  # (v, 3) or (f, 3) in [0, 1], for "lambert"
    background: tuple[float, float, float] | Tensor = BACKGROUND,  # or (h, w, 3), to draw over an image
    smooth: bool = False,
    samples: int = 2,
    light: tuple[float, float, float] | None = LIGHT,
    backend: str = "auto",
) -> Tensor:  # (h, w, 3) in [0, 1]
    """A mesh as one sees it from `camera`; both sides of a face are drawn.

    - "lambert": a light beside the camera; "normals": 0.5 + 0.5 * normal towards the camera, in camera axes with y up and z back;
      "z-depth": near is bright, over the range seen; "faces": a colour a face.
    - `light`: where "lambert" has its light, far away, in camera axes (x right, y down, z forward); None: at the camera itself.
    - `smooth`: normals of vertices instead of faces. `samples`: each pixel is the mean of samples^2.
    Raises UserError for an unknown style. Not differentiable.
    """
    if style not in STYLES:
        raise UserError(f"picture style {style!r}: there are {', '.join(STYLES)}")
    if not 1 <= samples <= 8:
        raise UserError(f"picture: {samples} samples; give 1 to 8 (a pixel is the mean of its square)")
    vertices = vertices.float()
    width, height = camera.size(0)
    fine = camera.resized(width * samples, height * samples)
    found = fragments(vertices, faces, fine, backend=backend)
    rows = max(1, BAND // (width * samples)) // samples * samples or samples
    normals = vertex_normals(vertices, faces) if smooth else None
    if style == "z-depth":
        seen = found.z_depth[found.mask]
        limits = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    behind = torch.as_tensor(background, dtype=torch.float32, device=vertices.device)
    bands = []
    for top in range(0, height * samples, rows):
        part = _band(found, top, top + rows)
        if style == "z-depth":
            share = (limits[1] - part.z_depth[..., 0]) / max(limits[1] - limits[0], 1e-12)
            shade = (0.15 + 0.85 * share.clamp(0, 1))[..., None].expand(*share.shape, 3)
        elif style == "faces":
            shade = _face_colours(part.face[..., 0])
        else:
            shade = _lit(part, vertices, faces, fine, normals, colours, style, light)
        alpha = part.mask[..., 0].float()
        shade = torch.where(part.mask, shade, 0).reshape(-1, samples, width, samples, 3).mean((1, 3))
        alpha = alpha.reshape(-1, samples, width, samples).mean((1, 3))[..., None]
        under = behind if behind.ndim == 1 else behind[top // samples : (top + rows) // samples]
        bands.append(shade + (1 - alpha) * under)
    return torch.cat(bands).clamp(0, 1)


def _band(found: Fragments, top: int, bottom: int) -> Fragments:
    """Rows [top, bottom), as pixels without a view of their own."""
    part = Fragments(
        found.face[top:bottom], found.barycentric[top:bottom], found.distance[top:bottom], found.view
    )
    part.__dict__["z_depth"] = found.z_depth[top:bottom]
    return part


def _lit(
    part: Fragments,
    vertices: Tensor,
    faces: Tensor,
    camera: Cameras,
    normals: Tensor | None,
    colours: Tensor | None,
    style: str,
    light: tuple[float, float, float] | None,
) -> Tensor:
    """Shaded colours (h, w, 3)."""
    row = part.face[..., 0].long().clamp_min(0)
    pose = camera.camera_to_world[0].to(vertices)
    at = interpolate(vertices, faces, part)[..., 0, :]
    if normals is None:
        corners = torch.unique(row)
        normal = torch.zeros(len(faces), 3, device=vertices.device)
        normal[corners] = face_normals(vertices, faces[corners])
        normal = normal[row]
    else:
        normal = interpolate(normals, faces, part)[..., 0, :]
    normal = torch.nn.functional.normalize(normal, dim=-1)
    sight = torch.nn.functional.normalize(at - pose[:3, 3], dim=-1)
    normal = torch.where((normal * sight).sum(-1, keepdim=True) > 0, -normal, normal)
    if style == "normals":
        local = normal @ pose[:3, :3]
        return 0.5 + 0.5 * local * torch.tensor([1.0, -1.0, -1.0], device=local.device)
    if light is None:
        shine = -(normal * sight).sum(-1)
    else:
        toward = pose[:3, :3] @ torch.tensor(light, dtype=pose.dtype, device=pose.device)
        shine = normal @ torch.nn.functional.normalize(toward, dim=0)
    lambert = AMBIENT + (1 - AMBIENT) * shine.clamp_min(0)
    if colours is None:
        colour = torch.tensor(PLAIN, device=vertices.device)
    elif len(colours) == len(vertices):
        colour = interpolate(colours.float(), faces, part)[..., 0, :]
    elif len(colours) == len(faces):
        colour = colours.float()[row]
    else:
        raise UserError(
            f"picture: {len(colours)} colours for {len(vertices)} vertices and {len(faces)} faces"
        )
    return lambert[..., None] * colour


def _face_colours(face: Tensor) -> Tensor:
    """A colour from a face's number alone: hues a golden ratio apart, three brightnesses."""
    face = face.long().clamp_min(0)
    hue = (face.double() * 0.61803398875 % 1).float()[..., None]
    value = 0.65 + 0.15 * (face % 3).float()[..., None]
    wheel = ((hue * 6 + torch.tensor([0.0, 4.0, 2.0], device=face.device)) % 6 - 3).abs() - 1
    return value * (0.35 + 0.65 * wheel.clamp(0, 1))


def camera_at(
    vertices: Tensor,  # (v, 3)
    width: int,
    height: int,
    *,
    towards: tuple[float, float, float] = (-0.6, 1.0, -0.45),
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
    field_of_view: float = math.radians(35),
) -> Cameras:
    """A pinhole camera that looks along `towards` and has all vertices in view. Field of view along the shorter side, radians."""
    points = vertices.detach().double().cpu()
    if not len(points):
        raise UserError("picture: a mesh without vertices cannot be framed")
    pose = look_at(-np.asarray(towards, np.float64), np.zeros(3), np.asarray(up, np.float64))
    pose = torch.as_tensor(pose, dtype=torch.float64)
    centre = points.mean(0)
    local = (points - centre) @ pose[:3, :3]
    middle = (local.amax(0) + local.amin(0)) / 2
    local = local - middle
    focal = min(width, height) / 2 / math.tan(field_of_view / 2)
    reach = torch.tensor([0.47 * width / focal, 0.47 * height / focal], dtype=torch.float64)
    back = float((local[:, :2].abs() / reach - local[:, 2:]).amax())
    pose[:3, 3] = centre + pose[:3, :3] @ middle - max(back, 1e-9) * pose[:3, 2]
    return Cameras.pinhole(pose, focal, width, height)


def write_picture(path: str | os.PathLike, image: Tensor) -> None:
    """Writes (h, w, 3) in [0, 1] as .png or .jpg, whole or not at all."""
    from PIL import Image

    if Path(path).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"{path}: a picture is written as .png or .jpg")
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)
