"""The images that a rig's cameras take of a part while the projector shows its patterns.

Every pixel is sampled on a grid within its footprint; each sample's ray is cast exactly, lit by the projector if nothing is in between,
and shows the pattern there with Lambert and Blinn-Phong reflection. Then come the lens (Gaussian blur), the photons and the read-out
(noise whose variance is a straight line in the grey value), saturation and rounding to grey levels, so that what a scanner meets at
edges, glints and steep walls comes about as it does in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from .caster_cpu import cast_rays, visible_from
from .part import Part
from .scanner import Rig, pixel_rays

__all__ = ["Imaging", "render_fringes"]

_TABLE = 1 << 15
_CHUNK = 1 << 19


@dataclass(frozen=True)
class Imaging:
    """Light, surface and sensor."""

    exposure: float = 190.0
    """Grey value (of 255) of a matt white face at the working distance, fully lit."""
    ambient: float = 0.03
    """Room light, as part of the projector's."""
    specular: float = 0.0
    """Strength of the highlight against the matt part."""
    gloss: float = 40.0
    """Exponent of the highlight."""
    texture: float = 0.15
    """Relative depth of the marks and stains on the surface, which vary over `texture_size`."""
    texture_size: float = 1.5
    """mm."""
    samples: int = 2
    """Per pixel and axis."""
    blur: float = 0.4
    """Standard deviation of the lens's point spread, pixels, on top of the pixel's footprint."""
    projector_blur: float = 0.0
    """Standard deviation of the projector's defocus, in fringes."""
    gamma: float = 1.0
    """Exponent of the projector's response."""
    noise_floor: float = 0.35
    """Variance of the read-out, grey values squared, on the scale of 255."""
    noise_gain: float = 0.02
    """Variance per grey value from the photons."""
    bits: int = 8
    """8, or up to 16 in 16-bit files."""


def render_fringes(
    part: Part,  # in the left camera's frame, mm
    rig: Rig,
    rng: np.random.Generator,
    imaging: Imaging | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right images (n, h, w), uint8 or, above 8 bits, uint16, in the order of `Pattern.intensities`."""
    imaging = imaging or Imaging()
    u = (np.arange(_TABLE + 1)) / _TABLE
    table = rig.pattern.intensities(u, imaging.projector_blur / rig.pattern.fringes) ** imaging.gamma
    table = np.ascontiguousarray(table.T)
    faces = part.table()
    return tuple(_camera(faces, rig, imaging, table, rng, right) for right in (False, True))


def _camera(
    faces, rig: Rig, imaging: Imaging, table: np.ndarray, rng: np.random.Generator, right: bool
) -> np.ndarray:
    import cv2

    width, height = rig.calibration.size
    count, n = table.shape[1], imaging.samples
    images = np.zeros((height * width, count), np.float32)
    offsets = (np.arange(n) + 0.5) / n - 0.5
    oy, ox = (a.ravel() for a in np.meshgrid(offsets, offsets, indexing="ij"))
    rows_at_once = max(1, _CHUNK // (width * n * n))
    for top in range(0, height, rows_at_once):
        rows, columns = np.mgrid[top : min(top + rows_at_once, height), :width]
        pixels = np.stack(
            [columns.reshape(-1, 1) + ox, rows.reshape(-1, 1) + oy], axis=2
        )  # (pixel, sample, 2)
        u, light, dim = _seen(faces, rig, imaging, pixels.reshape(-1, 2), right)
        _accumulate(table, u, light, dim, n * n, images[top * width : top * width + len(pixels)])
    scale = (1 << imaging.bits) / 256
    top_value = (1 << imaging.bits) - 1
    out = np.empty((count, height, width), np.uint8 if imaging.bits <= 8 else np.uint16)
    for k in range(count):
        image = images[:, k].reshape(height, width)
        if imaging.blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), imaging.blur)
        if imaging.noise_floor > 0 or imaging.noise_gain > 0:
            sigma = np.sqrt(imaging.noise_floor + imaging.noise_gain * np.maximum(image, 0))
            image = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
        out[k] = np.clip(np.rint(image * scale), 0, top_value)
    return out


def _seen(faces, rig: Rig, imaging: Imaging, pixels: np.ndarray, right: bool):
    """Pattern coordinate, grey value under full light and grey value without, of each sample."""
    origin, directions = pixel_rays(rig, pixels, right)
    distance, face, normal = cast_rays(faces, origin, directions)
    hit = np.flatnonzero(face >= 0)
    light, dim = (np.zeros(len(pixels), np.float32) for _ in range(2))
    u = np.zeros(len(pixels))
    if not len(hit):
        return u, light, dim
    points = origin + directions[hit] * distance[hit, None]
    normals = normal[hit]
    facing = visible_from(faces, points, normals, rig.projector.position)
    matt = faces.rows[face[hit], 39] * (1 + imaging.texture * _value_noise(points / imaging.texture_size))
    away = rig.projector.position - points
    reach = np.linalg.norm(away, axis=1)
    glint = 0.0
    if imaging.specular > 0:
        half = away / reach[:, None] - directions[hit]
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        glint = imaging.specular * np.clip((half * normals).sum(axis=1), 0, 1) ** imaging.gloss * (facing > 0)
    coordinate = rig.projector.coordinate(points)
    inside = (coordinate >= 0) & (coordinate < 1)
    u[hit] = np.where(inside, coordinate, 0)
    light[hit] = imaging.exposure * np.where(inside, (matt * facing + glint) * (rig.distance / reach) ** 2, 0)
    dim[hit] = imaging.exposure * imaging.ambient * matt
    return u, light, dim


@numba.njit(cache=True)
def _accumulate_block(table, u, light, dim, samples, images, begin, end):
    count = table.shape[1]
    for i in range(begin, end):
        for s in range(i * samples, (i + 1) * samples):
            at = u[s] * (table.shape[0] - 1)
            k = int(at)
            part = at - k
            for j in range(count):
                shown = table[k, j] * (1 - part) + table[k + 1, j] * part if light[s] > 0 else 0.0
                images[i, j] += (dim[s] + light[s] * shown) / samples


@numba.njit(cache=True, parallel=True)
def _accumulate(table, u, light, dim, samples, images):
    blocks = (len(images) + 2047) // 2048
    for block in numba.prange(blocks):
        _accumulate_block(
            table, u, light, dim, samples, images, block * 2048, min((block + 1) * 2048, len(images))
        )


@numba.njit(cache=True)
def _lattice(x, y, z):
    """A number in [-1, 1] that looks random, the same for the same lattice point."""
    h = (x * 374761393 + y * 668265263 + z * 2147483647 + 1013904223) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 2246822519) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 8388607.5 - 1.0


@numba.njit(cache=True)
def _noise_block(points, begin, end, out):
    for i in range(begin, end):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
        total = 0.0
        for corner in range(8):
            dx, dy, dz = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (
                (x - ix if dx else 1 - x + ix)
                * (y - iy if dy else 1 - y + iy)
                * (z - iz if dz else 1 - z + iz)
            )
            total += weight * _lattice(ix + dx, iy + dy, iz + dz)
        out[i] = total


@numba.njit(cache=True, parallel=True)
def _noise_all(points, out):
    blocks = (len(points) + 4095) // 4096
    for block in numba.prange(blocks):
        _noise_block(points, block * 4096, min((block + 1) * 4096, len(points)), out)


def _value_noise(points: np.ndarray) -> np.ndarray:
    """(n,) smooth noise in [-1, 1], trilinear between lattice points one unit apart."""
    out = np.empty(len(points))
    _noise_all(np.ascontiguousarray(points), out)
    return out
