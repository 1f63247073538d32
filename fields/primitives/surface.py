"""Distances between a primitive's surface and points, and how rough it is; batched over primitives."""

from __future__ import annotations

import torch
from torch import Tensor

from .icosphere import template

__all__ = ["chamfer", "laplacian", "surface_samples"]


def surface_samples(
    vertices: Tensor,  # (n, 42, 3)
    weights: Tensor,  # (80, k, 3) barycentrics, summing to 1
) -> Tensor:  # (n, 80 k, 3)
    """k points of every face. Differentiable with respect to vertices."""
    corners = vertices[:, template().faces.to(vertices.device)]
    return torch.einsum("fkc,nfcd->nfkd", weights, corners).flatten(1, 2)


def chamfer(
    samples: Tensor,  # (n, s, 3)
    points: Tensor,  # (n, m, 3)
    there: Tensor | None = None,  # (n, m) bool: which points count; None: all
) -> tuple[Tensor, Tensor]:  # (n,) mean distance of samples to points, (n,) of points to samples
    """Mean distances, not squared: a few far points weigh no more than they are. Differentiable with respect to samples and points.

    A set without any point that counts has distance 0 both ways.
    """
    # the pairs are found without gradients; the distances of those found are then all that needs them
    with torch.no_grad():
        pairs = torch.cdist(samples, points)
        if there is not None:
            pairs = pairs.masked_fill(~there[:, None], torch.inf)
        to_point, to_sample = pairs.argmin(2), pairs.argmin(1)
    nearest_point = points.gather(1, to_point[..., None].expand(-1, -1, 3))
    nearest_sample = samples.gather(1, to_sample[..., None].expand(-1, -1, 3))
    out = _length(samples - nearest_point).mean(1)
    back = _length(points - nearest_sample)
    if there is None:
        return out, back.mean(1)
    count = there.sum(1)
    return out * (count > 0), (back * there).sum(1) / count.clamp_min(1)


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def laplacian(vertices: Tensor) -> Tensor:  # (n, 42, 3) -> (n,)
    """Mean distance of vertices from the middle of their neighbours (uniform weights), less that of the unit sphere's at most."""
    return _length(vertices - template().neighbours.to(vertices) @ vertices).mean(1)
