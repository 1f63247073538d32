"""Skinning on the CPU: transforms are blended and applied in one pass, so blended matrices never reach memory.

Vertices are taken in blocks that stay in the first-level cache; inside a block everything runs along vertices, so the weights' columns
and the twelve sums are vector loads. With g = dL/dv', T = sum_k w_k A_k: dL/dv = T_R^T g, dL/dA_k = sum_v w_k g [v; 1]^T.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

__all__ = ["skin"]

_BLOCK = 64


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _skin_piece(task, pieces, all_vertices, all_transforms, columns, active, counts, all_out):
    """Some blocks of one body: vertices (v, 3), transforms (j, 12), columns (j, v padded)."""
    body, piece = np.int64(task) // pieces, np.int64(task) % pieces
    blocks = active.shape[0]
    first, last = piece * blocks // pieces, (piece + 1) * blocks // pieces
    vertices = all_vertices[min(body, all_vertices.shape[0] - 1)]
    transforms, out = all_transforms[body], all_out[body]
    sums = np.empty((12, _BLOCK), np.float32)
    for block in range(first, last):
        start = block * _BLOCK
        # slices from here on: an index that is a sum might be negative, and would be looked at before every load
        size = min(_BLOCK, vertices.shape[0] - start)
        sums[:] = np.float32(0)
        for place in range(counts[block]):
            joint = active[block, place]
            column, motion = columns[joint, start : start + _BLOCK], transforms[joint]
            for e in range(12):
                row, value = sums[e], motion[e]
                for i in range(_BLOCK):
                    row[i] += value * column[i]
        points, moved = vertices[start : start + size], out[start : start + size]
        for axis in range(3):
            a, b, c, d = sums[4 * axis], sums[4 * axis + 1], sums[4 * axis + 2], sums[4 * axis + 3]
            for i in range(size):
                moved[i, axis] = a[i] * points[i, 0] + b[i] * points[i, 1] + c[i] * points[i, 2] + d[i]


@njit(parallel=True, cache=True)
def _skin_all(vertices, transforms, columns, active, counts, pieces, out):
    for task in prange(transforms.shape[0] * pieces):
        _skin_piece(task, pieces, vertices, transforms, columns, active, counts, out)


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _gradient_body(
    body,
    all_vertices,
    all_transforms,
    columns,
    active,
    counts,
    all_gradient,
    all_d_vertices,
    all_d_transforms,
):
    body = np.int64(body)
    vertices = all_vertices[min(body, all_vertices.shape[0] - 1)]
    transforms, gradient = all_transforms[body], all_gradient[body]
    d_vertices, d_transforms = all_d_vertices[body], all_d_transforms[body]
    sums = np.empty((9, _BLOCK), np.float32)
    outer = np.empty((12, _BLOCK), np.float32)
    for block in range(active.shape[0]):
        start = block * _BLOCK
        size = min(_BLOCK, vertices.shape[0] - start)
        sums[:] = np.float32(0)
        outer[:] = np.float32(0)
        points, pulls = vertices[start : start + size], gradient[start : start + size]
        for axis in range(3):
            a, b, c, d = outer[4 * axis], outer[4 * axis + 1], outer[4 * axis + 2], outer[4 * axis + 3]
            for i in range(size):
                g = pulls[i, axis]
                a[i] = g * points[i, 0]
                b[i] = g * points[i, 1]
                c[i] = g * points[i, 2]
                d[i] = g
        for place in range(counts[block]):
            joint = active[block, place]
            column, motion = columns[joint, start : start + _BLOCK], transforms[joint]
            for axis in range(3):
                for other in range(3):
                    row, value = sums[3 * axis + other], motion[4 * axis + other]
                    for i in range(_BLOCK):
                        row[i] += value * column[i]
            for e in range(12):
                row, total = outer[e], np.float32(0)
                for i in range(_BLOCK):
                    total += row[i] * column[i]
                d_transforms[joint, e] += total
        turned = d_vertices[start : start + size]
        for other in range(3):
            a, b, c = sums[other], sums[3 + other], sums[6 + other]
            for i in range(size):
                turned[i, other] = a[i] * pulls[i, 0] + b[i] * pulls[i, 1] + c[i] * pulls[i, 2]


@njit(parallel=True, cache=True)
def _gradient_all(vertices, transforms, columns, active, counts, gradient, d_vertices, d_transforms):
    for body in prange(transforms.shape[0]):
        _gradient_body(
            body, vertices, transforms, columns, active, counts, gradient, d_vertices, d_transforms
        )


class _Columns:
    """Weights as the kernels read them: a row per joint, padded to whole blocks, and which joints a block has."""

    def __init__(self, weights: Tensor) -> None:
        dense = weights.detach().numpy()
        blocks = -(-len(dense) // _BLOCK)
        self.columns = np.zeros((dense.shape[1], blocks * _BLOCK), np.float32)
        self.columns[:, : len(dense)] = dense.T
        used = (self.columns != 0).reshape(dense.shape[1], blocks, _BLOCK).any(2)
        self.counts = used.sum(0).astype(np.int64)
        self.active = np.argsort(~used.T, axis=1, kind="stable").astype(np.int64)


_KNOWN: dict[int, tuple[Tensor, int, _Columns]] = {}


def _columns(weights: Tensor) -> _Columns:
    """Made once per weight tensor, as long as the tensor is neither freed nor changed in place."""
    entry = _KNOWN.get(id(weights))
    if entry is not None and entry[0] is weights and entry[1] == weights._version:
        return entry[2]
    if len(_KNOWN) >= 16:
        _KNOWN.pop(next(iter(_KNOWN)))
    columns = _Columns(weights)
    _KNOWN[id(weights)] = (weights, weights._version, columns)
    return columns


class _Skin(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, transforms, weights):
        columns = _columns(weights)
        rest = vertices.detach().contiguous().numpy()
        motion = transforms.detach().contiguous().flatten(2).numpy()
        out = np.empty((len(motion), len(weights), 3), np.float32)
        pieces = 1 if len(motion) >= 8 else min(4, columns.active.shape[0])
        _skin_all(rest, motion, columns.columns, columns.active, columns.counts, pieces, out)
        ctx.kept = rest, motion, columns
        return torch.from_numpy(out)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        rest, motion, columns = ctx.kept
        d_vertices = np.empty((len(motion), rest.shape[1], 3), np.float32)
        d_transforms = np.zeros_like(motion)
        _gradient_all(
            rest,
            motion,
            columns.columns,
            columns.active,
            columns.counts,
            gradient.contiguous().numpy(),
            d_vertices,
            d_transforms,
        )
        if len(rest) != len(motion):
            d_vertices = d_vertices.sum(0, keepdims=True)
        return torch.from_numpy(d_vertices), torch.from_numpy(d_transforms).unflatten(-1, (3, 4)), None


def skin(vertices: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """See `skinning.skin`; float32."""
    return _Skin.apply(vertices, transforms, weights)
