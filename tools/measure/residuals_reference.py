"""Residuals and Jacobians of the primitives in plain NumPy: the judge of `residuals_cpu`."""

from __future__ import annotations

import numpy as np

from .frame import Frame
from .primitives import Primitive

__all__ = ["jacobian", "normal_equations", "residuals"]


def residuals(primitive: Primitive, points: np.ndarray, frame: Frame) -> np.ndarray:
    """(n, dimensions): signed distances as in `primitives`, positive outside (above, for a plane)."""
    x, y, z = frame.local(points).T
    rho = np.hypot(x, y)
    s0, s1 = frame.sizes
    match primitive.name:
        case "line":
            return np.stack([x, y], axis=1)
        case "plane":
            return z[:, None]
        case "circle":
            return np.stack([rho - s0, z], axis=1)
        case "sphere":
            return (np.hypot(rho, z) - s0)[:, None]
        case "cylinder" | "ring":
            return (rho - s0)[:, None]
        case "cone":
            return (rho * np.cos(s1) - z * np.sin(s1) - s0)[:, None]
        case "torus":
            return (np.hypot(rho - s0, z) - s1)[:, None]
    raise ValueError(primitive.name)


def jacobian(primitive: Primitive, points: np.ndarray, frame: Frame) -> np.ndarray:
    """(n, dimensions, k): derivatives of `residuals` by the unknowns, by the chain rule through x, y and z."""
    x, y, z = frame.local(points).T
    n, zero, one = len(x), np.zeros_like(x), np.ones_like(x)
    # Local coordinates move against the frame: x' = x - tx z - cx, y' = y - ty z - cy, z' = z + tx x + ty y - cz.
    move = {
        "cx": (-one, zero, zero),
        "cy": (zero, -one, zero),
        "cz": (zero, zero, -one),
        "tx": (-z, zero, x),
        "ty": (zero, -z, y),
    }
    rho = np.hypot(x, y)
    s0, s1 = frame.sizes
    with np.errstate(divide="ignore", invalid="ignore"):
        ux, uy = x / rho, y / rho
    match primitive.name:
        case "line":
            slopes, own = [(one, zero, zero), (zero, one, zero)], [{}, {}]
        case "plane":
            slopes, own = [(zero, zero, one)], [{}]
        case "circle":
            slopes, own = [(ux, uy, zero), (zero, zero, one)], [{"s0": -one}, {}]
        case "sphere":
            d = np.hypot(rho, z)
            slopes, own = [(x / d, y / d, z / d)], [{"s0": -one}]
        case "cylinder" | "ring":
            slopes, own = [(ux, uy, zero)], [{"s0": -one}]
        case "cone":
            cosine, sine = np.cos(s1), np.sin(s1)
            slopes = [(ux * cosine, uy * cosine, -sine * one)]
            own = [{"s0": -one, "s1": -rho * sine - z * cosine}]
        case "torus":
            d = np.hypot(rho - s0, z)
            slopes = [(ux * (rho - s0) / d, uy * (rho - s0) / d, z / d)]
            own = [{"s0": -(rho - s0) / d, "s1": -one}]
    out = np.zeros((n, primitive.dimensions, len(primitive.unknowns)))
    for row in range(primitive.dimensions):
        for column, name in enumerate(primitive.unknowns):
            if name in move:
                out[:, row, column] = sum(a * b for a, b in zip(slopes[row], move[name]))
            else:
                out[:, row, column] = own[row].get(name, 0.0)
    return out


def normal_equations(
    primitive: Primitive, points: np.ndarray, frame: Frame, cut: float, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """J^T J (k, k), J^T r (k,), sum of squares and count of the points whose residual's length is at most `cut`.

    `weights` (n,) multiply residuals and Jacobian, before the comparison with `cut`.
    """
    r, j = residuals(primitive, points, frame), jacobian(primitive, points, frame)
    if weights is not None:
        r, j = r * weights[:, None], j * weights[:, None, None]
    used = (r**2).sum(axis=1) <= cut**2
    r, j = r[used].reshape(-1), j[used].reshape(-1, j.shape[2])
    return j.T @ j, j.T @ r, float(r @ r), int(used.sum())
