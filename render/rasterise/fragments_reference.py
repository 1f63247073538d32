"""Every ray against every face, in float64: slow, and obviously right.

The test is the watertight one of Woop, Benthin and Wald (2013). Corners are taken relative to the ray's origin and sheared along
its longest axis, so that the ray becomes that axis and the question two-dimensional: with corners a, b, c in that plane the ray is
inside where the areas u = b x c, v = c x a, w = a x b have one sign, and its distance is the mean of the corners' with
these weights. The edge of two neighbours gives areas that are each other's exact negatives, and all faces round a corner see it
in the same place, so a ray through either is neither lost nor counted twice. Nothing needs clipping.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .view import View

__all__ = ["visible"]

PAIRS = 1 << 19
"""Pairs of a ray and a face looked at together."""


def visible(
    vertices: Tensor, faces: Tensor, view: View, layers: int, near: float, far: float, back_faces: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `fragments.fragments`: face (m, K) int32, barycentric (m, K, 3), distance (m, K) float32."""
    origins, directions, _ = view.rays
    face = torch.full((view.count, layers), -1, dtype=torch.int32, device=vertices.device)
    barycentric = torch.zeros(view.count, layers, 3, device=vertices.device)
    distance = torch.zeros(view.count, layers, device=vertices.device)
    if not len(faces):
        return face, barycentric, distance
    corners = vertices.double()[faces.long()]
    step = max(1, PAIRS // len(faces))
    for first in range(0, view.count, step):
        part = slice(first, first + step)
        t, weights = _meet(corners, origins[part], directions[part], near, far, back_faces)
        order = t.sort(dim=1, stable=True)  # stable: the lower face first where distances are equal
        kept = order.indices[:, :layers]
        hit = order.values[:, :layers] < math.inf
        found = min(layers, len(faces))
        face[part, :found] = torch.where(hit, kept, -1).int()
        distance[part, :found] = torch.where(hit, order.values[:, :layers], 0).float()
        chosen = weights.gather(1, kept[:, :, None].expand(-1, -1, 3))
        barycentric[part, :found] = torch.where(hit[:, :, None], chosen, 0).float()
    return face, barycentric, distance


def _meet(
    corners: Tensor,  # (f, 3, 3)
    origins: Tensor,  # (r, 3)
    directions: Tensor,  # (r, 3)
    near: float,
    far: float,
    back_faces: bool,
) -> tuple[Tensor, Tensor]:
    """Distance (r, f), infinite without a hit, and barycentrics (r, f, 3)."""
    axis = directions.abs().nan_to_num().argmax(1)  # (r,)
    axes = (axis[:, None] + torch.tensor([1, 2, 0], device=axis.device)) % 3
    along = directions.gather(1, axes)
    local = corners[None] - origins[:, None, None]  # (r, f, 3, 3)
    local = local.gather(3, axes[:, None, None].expand_as(local))
    flat = local[..., :2] - (along[:, :2] / along[:, 2:])[:, None, None] * local[..., 2:]
    x, y = flat.unbind(3)
    following, previous = [1, 2, 0], [2, 0, 1]
    area = (
        x[..., following] * y[..., previous] - y[..., following] * x[..., previous]
    )  # of the edge opposite each corner
    total = area.sum(2)
    side = total.sign()[..., None]
    # What moving the ray by (epsilon, epsilon^2) does to an area of 0: the same for both faces of an edge, with opposite signs.
    rise, run = y[..., following] - y[..., previous], x[..., previous] - x[..., following]
    owned = torch.where(rise != 0, rise * side > 0, run * side > 0)
    inside = ((area * side > 0) | ((area == 0) & owned)).all(2) & (total != 0)
    weights = area / total[..., None]
    t = (weights * local[..., 2]).sum(2) / along[:, 2:]
    hit = inside & (t > 0) & (t >= near) & (t <= far)
    if not back_faces:
        hit &= total * along[:, 2:].sign() < 0
    return torch.where(hit, t, math.inf), weights
