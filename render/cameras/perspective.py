"""Perspective lenses: the plane z = 1, with or without distortion (PINHOLE to FULL_OPENCV)."""

from __future__ import annotations

import torch
from torch import Tensor

from .distortion import distort, in_range, undistort

__all__ = ["project_perspective", "project_pinhole", "unproject_perspective", "unproject_pinhole"]


def _plane(points: Tensor) -> tuple[Tensor, Tensor]:
    """(m, 2) points divided by z, and (m,) whether they lie in front; those that do not are divided by
    one.
    """
    z = points[:, 2]
    front = z > 0
    return points[:, :2] / torch.where(front, z, 1.0)[:, None], front


def project_pinhole(
    points: Tensor,  # (m, 3) camera space
    lens: Tensor,  # (m or 1, 16)
) -> tuple[Tensor, Tensor]:  # (m, 2) pixels, (m,) bool valid
    """Differentiable with respect to both arguments. Valid: z > 0."""
    plane, front = _plane(points)
    return plane * lens[:, 0:2] + lens[:, 2:4], front


def project_perspective(
    points: Tensor,  # (m, 3) camera space
    lens: Tensor,  # (m or 1, 16)
    fold: Tensor,  # (m or 1,)
) -> tuple[Tensor, Tensor]:  # (m, 2) pixels, (m,) bool valid
    """Differentiable with respect to `points` and `lens`. Valid: z > 0 and not past the fold of the
    distortion.
    """
    plane, front = _plane(points)
    coefficients = lens[:, 4:15]
    with torch.no_grad():
        valid = front & in_range(plane, coefficients, fold)
    # past the fold the polynomial may overflow; its gradient there must not reach the others as NaN
    safe = torch.where(valid[:, None], plane, 0.0)
    return distort(safe, coefficients) * lens[:, 0:2] + lens[:, 2:4], valid


def unproject_pinhole(pixels: Tensor, lens: Tensor) -> Tensor:
    """Pixels (m, 2) and lenses (m or 1, 16) -> unit directions (m, 3)."""
    return _unit((pixels - lens[:, 2:4]) / lens[:, 0:2])


def unproject_perspective(pixels: Tensor, lens: Tensor, fold: Tensor) -> Tensor:
    """Pixels (m, 2), lenses (m or 1, 16), folds (m or 1,) -> unit directions (m, 3); NaN where there is
    none.
    """
    return _unit(undistort((pixels - lens[:, 2:4]) / lens[:, 0:2], lens[:, 4:15], fold))


def _unit(plane: Tensor) -> Tensor:
    directions = torch.cat([plane, torch.ones_like(plane[:, :1])], 1)
    return directions / directions.norm(dim=1, keepdim=True)
