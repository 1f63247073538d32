"""Laying one pattern of places onto another in their common plane: p -> R(roll) p + shift.

Least squares is closed form (Kabsch's solution in two dimensions, weighted). Minimax and the limits of the roll are convex once the roll is
linearised: a distance |d| <= s is the family of half-planes n . d <= s over all directions n, of which those that bind are added one by
one to a linear program (Kelley, J. SIAM 8 (1960) 703), and the roll is linearised anew until it stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Pose2", "least_squares_pose", "minimax_pose", "offsets", "pose_jacobian", "roll_limits"]

_SETTLED = 1e-8  # radians: a further linearisation would change offsets by its square
_CUTS = 12  # half-planes per place to begin with
_TINY = 1e-9  # of the pattern's size: how exactly a distance must hold


@dataclass(frozen=True)
class Pose2:
    roll: float
    """Radians."""
    shift: np.ndarray
    """(2,)"""

    def __call__(self, places: np.ndarray) -> np.ndarray:  # (n, 2)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return places @ np.array([[c, s], [-s, c]]) + self.shift


def offsets(pose: Pose2, moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:  # (n, 2), (n, 2)
    """(n, 2): where the moved places lie, less where they should."""
    return pose(moving) - fixed


def least_squares_pose(
    moving: np.ndarray,  # (n, 2)
    fixed: np.ndarray,  # (n, 2)
    weights: np.ndarray | None = None,  # (n,)
    shift: tuple[np.ndarray, np.ndarray] | None = None,  # places (moving, fixed) that must coincide
) -> Pose2:
    """The pose with the least weighted sum of squared offsets (Kabsch, Acta Cryst. A32 (1976) 922; in a plane, one arctangent)."""
    weights = np.ones(len(moving)) if weights is None else weights
    weights = weights / weights.sum()
    a, b = shift if shift is not None else (weights @ moving, weights @ fixed)
    m, f = moving - a, fixed - b
    cosine = weights @ (m * f).sum(axis=1)
    sine = weights @ (m[:, 0] * f[:, 1] - m[:, 1] * f[:, 0])
    roll = float(np.arctan2(sine, cosine))
    return Pose2(roll, b - Pose2(roll, np.zeros(2))(a[None])[0])


def pose_jacobian(pose: Pose2, moving: np.ndarray) -> np.ndarray:
    """(2 n, 3): of the moved places, place by place, by shift x, shift y and roll."""
    turned = Pose2(pose.roll, np.zeros(2))(moving)
    out = np.zeros((2 * len(moving), 3))
    out[0::2, 0] = out[1::2, 1] = 1.0
    out[0::2, 2], out[1::2, 2] = -turned[:, 1], turned[:, 0]
    return out


def minimax_pose(
    start: Pose2,
    moving: np.ndarray,
    fixed: np.ndarray,
    allowed: np.ndarray | None = None,  # (n,) offset each may have; None: the same for all
) -> Pose2:
    """The pose whose largest offset over the allowed one (offset - allowed) is the least."""
    allowed = np.zeros(len(moving)) if allowed is None else allowed
    pose = start
    for _ in range(12):
        found = _program(pose, moving, fixed, allowed, np.array([0.0, 0.0, 0.0, 1.0]))
        if found is None:
            return pose
        new = Pose2(pose.roll + found[2], pose.shift + found[:2])
        # after a turn the linear shift is off by second order: the next round takes it up
        done = abs(found[2]) < _SETTLED
        pose = new
        if done:
            break
    return pose


def roll_limits(
    pose: Pose2, moving: np.ndarray, fixed: np.ndarray, allowed: np.ndarray
) -> tuple[float, float] | None:
    """(least, most) change of the roll from `pose`, radians, over which some shift keeps every offset within `allowed`; None if none does."""
    best = minimax_pose(pose, moving, fixed, allowed)
    excess = np.hypot(*offsets(best, moving, fixed).T) - allowed
    if excess.max() > _TINY * _size(moving):
        return None
    ends = []
    for sign in (1.0, -1.0):
        at = best
        for _ in range(12):
            found = _program(at, moving, fixed, allowed, np.array([0.0, 0.0, sign, 0.0]), slack=False)
            if found is None:
                break
            at = Pose2(at.roll + found[2], at.shift + found[:2])
            if abs(found[2]) < _SETTLED:
                break
        ends.append(at.roll - pose.roll)
    return min(ends), max(ends)


def _size(places: np.ndarray) -> float:
    return float(np.abs(places - places.mean(axis=0)).max())


def _program(
    pose: Pose2,
    moving: np.ndarray,
    fixed: np.ndarray,
    allowed: np.ndarray,
    cost: np.ndarray,  # of (shift x, shift y, roll, s)
    *,
    slack: bool = True,  # whether the offsets may exceed the allowed by s
) -> np.ndarray | None:
    """The least cost with |offset_i| <= allowed_i + s, the roll linearised at `pose`; None where the solver finds nothing."""
    from scipy.optimize import linprog

    size = _size(moving)
    now = offsets(pose, moving, fixed)
    jacobian = pose_jacobian(pose, moving).reshape(-1, 2, 3) * np.array([1.0, 1.0, 1.0 / size])
    angles = np.arange(_CUTS) / _CUTS * 2 * np.pi
    normals = np.tile(np.stack([np.cos(angles), np.sin(angles)], axis=1), (len(moving), 1))
    which = np.repeat(np.arange(len(moving)), _CUTS)
    # all unknowns in parts of the size: shifts, the roll's arc, and s
    bounds = [(None, None), (None, None), (-0.1, 0.1), (None, None) if slack else (0.0, 0.0)]
    unknowns = None
    for _ in range(60):
        rows = np.einsum("ki,kij->kj", normals, jacobian[which])
        matrix = np.column_stack([rows, -np.ones(len(rows))])
        limits = (allowed[which] - (normals * now[which]).sum(axis=1)) / size
        found = linprog(
            cost,
            A_ub=matrix,
            b_ub=limits,
            bounds=bounds,
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if found.status != 0:
            return None if unknowns is None else unknowns
        scaled = found.x * size
        unknowns = scaled * np.array([1.0, 1.0, 1.0 / size, 1.0])
        offset = now + jacobian @ scaled[:3]
        length = np.hypot(*offset.T)
        over = length - allowed - scaled[3]
        worst = np.flatnonzero(over > _TINY * size)
        if not len(worst):
            break
        normals = np.concatenate([normals, offset[worst] / length[worst, None]])
        which = np.concatenate([which, worst])
    return unknowns
