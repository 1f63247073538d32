"""Nearest points and winding numbers in plain torch: every point against every face, in any float type."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .signed_distance import Nearest

__all__ = ["nearest"]


def nearest(points: Tensor, vertices: Tensor, faces: Tensor, batch: int = 1 << 20) -> Nearest:
    """See `signed_distance.nearest`."""
    corners = vertices[faces]
    parts = [
        _some(part, corners)
        for part in (points.split(max(1, batch // max(len(faces), 1))) if len(points) else [points])
    ]
    return Nearest(*(torch.cat(column) for column in zip(*parts)))


def _some(points: Tensor, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c = (corners[None, :, i] for i in range(3))
    p = points[:, None]
    candidates = torch.stack(
        (_inside(p, a, b, c), *(_on_edge(p, corners, i) for i in range(3))), 2
    )  # (n, f, 4, 3) barycentric
    place = (candidates[..., None] * corners[None, :, None]).sum(3)
    square = (place - p[:, :, None]).square().sum(-1)
    square = torch.where(candidates.amin(-1) >= 0, square, torch.full_like(square, math.inf))
    best = square.flatten(1).argmin(1)
    rows = torch.arange(len(points), device=points.device)
    face, kind = best // 4, best % 4
    u, v, w = a - p, b - p, c - p
    lu, lv, lw = u.norm(dim=-1), v.norm(dim=-1), w.norm(dim=-1)
    triple = (u * torch.linalg.cross(v, w.expand_as(v), dim=-1)).sum(-1)
    below = lu * lv * lw + (u * v).sum(-1) * lw + (v * w).sum(-1) * lu + (w * u).sum(-1) * lv
    winding = (2 * torch.atan2(triple, below)).sum(1) / (4 * math.pi)
    return face, candidates[rows, face, kind], winding


def _inside(p: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """(n, f, 3) barycentrics of the foot on the plane; one is negative if it lies outside or the face has no area."""
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = d00 * d11 - d01 * d01
    flat = area <= 1e-12 * d00 * d11
    safe = torch.where(flat, torch.ones_like(area), area)
    v, w = (d11 * d20 - d01 * d21) / safe, (d00 * d21 - d01 * d20) / safe
    result = torch.stack((1 - v - w, v, w), -1)
    return torch.where(flat[..., None], torch.full_like(result, -1.0), result)


def _on_edge(p: Tensor, corners: Tensor, edge: int) -> Tensor:
    """(n, f, 3) barycentrics of the nearest point on one edge."""
    a, b = corners[None, :, edge], corners[None, :, (edge + 1) % 3]
    way = b - a
    share = ((p - a) * way).sum(-1) / way.square().sum(-1).clamp_min(1e-30)
    share = share.clamp(0, 1)
    result = p.new_zeros(*share.shape, 3)
    result[..., edge] = 1 - share
    result[..., (edge + 1) % 3] = share
    return result
