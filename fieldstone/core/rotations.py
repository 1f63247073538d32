"""Rotations as axis-angle, quaternion, six numbers and matrix, in torch: batched, any float dtype, twice differentiable.

Conventions: matrices act on columns (y = R x); quaternions are (w, x, y, z) of unit length and act as R(q) = R(-q); an
axis-angle vector is the unit axis times the angle in radians; six numbers are the first two *columns* of R, one after
the other (Zhou et al. 2019, section 4.2; PyTorch3D takes the first two rows: transpose to convert).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = [
    "ROTATION_FORMATS",
    "axis_angle_to_matrix",
    "axis_angle_to_quaternion",
    "euler_to_matrix",
    "matrix_to_axis_angle",
    "matrix_to_euler",
    "matrix_to_quaternion",
    "matrix_to_six",
    "nearest_rotation",
    "quaternion_to_axis_angle",
    "quaternion_to_matrix",
    "rotation_angle",
    "six_to_matrix",
    "skew",
    "to_matrix",
]


def skew(
    vectors: Tensor,  # (..., 3)
) -> Tensor:  # (..., 3, 3)
    """The matrix K with K x = vector cross x."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


def axis_angle_to_matrix(
    vectors: Tensor,  # (..., 3) radians
) -> Tensor:  # (..., 3, 3)
    """Rodrigues' formula R = cos(t) I + a K + b v v^T with a = sin(t) / t, b = (1 - cos(t)) / t^2.

    a and b are power series in t^2 near zero, so value and gradients are exact there; b is written 2 sin^2(t/2) / t^2, which
    does not cancel. Differentiable everywhere.
    """
    square = vectors.square().sum(-1)
    small = square < 1e-2
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    half = torch.sin(angle / 2)
    # five terms: the first one left out is below 1e-19 of the value at the threshold
    a = torch.where(small, _series(square, (1, 6, 120, 5040, 362880, 39916800)), torch.sin(angle) / angle)
    b = torch.where(small, _series(square, (2, 24, 720, 40320, 3628800, 479001600)), 2 * half * half / safe)
    cosine = 1 - b * square
    x, y, z = vectors.unbind(-1)
    ax, ay, az = a * x, a * y, a * z
    bx, by, bz = b * x, b * y, b * z
    rows = (
        cosine + bx * x, bx * y - az, bx * z + ay,
        bx * y + az, cosine + by * y, by * z - ax,
        bx * z - ay, by * z + ax, cosine + bz * z,
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def axis_angle_to_quaternion(
    vectors: Tensor,  # (..., 3) radians
) -> Tensor:  # (..., 4) w, x, y, z
    """q = (cos(t/2), sin(t/2) / t * vector). Differentiable everywhere."""
    square = vectors.square().sum(-1, keepdim=True)
    small = square < 1e-2
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    quarter = square / 4
    scale = torch.where(
        small, _series(quarter, (1, 6, 120, 5040, 362880, 39916800)) / 2, torch.sin(angle / 2) / angle
    )
    real = torch.where(
        small, _series(quarter, (1, 2, 24, 720, 40320, 3628800, 479001600)), torch.cos(angle / 2)
    )
    return torch.cat((real, scale * vectors), -1)


def quaternion_to_axis_angle(
    quaternions: Tensor,  # (..., 4) w, x, y, z of any length above zero
) -> Tensor:  # (..., 3), angle at most pi
    """The shortest rotation vector. Differentiable except at an angle of pi."""
    quaternions = torch.where(quaternions[..., :1] < 0, -quaternions, quaternions)
    real, imaginary = quaternions[..., :1], quaternions[..., 1:]
    square = imaginary.square().sum(-1, keepdim=True)
    ratio = square / real.square().clamp_min(torch.finfo(real.dtype).tiny)
    small = ratio < 1e-3
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    near = torch.where(small, ratio, torch.zeros_like(ratio))
    series = 1 - near / 3 + near**2 / 5 - near**3 / 7 + near**4 / 9 - near**5 / 11
    safe_real = torch.where(small, real, torch.ones_like(real))
    scale = torch.where(small, 2 * series / safe_real, 2 * torch.atan2(length, real) / length)
    return scale * imaginary


def quaternion_to_matrix(
    quaternions: Tensor,  # (..., 4) w, x, y, z of any length above zero
) -> Tensor:  # (..., 3, 3)
    """The rotation of the normalised quaternion. Differentiable."""
    w, x, y, z = quaternions.unbind(-1)
    s = 2 / quaternions.square().sum(-1)
    rows = (
        1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y),
        s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x),
        s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(
    matrices: Tensor,  # (..., 3, 3) rotations
) -> Tensor:  # (..., 4) w, x, y, z with w >= 0
    """Takes the largest of the four components first (Shepperd 1978), so no division is by a small number. Differentiable."""
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    x_, y_, z_ = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    ww = 1 + xx + yy + zz
    ii, jj, kk = 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz
    # row i is 4 q_i q: each is the quaternion times a factor
    rows = torch.stack(
        (
            torch.stack((ww, x_, y_, z_), -1),
            torch.stack((x_, ii, xy, xz), -1),
            torch.stack((y_, xy, jj, yz), -1),
            torch.stack((z_, xz, yz, kk), -1),
        ),
        -2,
    )
    best = torch.stack((ww, ii, jj, kk), -1).argmax(-1)
    row = torch.gather(rows, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = row / row.square().sum(-1, keepdim=True).sqrt()
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_to_axis_angle(
    matrices: Tensor,  # (..., 3, 3) rotations
) -> Tensor:  # (..., 3), angle at most pi
    """The logarithm of a rotation. Differentiable except at an angle of pi."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrices))


def six_to_matrix(
    six: Tensor,  # (..., 6)
) -> Tensor:  # (..., 3, 3)
    """Gram-Schmidt of two columns (Zhou et al. 2019, equation B); differentiable where they are not parallel."""
    first, second = six[..., :3], six[..., 3:]
    x = torch.nn.functional.normalize(first, dim=-1, eps=1e-12)
    y = second - (x * second).sum(-1, keepdim=True) * x
    y = torch.nn.functional.normalize(y, dim=-1, eps=1e-12)
    return torch.stack((x, y, torch.linalg.cross(x, y, dim=-1)), -1)


def matrix_to_six(
    matrices: Tensor,  # (..., 3, 3)
) -> Tensor:  # (..., 6)
    """The first two columns, one after the other."""
    return torch.cat((matrices[..., 0], matrices[..., 1]), -1)


def nearest_rotation(
    matrices: Tensor,  # (..., 3, 3)
) -> Tensor:  # (..., 3, 3)
    """The rotation nearest in the Frobenius norm, by singular values (Kabsch 1976). For data; its gradient explodes where
    singular values coincide.
    """
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.ones_like(matrices[..., 0])
    sign[..., 2] = torch.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt


def rotation_angle(
    first: Tensor,  # (..., 3, 3)
    second: Tensor,  # (..., 3, 3)
) -> Tensor:  # (...,) radians in [0, pi]
    """The angle between two rotations, accurate for small ones (from |R1 - R2|, not from an arc cosine)."""
    chord = (first - second).square().sum((-2, -1)).sqrt() / math.sqrt(8.0)
    return 2 * torch.asin(chord.clamp(max=1.0))


def euler_to_matrix(
    angles: Tensor,  # (..., n) radians, in the order of `axes`
    axes: str = "xyz",
) -> Tensor:  # (..., 3, 3)
    """The product of rotations about the named axes, intrinsic: "xyz" is R_x(a) R_y(b) R_z(c). Differentiable."""
    result = None
    for index, axis in enumerate(axes.lower()):
        vector = torch.zeros(*angles.shape[:-1], 3, dtype=angles.dtype, device=angles.device)
        unit = torch.tensor([float(axis == name) for name in "xyz"], dtype=angles.dtype, device=angles.device)
        turn = axis_angle_to_matrix(vector + angles[..., index, None] * unit)
        result = turn if result is None else result @ turn
    return result


def matrix_to_euler(
    matrices: Tensor,  # (..., 3, 3)
    axes: str = "xyz",
) -> Tensor:  # (..., 3) radians
    """Inverse of `euler_to_matrix` for three different axes; the middle angle lies in [-pi/2, pi/2].

    At its ends (gimbal lock) the third angle is set to 0. Differentiable elsewhere.
    """
    i, j, k = ("xyz".index(axis) for axis in axes.lower())
    if len({i, j, k}) != 3:
        raise ValueError(f"axes {axes!r}: need three different ones")
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    sine = (sign * matrices[..., i, k]).clamp(-1, 1)
    locked = sine.abs() > 1 - 4 * torch.finfo(matrices.dtype).eps
    middle = torch.where(
        locked,
        sine.sign() * (math.pi / 2),
        torch.asin(torch.where(locked, torch.zeros_like(sine), sine)),
    )
    first = torch.atan2(-sign * matrices[..., j, k], matrices[..., k, k])
    third = torch.atan2(-sign * matrices[..., i, j], matrices[..., i, i])
    first_locked = torch.atan2(sign * matrices[..., k, j], matrices[..., j, j])
    return torch.stack(
        (
            torch.where(locked, first_locked, first),
            middle,
            torch.where(locked, torch.zeros_like(third), third),
        ),
        -1,
    )


ROTATION_FORMATS: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {
    "axis_angle": ((3,), axis_angle_to_matrix),
    "quaternion": ((4,), quaternion_to_matrix),
    "6d": ((6,), six_to_matrix),
    "matrix": ((3, 3), lambda matrices: matrices),
}
"""Name -> (shape of one rotation, conversion to a matrix)."""


def to_matrix(
    rotations: Tensor,  # (..., 3), (..., 4), (..., 6) or (..., 3, 3), as the format says
    name: str,
) -> Tensor:  # (..., 3, 3)
    """Rotations in the named format of `ROTATION_FORMATS` as matrices. Raises KeyError for an unknown name."""
    return ROTATION_FORMATS[name][1](rotations)


def _series(square: Tensor, factorials: tuple[int, ...]) -> Tensor:
    """sum of (-1)^k square^k / factorials[k]."""
    result = torch.zeros_like(square)
    for index in reversed(range(len(factorials))):
        result = result * square + (-1) ** index / factorials[index]
    return result
