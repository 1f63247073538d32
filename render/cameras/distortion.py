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

__all__ = ["distort", "fold_radius", "in_range", "undistort"]

_ACCEPTED = 1e-11  # largest residual of a solution, relative to 1 + |target|: 1e-7 pixels at f = 10 000
_NEWTON_STEPS = 40


def distort(
    plane: Tensor,  # (m, 2)
    coefficients: Tensor,  # (m or 1, 11) columns k1..k7, p1, p2, sx, sy of the lens table
) -> Tensor:  # (m, 2)
    """Distorted coordinates. Differentiable with respect to both arguments."""
    u, v = plane.unbind(-1)
    *_, p1, p2, sx, sy = coefficients.unbind(-1)
    s = u * u + v * v
    radial = _radial(s, coefficients)[0]
    cross = 2 * u * v
    x = u * radial + p1 * cross + p2 * (s + 2 * u * u) + sx * s
    y = v * radial + p2 * cross + p1 * (s + 2 * v * v) + sy * s
    return torch.stack([x, y], -1)


def _radial(s: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The radial factor and its derivative with respect to the squared radius s."""
    k1, k2, k3, k4, k5, k6, k7 = coefficients[..., :7].unbind(-1)
    above = 1 + s * (k1 + s * (k2 + s * (k3 + s * k4)))
    above_slope = k1 + s * (2 * k2 + s * (3 * k3 + s * (4 * k4)))
    below = 1 + s * (k5 + s * (k6 + s * k7))
    below_slope = k5 + s * (2 * k6 + s * (3 * k7))
    factor = above / below
    return factor, (above_slope - factor * below_slope) / below


def _jacobian(plane: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx/du, dx/dv, dy/du, dy/dv of `distort`, each (m,)."""
    u, v = plane.unbind(-1)
    *_, p1, p2, sx, sy = coefficients.unbind(-1)
    radial, slope = _radial(u * u + v * v, coefficients)
    shared = 2 * (u * v * slope + p1 * u + p2 * v)
    x_u = radial + 2 * u * u * slope + 2 * p1 * v + 6 * p2 * u + 2 * sx * u
    y_v = radial + 2 * v * v * slope + 2 * p2 * u + 6 * p1 * v + 2 * sy * v
    return x_u, shared + 2 * sx * v, shared + 2 * sy * u, y_v


def fold_radius(coefficients: np.ndarray) -> float:
    """The radius at which the radial part of one lens (11,) stops growing or has a pole; infinite if it never
    does.

    The first positive root of d/dr [r N(r^2) / D(r^2)], whose numerator is N D + 2 s (N' D - N D'), s = r^2.
    """
    above = Polynomial([1.0, *coefficients[:4]])
    below = Polynomial([1.0, *coefficients[4:7]])
    growth = above * below + Polynomial([0.0, 2.0]) * (above.deriv() * below - above * below.deriv())
    smallest = math.inf
    for polynomial in (growth, below):
        roots = polynomial.trim().roots()
        real = roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)]
        smallest = min(smallest, real.min(initial=math.inf))
    return math.sqrt(smallest)


def in_range(
    plane: Tensor,  # (m, 2)
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
) -> Tensor:  # (m,) bool
    """Whether the distortion is one to one from the axis out to each point."""
    x_u, x_v, y_u, y_v = _jacobian(plane, coefficients)
    return (plane.square().sum(-1) <= fold * fold) & (x_u * y_v - x_v * y_u > 0)


@torch.no_grad()
def undistort(
    target: Tensor,  # (m, 2) float64 distorted coordinates
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
) -> Tensor:  # (m, 2), NaN where no point in range maps to the target
    """Inverse of `distort`: the radial part by bracketed Newton in one variable, then damped Newton in two.

    Inside the fold the radial part grows, so its root is unique and the first stage finds it from anywhere;
    tangential and prism terms are small beside it, which makes that root a start from which the second stage
    converges.
    """
    coefficients = coefficients.expand(len(target), -1)
    fold = fold.expand(len(target))
    goal = target.norm(dim=-1)
    direction = target / goal.clamp_min(torch.finfo(target.dtype).tiny)[:, None]
    point = direction * _undistorted_radius(goal, coefficients, fold)[:, None]

    scale = 1 + goal
    residual = target - distort(point, coefficients)
    error = residual.norm(dim=-1)
    rows = torch.nonzero(error > 0)[:, 0]
    for _ in range(_NEWTON_STEPS):
        if len(rows) == 0:
            break
        here, c, rest = point[rows], coefficients[rows], residual[rows]
        x_u, x_v, y_u, y_v = _jacobian(here, c)
        determinant = x_u * y_v - x_v * y_u
        step = torch.stack([y_v * rest[:, 0] - x_v * rest[:, 1], x_u * rest[:, 1] - y_u * rest[:, 0]], -1)
        step = step / determinant[:, None]
        step = torch.where(step.isfinite(), step, 0.0)
        taken = torch.zeros_like(determinant, dtype=torch.bool)
        for halving in range(6):
            trial = torch.where(taken[:, None], here, here + step * 0.5**halving)
            trial_residual = target[rows] - distort(trial, c)
            better = ~taken & (trial_residual.norm(dim=-1) < error[rows])
            picked = rows[better]
            point[picked], residual[picked] = trial[better], trial_residual[better]
            error[picked] = trial_residual[better].norm(dim=-1)
            taken |= better
            # a point that is already as exact as the arithmetic allows cannot improve, and need not
            if bool((taken | (error[rows] <= 1e-15 * scale[rows])).all()):
                break
        rows = rows[taken & (error[rows] > 1e-16 * scale[rows])]
    found = (error <= _ACCEPTED * scale) & in_range(point, coefficients, fold)
    return torch.where(found[:, None], point, math.nan)


def _undistorted_radius(goal: Tensor, coefficients: Tensor, fold: Tensor) -> Tensor:
    """(m,) r in [0, fold] with r * radial(r^2) = goal, or the nearest such r where the goal is out of
    reach.
    """

    def distorted(radius: Tensor) -> tuple[Tensor, Tensor]:
        s = radius * radius
        factor, slope = _radial(s, coefficients)
        return radius * factor, factor + 2 * s * slope

    low = torch.zeros_like(goal)
    high = torch.minimum(fold, 2 * goal + 1)
    for _ in range(30):
        short = (distorted(high)[0] < goal) & (high < fold)
        if not bool(short.any()):
            break
        high = torch.where(short, torch.minimum(fold, 4 * high), high)
    radius = torch.minimum(goal, high)
    for _ in range(60):
        value, slope = distorted(radius)
        too_far = value > goal
        low, high = torch.where(too_far, low, radius), torch.where(too_far, radius, high)
        newton = radius + (goal - value) / slope
        inside = (newton >= low) & (newton <= high)
        moved = torch.where(inside, newton, 0.5 * (low + high))
        still = (moved - radius).abs() <= 1e-9 * (1 + radius)
        radius = moved
        if bool(still.all()):
            break
    return radius
