"""Radial, tangential and thin-prism lens distortion of plane coordinates, and its inverse.

Brown (1966) and OpenCV's rational model, as COLMAP writes them; the formula is in `models.py`. A strong
distortion polynomial folds: past some radius points come back towards the centre and would land on pixels
that show something else. The model means nothing there, so `in_range` says where it ends and `undistort`
never returns a point beyond.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from fieldstone.core.backends import Backend, Backends

__all__ = [
    "ACCEPTED",
    "UNDISTORTION",
    "distort",
    "fold_radius",
    "in_range",
    "jacobian",
    "radial",
    "undistort",
]

ACCEPTED = 1e-11
"""Largest residual of a solution of `undistort`, relative to 1 + |target|."""

UNDISTORTION = Backends("lens undistortion")
UNDISTORTION.add(Backend("cpu", "fieldstone.render.cameras.undistortion_cpu", ("cpu",)))
UNDISTORTION.add(Backend("reference", "fieldstone.render.cameras.undistortion_reference", ("cpu", "cuda")))


def distort(
    plane: Tensor,  # (m, 2)
    coefficients: Tensor,  # (m or 1, 11) columns k1..k7, p1, p2, sx, sy of the lens table
) -> Tensor:  # (m, 2)
    """Distorted coordinates. Differentiable with respect to both arguments."""
    u, v = plane.unbind(-1)
    *_, p1, p2, sx, sy = coefficients.unbind(-1)
    s = u * u + v * v
    factor = radial(s, coefficients)[0]
    cross = 2 * u * v
    x = u * factor + p1 * cross + p2 * (s + 2 * u * u) + sx * s
    y = v * factor + p2 * cross + p1 * (s + 2 * v * v) + sy * s
    return torch.stack([x, y], -1)


def radial(s: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The radial factor and its derivative with respect to the squared radius s."""
    k1, k2, k3, k4, k5, k6, k7 = coefficients[..., :7].unbind(-1)
    above = 1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))
    above_slope = k1 + s * (2 * k2 + s * (3 * k3 + s * (4 * k4)))
    below = 1 + s * (k5 + s * (k6 + s * k7))
    below_slope = k5 + s * (2 * k6 + s * (3 * k7))
    factor = above / below
    return factor, (above_slope - factor * below_slope) / below


def jacobian(plane: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx/du, dx/dv, dy/du, dy/dv of `distort`, each (m,)."""
    u, v = plane.unbind(-1)
    *_, p1, p2, sx, sy = coefficients.unbind(-1)
    factor, slope = radial(u * u + v * v, coefficients)
    shared = 2 * (u * v * slope + p1 * u + p2 * v)
    x_u = factor + 2 * u * u * slope + 2 * p1 * v + 6 * p2 * u + 2 * sx * u
    y_v = factor + 2 * v * v * slope + 2 * p2 * u + 6 * p1 * v + 2 * sy * v
    return x_u, shared + 2 * sx * v, shared + 2 * sy * u, y_v


def fold_radius(coefficients: np.ndarray) -> float:
    """The radius at which the radial part of one lens (11,) stops growing or has a pole; infinite if it never
    does.

    The first positive root of d/dr [r N(r^2) / D(r^2)], whose numerator is N D + 2 s (N' D - N D'), s = r^2.
    """
    above = Polynomial([1.0, *coefficients[:4]])
    below = Polynomial([1.0, *coefficients[4:7]])
    growth = above * below + Polynomial([0.0, 2.0]) * (above.deriv() * below - above * below.deriv())
    nearest = 0.0
    for polynomial in (growth, below):
        # both are 1 at the axis, so in w = 1 / s they have leading coefficient 1 and roots without overflow
        roots = np.roots(polynomial.coef)
        real = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 1e-12)]
        nearest = max(nearest, real.max(initial=0.0))
    # a hair inside: on the wrong side of a pole the distorted radius has the wrong sign
    return (1 - 1e-9) / math.sqrt(nearest) if nearest else math.inf


def in_range(
    plane: Tensor,  # (m, 2)
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
) -> Tensor:  # (m,) bool
    """Whether the distortion is one to one from the axis out to each point."""
    x_u, x_v, y_u, y_v = jacobian(plane, coefficients)
    return (plane.square().sum(-1) <= fold * fold) & (x_u * y_v - x_v * y_u > 0)


def undistort(
    target: Tensor,  # (m, 2) float64 distorted coordinates
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
    *,
    backend: str = "auto",
) -> Tensor:  # (m, 2), NaN where no point in range maps to the target
    """Inverse of `distort`: the radial part by bracketed Newton in one variable, then damped Newton in two.

    Inside the fold the radial part grows, so its root is unique and the first stage finds it from anywhere;
    tangential and prism terms are small beside it, which makes that root a start from which the second stage
    converges. A point is returned only if `distort` maps it back to within 1e-11 of the target (relative to
    1 + |target|; 1e-7 pixels at a focal length of 10 000 pixels). Not differentiable.
    """
    return UNDISTORTION.load(backend, target.device.type).undistort(target, coefficients, fold)
