"""A mesh is checked before it is believed."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["check_mesh"]


@njit(cache=True)
def _faces_of_chunk(vertices, faces, first, last, facts):
    """facts: first face with an index out of range (or -1), faces without area."""
    count = len(vertices)
    facts[0] = -1
    flat = 0
    for f in range(first, last):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        if min(i, j, k) < 0 or max(i, j, k) >= count:
            facts[0] = f
            break
        x1 = np.float64(vertices[j, 0]) - vertices[i, 0]
        y1 = np.float64(vertices[j, 1]) - vertices[i, 1]
        z1 = np.float64(vertices[j, 2]) - vertices[i, 2]
        x2 = np.float64(vertices[k, 0]) - vertices[i, 0]
        y2 = np.float64(vertices[k, 1]) - vertices[i, 1]
        z2 = np.float64(vertices[k, 2]) - vertices[i, 2]
        if y1 * z2 == z1 * y2 and z1 * x2 == x1 * z2 and x1 * y2 == y1 * x2:
            flat += 1
    facts[1] = flat


@njit(parallel=True, cache=True)
def _scan(vertices, faces, facts):
    chunks = len(facts)
    for c in prange(chunks):
        _faces_of_chunk(vertices, faces, len(faces) * c // chunks, len(faces) * (c + 1) // chunks, facts[c])


def check_mesh(vertices: Tensor, faces: Tensor) -> None:
    """Raises UserError for wrong shapes, vertices that are not finite and indices out of range, naming the first; warns with a
    count of faces without area (two corners in one place, or three on a line), which no ray can hit.
    """
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not vertices.is_floating_point():
        raise UserError(
            f"mesh: vertices of shape {tuple(vertices.shape)} {vertices.dtype}; give (v, 3) floats"
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype not in (torch.int32, torch.int64):
        raise UserError(
            f"mesh: faces of shape {tuple(faces.shape)} {faces.dtype}; give (f, 3) int32 or int64"
        )
    if len(faces) >= 1 << 31:
        raise UserError(f"mesh: {len(faces)} faces; more than 2^31 cannot be numbered: split the mesh")
    vertices = vertices.detach()
    if not bool(torch.isfinite(vertices.sum())):  # overflow of a finite sum is told apart below
        bad = torch.nonzero(~torch.isfinite(vertices).all(1))[:, 0]
        if len(bad):
            where = vertices[bad[0]].tolist()
            raise UserError(
                f"mesh: {len(bad)} of {len(vertices)} vertices are not finite, the first is vertex {int(bad[0])} at {where}; "
                "remove them or mend what made them"
            )
    if not len(faces):
        return
    if vertices.device.type == "cpu":
        facts = np.empty((max(1, min(get_num_threads(), len(faces) // 4096)), 2), np.int64)
        _scan(vertices.numpy(), faces.numpy(), facts)
        wrong = facts[facts[:, 0] >= 0, 0]
        first, flat = int(wrong[0]) if len(wrong) else -1, int(facts[:, 1].sum())
    else:
        outside = ((faces < 0) | (faces >= len(vertices))).any(1)
        first = int(outside.int().argmax()) if bool(outside.any()) else -1
        flat = 0 if first >= 0 else _flat_faces(vertices, faces)
    if first >= 0:
        raise UserError(
            f"mesh: face {first} has the corners {faces[first].tolist()}, but there are {len(vertices)} vertices (0 to {len(vertices) - 1})"
        )
    if flat:
        warnings.warn(f"mesh: {flat} of {len(faces)} faces have no area; no ray hits them", stacklevel=3)


def _flat_faces(vertices: Tensor, faces: Tensor) -> int:
    a, b, c = vertices.double()[faces.long()].unbind(1)
    return int((torch.linalg.cross(b - a, c - a) == 0).all(1).sum())
