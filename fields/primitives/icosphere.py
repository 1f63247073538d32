"""The mesh that every primitive is a deformation of: an icosahedron subdivided once (Lu, Xu et al. 2023, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

__all__ = ["Template", "template"]


@dataclass(frozen=True, eq=False)
class Template:
    """The unit sphere with 42 vertices, 80 faces and 120 edges."""

    vertices: Tensor
    """(42, 3) float32 unit."""
    faces: Tensor
    """(80, 3) int64, counter-clockwise from outside."""
    edges: Tensor
    """(120, 2) int64, the lower vertex first."""
    neighbours: Tensor
    """(42, 42) float32: a row averages the vertices that share an edge with its own."""


@cache
def template() -> Template:
    """Built here rather than by a library, because the decoder's weights hang on the order of vertices."""
    golden = (1 + 5**0.5) / 2
    one = [(-1, 1), (1, 1), (-1, -1), (1, -1)]  # three golden rectangles, in the order of the faces below
    corners = [(a, b * golden, 0) for a, b in one] + [(0, a, b * golden) for a, b in one]
    corners += [(a * golden, 0, b) for b, a in one]
    coarse = [
        (0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8),
        (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1),
    ]  # fmt: skip
    points = [np.array(corner, float) for corner in corners]
    middles: dict[tuple[int, int], int] = {}

    def middle(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in middles:
            middles[key] = len(points)
            points.append((points[a] + points[b]) / 2)
        return middles[key]

    faces = []
    for a, b, c in coarse:
        ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
        faces += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    vertices = np.stack(points)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    faces = np.array(faces)
    edges = np.unique(
        np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1), axis=0
    )
    around = np.zeros((len(vertices), len(vertices)))
    around[edges[:, 0], edges[:, 1]] = around[edges[:, 1], edges[:, 0]] = 1
    around /= around.sum(1, keepdims=True)
    return Template(
        torch.from_numpy(vertices).float(),
        torch.from_numpy(faces),
        torch.from_numpy(edges),
        torch.from_numpy(around).float(),
    )
