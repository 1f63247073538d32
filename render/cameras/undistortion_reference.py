"""Removing lens distortion in plain torch, on any device: the reference of `undistortion_cpu`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distortion import ACCEPTED, distort, in_range, jacobian, radial

__all__ = ["undistort"]

_NEWTON_STEPS = 40


@torch.no_grad()
def undistort(
    target: Tensor,  # (m, 2) float64 distorted coordinates
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
) -> Tensor:  # (m, 2), NaN where no point in range maps to the target
    """See `distortion.undistort`."""
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
        x_u, x_v, y_u, y_v = jacobian(here, c)
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
    found = (error <= ACCEPTED * scale) & in_range(point, coefficients, fold)
    return torch.where(found[:, None], point, math.nan)


def _undistorted_radius(goal: Tensor, coefficients: Tensor, fold: Tensor) -> Tensor:
    """(m,) r in [0, fold] with r * radial(r^2) = goal, or the nearest such r where the goal is out of
    reach.
    """

    def distorted(radius: Tensor) -> tuple[Tensor, Tensor]:
        s = radius * radius
        factor, slope = radial(s, coefficients)
        return radius * factor, factor + 2 * s * slope

    low = torch.zeros_like(goal)
    high = torch.minimum(fold, 2 * goal + 1)
    for _ in range(30):
        short = (distorted(high)[0] < goal) & (high < fold)
        if not bool(short.any()):
            break
        high = torch.where(short, torch.minimum(fold, 4 * high), high)
    radius = torch.where(goal < high, goal, 0.5 * high)
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
