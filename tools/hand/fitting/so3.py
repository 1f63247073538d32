"""Rotations as the fitting needs them: exponential, logarithm and their derivatives, batched in float64 NumPy.

Sola, Deray and Atchuthan, "A micro Lie theory for state estimation in robotics" (2018), equations 132 to 146. `right_jacobian` J is
that of exp(v + d) = exp(v) exp(J(v) d) to first order in d.
"""

from __future__ import annotations

import numpy as np

__all__ = ["exp", "log", "right_jacobian", "right_jacobian_inverse", "skew"]

_SMALL = 1e-3
"""Radians below which power series replace the quotients; their first left-out term is below 1e-14."""


def skew(v: np.ndarray) -> np.ndarray:
    """(..., 3) to (..., 3, 3): the matrix of "v cross"."""
    m = np.zeros((*v.shape, 3))
    m[..., 0, 1], m[..., 0, 2] = -v[..., 2], v[..., 1]
    m[..., 1, 0], m[..., 1, 2] = v[..., 2], -v[..., 0]
    m[..., 2, 0], m[..., 2, 1] = -v[..., 1], v[..., 0]
    return m


def exp(v: np.ndarray) -> np.ndarray:
    """(..., 3) to (..., 3, 3)."""
    k = skew(v)
    a, b, _ = _coefficients(v)
    return np.eye(3) + a * k + b * (k @ k)


def log(r: np.ndarray) -> np.ndarray:
    """(..., 3, 3) to (..., 3), angle at most pi. Through the quaternion, largest component first, so that it is exact near pi too."""
    t = np.trace(r, axis1=-2, axis2=-1)
    squares = np.stack((t, r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]), -1)
    which = squares.argmax(-1)
    q = np.empty((*t.shape, 4))
    cross = np.stack(
        (r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]), -1
    )
    for case in range(4):
        rows = which == case
        if not rows.any():
            continue
        m = r[rows]
        if case == 0:
            q[rows, 0], q[rows, 1:] = 1 + t[rows], cross[rows]
            continue
        a, b, c = case - 1, case % 3, (case + 1) % 3
        q[rows, 0] = cross[rows, a]
        q[rows, 1 + a] = 1 + m[:, a, a] - m[:, b, b] - m[:, c, c]
        q[rows, 1 + b] = m[:, a, b] + m[:, b, a]
        q[rows, 1 + c] = m[:, a, c] + m[:, c, a]
    q *= np.where(q[..., :1] < 0, -1.0, 1.0)
    length = np.linalg.norm(q[..., 1:], axis=-1)
    angle = 2 * np.arctan2(length, q[..., 0])
    small = length < 1e-12
    scale = np.where(small, 2 / np.where(q[..., 0] == 0, 1, q[..., 0]), angle / np.where(small, 1, length))
    return q[..., 1:] * scale[..., None]


def right_jacobian(v: np.ndarray) -> np.ndarray:
    """(..., 3) to (..., 3, 3)."""
    k = skew(v)
    _, b, c = _coefficients(v)
    return np.eye(3) - b * k + c * (k @ k)


def right_jacobian_inverse(v: np.ndarray) -> np.ndarray:
    """(..., 3) to (..., 3, 3). Singular at an angle of 2 pi."""
    k = skew(v)
    square = (v**2).sum(-1)[..., None, None]
    angle = np.sqrt(square)
    small = angle < _SMALL
    safe = np.where(small, 1.0, angle)
    c = np.where(small, 1 / 12 + square / 720, 1 / safe**2 - (1 + np.cos(safe)) / (2 * safe * np.sin(safe)))
    return np.eye(3) + 0.5 * k + c * (k @ k)


def _coefficients(v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sin t / t, (1 - cos t) / t^2 and (t - sin t) / t^3 as (..., 1, 1)."""
    square = (v**2).sum(-1)[..., None, None]
    angle = np.sqrt(square)
    small = angle < _SMALL
    safe = np.where(small, 1.0, angle)
    a = np.where(small, 1 - square / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - square / 24, 2 * np.sin(safe / 2) ** 2 / safe**2)
    c = np.where(small, 1 / 6 - square / 120, (safe - np.sin(safe)) / safe**3)
    return a, b, c
