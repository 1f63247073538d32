"""Real spherical harmonics of directions, in tiny-cuda-nn's order and signs.

Index l^2 + l + m holds degree l, order m = -l .. l, orthonormal over the sphere. The sign is (-1)^m of the Condon-Shortley
phase left in: band 1 is (-y, z, -x) * sqrt(3 / 4 pi). nerfstudio's torch version has other signs, so weights behind it do
not interchange. tiny-cuda-nn's encoding takes (direction + 1) / 2 and undoes that; here unit vectors come as they are.

The polynomials are those of Sloan, "Stupid Spherical Harmonics Tricks" (2008), appendix A2, with x^2 + y^2 + z^2 = 1 used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

__all__ = ["spherical_harmonics"]

_ROOT_PI = math.sqrt(math.pi)
_L0 = 1 / (2 * _ROOT_PI)
_L1 = math.sqrt(3) / (2 * _ROOT_PI)
_L2 = math.sqrt(15) / (2 * _ROOT_PI)
_L2_ZONAL = math.sqrt(5) / (4 * _ROOT_PI)
_L3_SECTORAL = math.sqrt(70) / (8 * _ROOT_PI)
_L3_M2 = math.sqrt(105) / (2 * _ROOT_PI)
_L3_M1 = math.sqrt(42) / (8 * _ROOT_PI)
_L3_ZONAL = math.sqrt(7) / (4 * _ROOT_PI)


def spherical_harmonics(
    directions: Tensor,  # (n, 3) unit; not normalised here
    degree: int = 4,  # number of bands, 1 to 4: the highest degree l plus one, as tiny-cuda-nn counts
) -> Tensor:  # (n, degree^2), a transposed view of feature-major storage
    """The first degree^2 functions. Any float dtype; differentiable with respect to directions, as polynomials in x, y, z.

    Raises `UserError` for another degree, `ValueError` for directions of another shape.
    """
    if degree not in (1, 2, 3, 4):
        raise UserError(f"spherical harmonics: degree must be 1, 2, 3 or 4, got {degree!r}")
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"spherical harmonics: expected directions (n, 3), got {tuple(directions.shape)}")
    x, y, z = directions.t().contiguous().unbind(0)
    values = [torch.full_like(x, _L0)]
    if degree > 1:
        values += [-_L1 * y, _L1 * z, -_L1 * x]
    if degree > 2:
        xx, yy, zz = x * x, y * y, z * z
        values += [
            _L2 * x * y,
            -_L2 * y * z,
            _L2_ZONAL * (3 * zz - 1),
            -_L2 * x * z,
            _L2 / 2 * (xx - yy),
        ]
    if degree > 3:
        values += [
            _L3_SECTORAL * y * (yy - 3 * xx),
            _L3_M2 * x * y * z,
            _L3_M1 * y * (1 - 5 * zz),
            _L3_ZONAL * z * (5 * zz - 3),
            _L3_M1 * x * (1 - 5 * zz),
            _L3_M2 / 2 * z * (xx - yy),
            _L3_SECTORAL * x * (3 * yy - xx),
        ]
    return torch.stack(values).t()
