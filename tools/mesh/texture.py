"""A texture baked from a field."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from fieldstone.core.errors import UserError

from .atlas import Atlas, parametrise

__all__ = ["BakedTexture", "bake", "rasterise_uv"]

MANY_FACES = 200_000


@dataclass(frozen=True)
class BakedTexture:
    """A surface cut into charts and its picture."""

    atlas: Atlas
    image: np.ndarray
    """(size, size, 3) uint8 sRGB; row 0 is v = 1."""
    coverage: float
    """Share of the texels that lie on the surface."""


def bake(
    vertices: np.ndarray,  # (v, 3) source frame
    faces: np.ndarray,  # (f, 3)
    normals: np.ndarray,  # (v, 3) unit
    colour: Callable[
        [np.ndarray, np.ndarray], np.ndarray
    ],  # points (n, 3), normals (n, 3) -> (n, 3) in [0, 1]
    size: int = 2048,
    time_limit: float = 600.0,
    progress: Callable[[float], None] | None = None,
) -> BakedTexture:
    """Cuts the surface into charts, then asks `colour` once for each texel that lies on it.

    Texels beside the charts take the colour of the nearest one on them, over the whole image, so that neither
    bilinear look-ups nor smaller copies of it (mip maps) bleed the background into seams. Decimate before:
    charting grows worse than linearly, and a warning says so above 200,000 faces.
    """
    if not 64 <= int(size) <= 16384:
        raise UserError(f"texture_size {size}: give 64 to 16384 texels a side")
    if len(faces) > MANY_FACES:
        warnings.warn(
            f"texturing {len(faces)} faces may take very long; decimate to {MANY_FACES} first",
            stacklevel=2,
        )
    report = progress or (lambda share: None)
    atlas = parametrise(vertices, faces, size, time_limit, lambda share: report(0.5 * share))
    face, barycentric = rasterise_uv(atlas.uv, atlas.faces, size)
    on = face >= 0
    if not on.any():
        raise UserError(
            f"texture_size {size}: no texel lies on the surface; take a larger texture or fewer faces"
        )
    corner = atlas.source[atlas.faces[face[on]]]
    weight = barycentric[on].astype(np.float64)
    points = np.einsum("nk,nkc->nc", weight, vertices[corner])
    normal = np.einsum("nk,nkc->nc", weight, normals[corner])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    report(0.5)
    image = np.zeros((size, size, 3), np.uint8)
    image[on] = np.round(np.clip(colour(points, normal), 0, 1) * 255)
    report(1.0)
    return BakedTexture(atlas, _spread_out(image, on), float(on.mean()))


def rasterise_uv(uv: np.ndarray, faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Face of each texel, (size, size) int32, -1 where there is none, and barycentrics (size, size, 3)
    float32.

    One pass over the faces. A texel belongs to the face that holds its centre; texels whose centre is in no
    face but within one texel of one take that face with barycentrics continued past its edge (a share at
    most), so that bilinear look-ups inside a chart meet the chart's own colours only. Row 0 is v = 1, texel
    (row i, column j) has its centre at ((j + 0.5) / size, 1 - (i + 0.5) / size).
    """
    places = np.column_stack([uv[:, 0] * size, (1 - uv[:, 1]) * size])
    face = np.full((size, size), -1, np.int32)
    barycentric = np.zeros((size, size, 3), np.float32)
    outside = np.full((size, size), np.inf, np.float32)
    _rasterise(np.ascontiguousarray(places), np.ascontiguousarray(faces), face, barycentric, outside)
    return face, barycentric


@numba.njit(cache=True)
def _rasterise(places, faces, face, barycentric, outside):
    size = face.shape[0]
    weight = np.empty(3)
    height = np.empty(3)
    for f in range(len(faces)):
        a, b, c = places[faces[f, 0]], places[faces[f, 1]], places[faces[f, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if abs(area) < 1e-12:
            continue
        # Texels from an edge = the opposite corner's barycentric times the triangle's height over that edge.
        height[0] = abs(area) / max(np.hypot(c[0] - b[0], c[1] - b[1]), 1e-12)
        height[1] = abs(area) / max(np.hypot(a[0] - c[0], a[1] - c[1]), 1e-12)
        height[2] = abs(area) / max(np.hypot(b[0] - a[0], b[1] - a[1]), 1e-12)
        left = max(int(np.floor(min(a[0], b[0], c[0]) - 1.5)), 0)
        right = min(int(np.ceil(max(a[0], b[0], c[0]) + 1.5)), size)
        top = max(int(np.floor(min(a[1], b[1], c[1]) - 1.5)), 0)
        bottom = min(int(np.ceil(max(a[1], b[1], c[1]) + 1.5)), size)
        for row in range(top, bottom):
            y = row + 0.5
            for column in range(left, right):
                x = column + 0.5
                weight[0] = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                weight[1] = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                weight[2] = 1 - weight[0] - weight[1]
                beyond = 0.0
                for k in range(3):
                    beyond = max(beyond, -weight[k] * height[k])
                if beyond > 1.0 or beyond >= outside[row, column]:
                    continue
                total = 0.0
                for k in range(3):  # without this, slivers would be continued far past their ends
                    weight[k] = max(weight[k], -1.0)
                    total += weight[k]  # at least 1, as the three summed to 1 before
                outside[row, column] = beyond
                face[row, column] = f
                for k in range(3):
                    barycentric[row, column, k] = weight[k] / total


def _spread_out(image: np.ndarray, on: np.ndarray) -> np.ndarray:
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~on, return_distances=False, return_indices=True)
    return image[rows, columns]
