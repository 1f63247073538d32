"""Removing lens distortion on the CPU, a pixel at a time: the algorithm of `undistortion_reference`."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from .distortion import ACCEPTED

__all__ = ["undistort"]


@njit(cache=True, error_model="numpy")
def _radial(s, c):
    above = 1 + s * (c[0] + s * (c[1] + s * (c[2] + s * c[3])))
    above_slope = c[0] + s * (2 * c[1] + s * (3 * c[2] + s * (4 * c[3])))
    below = 1 + s * (c[4] + s * (c[5] + s * c[6]))
    below_slope = c[4] + s * (2 * c[5] + s * (3 * c[6]))
    factor = above / below
    return factor, (above_slope - factor * below_slope) / below


@njit(cache=True, error_model="numpy")
def _residual(x, y, u, v, c):
    s = u * u + v * v
    factor, _ = _radial(s, c)
    cross = 2 * u * v
    return (
        x - (u * factor + c[7] * cross + c[8] * (s + 2 * u * u) + c[9] * s),
        y - (v * factor + c[8] * cross + c[7] * (s + 2 * v * v) + c[10] * s),
    )


@njit(cache=True, error_model="numpy")
def _jacobian(u, v, c):
    factor, slope = _radial(u * u + v * v, c)
    shared = 2 * (u * v * slope + c[7] * u + c[8] * v)
    x_u = factor + 2 * u * u * slope + 2 * c[7] * v + 6 * c[8] * u + 2 * c[9] * u
    y_v = factor + 2 * v * v * slope + 2 * c[8] * u + 6 * c[7] * v + 2 * c[10] * v
    return x_u, shared + 2 * c[9] * v, shared + 2 * c[10] * u, y_v


@njit(cache=True, error_model="numpy")
def _undistorted_radius(goal, c, fold):
    low = 0.0
    high = min(fold, 2 * goal + 1)
    for _ in range(30):
        if high >= fold or high * _radial(high * high, c)[0] >= goal:
            break
        high = min(fold, 4 * high)
    radius = goal if goal < high else 0.5 * high
    for _ in range(60):
        factor, slope = _radial(radius * radius, c)
        value = radius * factor
        if value > goal:
            high = radius
        else:
            low = radius
        moved = radius + (goal - value) / (factor + 2 * radius * radius * slope)
        if not (moved >= low and moved <= high):
            moved = 0.5 * (low + high)
        still = abs(moved - radius) <= 1e-9 * (1 + radius)
        radius = moved
        if still:
            break
    return radius


@njit(cache=True, error_model="numpy")
def _solve(x, y, c, fold):
    goal = math.sqrt(x * x + y * y)
    scale = 1 + goal
    u, v = x, y
    if goal > 0:
        ratio = _undistorted_radius(goal, c, fold) / goal
        u, v = x * ratio, y * ratio
    rest_x, rest_y = _residual(x, y, u, v, c)
    error = math.sqrt(rest_x * rest_x + rest_y * rest_y)
    for _ in range(40):
        if error <= 1e-16 * scale:
            break
        x_u, x_v, y_u, y_v = _jacobian(u, v, c)
        determinant = x_u * y_v - x_v * y_u
        step_u = (y_v * rest_x - x_v * rest_y) / determinant
        step_v = (x_u * rest_y - y_u * rest_x) / determinant
        better = False
        for _halving in range(6):
            trial_x, trial_y = _residual(x, y, u + step_u, v + step_v, c)
            trial_error = math.sqrt(trial_x * trial_x + trial_y * trial_y)
            if trial_error < error:
                u, v = u + step_u, v + step_v
                rest_x, rest_y, error = trial_x, trial_y, trial_error
                better = True
                break
            if error <= 1e-15 * scale:
                break
            step_u, step_v = 0.5 * step_u, 0.5 * step_v
        if not better:
            break
    x_u, x_v, y_u, y_v = _jacobian(u, v, c)
    if error <= ACCEPTED * scale and u * u + v * v <= fold * fold and x_u * y_v - x_v * y_u > 0:
        return u, v
    return math.nan, math.nan


@njit(cache=True, parallel=True, error_model="numpy")
def _solve_all(target, coefficients, fold, out):
    per_row = len(coefficients) > 1
    for i in prange(len(target)):
        lens = np.int64(i) if per_row else 0  # prange counts unsigned
        out[i, 0], out[i, 1] = _solve(target[i, 0], target[i, 1], coefficients[lens], fold[lens])


def undistort(
    target: Tensor,  # (m, 2) float64 distorted coordinates
    coefficients: Tensor,  # (m or 1, 11)
    fold: Tensor,  # (m or 1,)
) -> Tensor:  # (m, 2), NaN where no point in range maps to the target
    """See `distortion.undistort`."""
    target = target.detach().contiguous()
    out = torch.empty_like(target)
    arrays = (target, coefficients.detach().contiguous(), fold.detach().contiguous(), out)
    _solve_all(*(array.numpy() for array in arrays))
    return out
