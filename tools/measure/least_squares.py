"""Orthogonal least squares of a primitive on the points within a threshold: Levenberg-Marquardt in a moving frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frame import Frame
from .primitives import Primitive
from .residuals_cpu import normal_equations

__all__ = ["Solution", "refine"]


@dataclass(frozen=True)
class Solution:
    frame: Frame
    information: np.ndarray
    """(k, k): J^T J of the points used."""
    squares: float
    """Sum of their squared (weighted) residuals."""
    used: int
    iterations: int
    converged: bool

    def cost(self, total: int, cut: float) -> float:
        """The truncated cost sum(min(r^2, cut^2)) over `total` points (MSAC; Torr and Zisserman 2000)."""
        return self.squares + (total - self.used) * cut * cut if np.isfinite(cut) else self.squares


def refine(
    primitive: Primitive,
    points: np.ndarray,  # (n, 3) float64, contiguous
    frame: Frame,
    *,
    cut: float = np.inf,  # points farther away are left out, anew at every step
    weights: np.ndarray | None = None,  # (n,): residuals are multiplied by it before the cut
    fixed: tuple[str, ...] = (),  # "axis" and/or "radius" stay as `frame` has them
    iterations: int = 60,
    tolerance: float = 1e-13,  # of a step, relative to the size of the points' spread
    scale: float | None = None,  # that size; None: from the points
) -> Solution:
    """The minimum of sum(min(r^2, cut^2)) that `frame` lies in the basin of.

    A step is taken when it lowers the cost, else damped tenfold. Does not raise: a start without enough points within the
    cut comes back as it is, with `converged` False.
    """
    keep = primitive.columns(fixed)
    n = len(points)
    if scale is None:
        scale = float(np.abs(points - points.mean(axis=0)).max()) or 1.0
    square = cut * cut if np.isfinite(cut) else 0.0
    # Columns of tilts and angles have the unit of length, the others none: damp each in its own unit, and stop likewise.
    unit = np.array(
        [
            scale if name in ("tx", "ty") or (name, primitive.name) == ("s1", "cone") else 1.0
            for name in primitive.unknowns
        ]
    )
    step_unit = unit[keep]
    state = normal_equations(primitive, points, frame, cut, weights)
    damping, converged, taken = 0.0, False, 0
    for taken in range(1, iterations + 1):
        a, g, squares, used = state
        if used * primitive.dimensions < len(keep):
            break
        h = a[np.ix_(keep, keep)] / np.outer(step_unit, step_unit)
        rhs = g[keep] / step_unit
        cost = squares + (n - used) * square
        improved = False
        for _ in range(12):
            delta = _solve(h + damping * np.diag(np.diag(h) + 1e-300), -rhs)
            full = np.zeros(len(primitive.unknowns))
            full[keep] = delta / step_unit
            if damping == 0 and np.abs(delta).max() <= tolerance * scale:
                # so small a step changes neither the information nor the sum of squares: no pass to see it
                return Solution(
                    primitive.step(frame, full), a, max(squares + float(rhs @ delta), 0.0), used, taken, True
                )
            trial = primitive.step(frame, full)
            after = normal_equations(primitive, points, trial, cut, weights)
            if after[2] + (n - after[3]) * square <= cost:
                improved = True
                break
            if damping == 0 and np.abs(delta).max() <= 1e-7 * scale:
                # rounding alone decides between the costs here; the Gauss-Newton step is the better judge
                improved = True
                break
            damping = max(damping * 10, 1e-4)
        if not improved:
            converged = True
            break
        frame, state = trial, after
        damping = 0.0 if damping < 1e-5 else damping / 10
    return Solution(frame, state[0], state[2], state[3], taken, converged)


def _solve(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, rhs)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, rhs, rcond=1e-12)[0]
