"""Lenses that see sideways and behind: fisheyes, FOV and the full sphere.

They project directions, never points divided by z, so angles beyond 90 degrees from the axis work.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distortion import distort, in_range, undistort

__all__ = [
    "project_equirectangular",
    "project_fisheye",
    "project_fov",
    "unproject_equirectangular",
    "unproject_fisheye",
    "unproject_fov",
]

_NEAR_AXIS = 1e-5  # tangent of the angle under which x / sin(x) is taken from its series (next term: 1e-21)


def _split(points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y (m, 2), its length kept off zero (m,), z (m,), and whether the point is on or near the axis
    (m,).
    """
    xy, z = points[:, :2], points[:, 2]
    square = xy.square().sum(1)
    near = square <= (_NEAR_AXIS * z) ** 2
    return xy, torch.where(near, 1.0, square).sqrt(), z, near


def _angle_per_length(points: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
    """atan2(stretch * rho, z) / rho with rho = |x, y|, smooth on the axis; and where it is defined (m,)."""
    xy, rho, z, near = _split(points)
    front = near & (z > 0)
    safe_z = torch.where(front, z, 1.0)
    slope = stretch / safe_z
    series = slope * (1 - (slope[:, None] * xy).square().sum(1) / 3)
    away = torch.atan2(stretch * rho, torch.where(near, 1.0, z)) / rho
    return torch.where(near, series, away), ~near | front


def project_fisheye(
    points: Tensor,  # (m, 3) camera space
    lens: Tensor,  # (m or 1, 16)
    fold: Tensor,  # (m or 1,) radians
) -> tuple[Tensor, Tensor]:  # (m, 2) pixels, (m,) bool valid
    """Kannala and Brandt (2006) with equidistant base, as OPENCV_FISHEYE and THIN_PRISM_FISHEYE use it.

    Differentiable with respect to `points` and `lens`. Valid: any direction but straight backwards, not past
    the fold.
    """
    factor, defined = _angle_per_length(points, points.new_ones(1))
    plane = points[:, :2] * factor[:, None]
    coefficients = lens[:, 4:15]
    with torch.no_grad():
        valid = defined & in_range(plane, coefficients, fold)
    safe = torch.where(valid[:, None], plane, 0.0)
    return distort(safe, coefficients) * lens[:, 0:2] + lens[:, 2:4], valid


def unproject_fisheye(pixels: Tensor, lens: Tensor, fold: Tensor) -> Tensor:
    """Pixels (m, 2), lenses (m or 1, 16), folds (m or 1,) -> unit directions (m, 3); NaN where there is
    none.
    """
    plane = undistort((pixels - lens[:, 2:4]) / lens[:, 0:2], lens[:, 4:15], fold.clamp_max(math.pi))
    angle = plane.norm(dim=1)
    return torch.cat([plane * torch.sinc(angle / math.pi)[:, None], torch.cos(angle)[:, None]], 1)


def _omega(lens: Tensor) -> Tensor:
    # the model is even in omega and tends to a pinhole as omega vanishes; 1e-9 is that limit to machine
    # precision
    return lens[:, 15].abs().clamp_min(1e-9)


def project_fov(points: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """Devernay and Faugeras (2001), equation 13: radius = atan(2 tan(omega / 2) tan(angle)) / omega.

    Points (m, 3), lenses (m or 1, 16) -> pixels (m, 2), valid (m,). Written with atan2, which continues the
    formula smoothly past 90 degrees, where COLMAP stops. Differentiable with respect to both. Valid: not
    straight backwards.
    """
    omega = _omega(lens)
    factor, defined = _angle_per_length(points, 2 * torch.tan(omega / 2))
    return points[:, :2] * (factor / omega)[:, None] * lens[:, 0:2] + lens[:, 2:4], defined


def unproject_fov(pixels: Tensor, lens: Tensor) -> Tensor:
    """Pixels (m, 2), lenses (m or 1, 16) -> unit directions (m, 3); NaN past the image of the backward
    direction.
    """
    plane = (pixels - lens[:, 2:4]) / lens[:, 0:2]
    omega = _omega(lens)
    radius = plane.norm(dim=1)
    angle = radius * omega
    # (sin / stretch, cos) has the wanted direction: its tangent is tan(angle) / stretch
    across = torch.sinc(angle / math.pi) * omega / (2 * torch.tan(omega / 2))
    directions = torch.cat([plane * across[:, None], torch.cos(angle)[:, None]], 1)
    directions = directions / directions.norm(dim=1, keepdim=True)
    return torch.where((angle < math.pi)[:, None], directions, math.nan)


def project_equirectangular(points: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """The whole sphere: longitude atan2(x, z) grows to the right, latitude atan2(-y, |x, z|) grows upwards.

    The image's centre looks along z, its left and right edges along -z, its top row along -y (up). Points (m,
    3), lenses (m or 1, 16) -> pixels (m, 2), valid (m,). Differentiable with respect to both, except at the
    poles and across the seam. Valid: any point but the camera's own centre.
    """
    x, y, z = points.unbind(1)
    flat = x * x + z * z
    pole = flat == 0
    level = torch.where(pole, 1.0, flat).sqrt()
    longitude = torch.atan2(torch.where(pole, 0.0, x), torch.where(pole, 1.0, z))
    latitude = torch.atan2(-y, torch.where(pole, torch.zeros_like(level), level))
    pixels = torch.stack([longitude, -latitude], 1) * lens[:, 0:2] + lens[:, 2:4]
    return pixels, ~(pole & (y == 0))


def unproject_equirectangular(pixels: Tensor, lens: Tensor) -> Tensor:
    """Pixels (m, 2), lenses (m or 1, 16) -> unit directions (m, 3); NaN above the top and below the bottom
    edge.
    """
    longitude, down = ((pixels - lens[:, 2:4]) / lens[:, 0:2]).unbind(1)
    level = torch.cos(down)
    directions = torch.stack([level * torch.sin(longitude), torch.sin(down), level * torch.cos(longitude)], 1)
    return torch.where((down.abs() <= math.pi / 2 * (1 + 1e-12))[:, None], directions, math.nan)
