"""Levenberg-Marquardt for one shape and many frames: normal equations with an arrow for the shape and a band for the sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .posing import Posing
from .priors import PosePrior, ShapePrior, Smoothness
from .state import State
from .terms import Term

__all__ = ["Normal", "Problem", "Solved", "solve"]

Extra = Callable[[State, np.ndarray, np.ndarray | None, np.ndarray | None], tuple]
"""(state, points, by_shape, by_frame) -> residuals (b, m), by_shape (b, m, s), by_frame (b, m, q); derivatives None if not asked for."""


@dataclass
class Problem:
    """Everything that is minimised: half the sum of robust costs of the terms, of the priors and of the smoothness."""

    posing: Posing
    terms: list[Term]
    pose: PosePrior | None = None
    shape: ShapePrior | None = None
    smoothness: Smoothness | None = None
    extras: list[Extra] = field(default_factory=list)
    """Further residuals, such as joint limits and capsules."""
    free: np.ndarray | None = None
    """(q, r): frame steps are `free` times r unknowns; None: all q are free."""
    shape_free: bool = True


@dataclass
class Normal:
    """J^T W J and J^T W r in blocks, over the free unknowns."""

    frames: np.ndarray
    """(b, r, r)."""
    cross: np.ndarray
    """(b, r, s)."""
    shape: np.ndarray
    """(s, s)."""
    frame_gradient: np.ndarray
    """(b, r)."""
    shape_gradient: np.ndarray
    """(s,)."""
    beside: np.ndarray | None = None
    """(2, b, r, r): coupling of each frame with the next and the one after."""
    cost: float = 0.0


@dataclass(frozen=True)
class Solved:
    """Where the solver stopped."""

    state: State
    cost: float
    iterations: int
    converged: bool


def solve(
    problem: Problem,
    state: State,
    *,
    iterations: int = 40,
    tolerance: float = 1e-9,  # relative decrease of the cost at which it stops
    before: Callable[[State, np.ndarray], None] | None = None,  # called with each accepted state's points
) -> Solved:
    """Damped Gauss-Newton steps with reweighting, until the cost stops falling.

    `before` may exchange what terms compare with (closest points); the cost is measured again after it.
    """
    damping, done, converged = 1e-4, 0, False
    normal = None
    while done < iterations:
        moved = problem.posing(state.shape, state.rotations(), state.translation, jacobian=normal is None)
        if normal is None:
            if before is not None:
                before(state, moved.points)
            normal = normal_equations(problem, state, moved)
        done += 1
        shape_step, frame_step = _step(normal, damping, problem.shape_free)
        full = frame_step if problem.free is None else frame_step @ problem.free.T
        trial = state.moved(shape_step, full)
        cost = total_cost(problem, trial)
        if np.isfinite(cost) and cost < normal.cost:
            fall = (normal.cost - cost) / max(normal.cost, 1e-300)
            state, normal, damping = trial, None, max(damping / 10, 1e-12)
            if fall < tolerance:
                converged = True
                break
        elif damping > 1e8:
            converged = True
            break
        else:
            damping *= 10
            step = max(float(np.abs(frame_step).max(initial=0)), float(np.abs(shape_step).max(initial=0)))
            if step < 1e-10:
                converged = True
                break
    return Solved(state, total_cost(problem, state), done, converged)


def total_cost(problem: Problem, state: State) -> float:
    """The cost alone."""
    points = problem.posing(state.shape, state.rotations(), state.translation, jacobian=False).points
    cost = sum(term.weights(term.linearise(points, None, None).residuals)[1] for term in problem.terms)
    if problem.pose is not None:
        cost += float((problem.pose(state)[0] ** 2).sum())
    if problem.shape is not None:
        cost += float((problem.shape(state)[0] ** 2).sum())
    if problem.smoothness is not None and len(state) > 2:
        cost += float((problem.smoothness.residuals(state) ** 2).sum())
    for extra in problem.extras:
        cost += float((extra(state, points, None, None)[0] ** 2).sum())
    return cost


def normal_equations(
    problem: Problem, state: State, moved=None, *, priors: bool = True, by: str | None = None
) -> Normal:
    """Linearised at `state`; without `priors`, of the data terms alone. `by`: each term times one of its `Moments`, for covariances."""
    if moved is None or moved.by_rotation is None:
        moved = problem.posing(state.shape, state.rotations(), state.translation)
    by_shape, by_frame = state.jacobian(moved)
    free, frames = problem.free, len(state)
    if free is not None:
        by_frame_free = by_frame @ free
    else:
        by_frame_free = by_frame
    r, s = by_frame_free.shape[-1], by_shape.shape[-1]
    normal = Normal(
        np.zeros((frames, r, r)),
        np.zeros((frames, r, s)),
        np.zeros((s, s)),
        np.zeros((frames, r)),
        np.zeros(s),
    )
    for term in problem.terms:
        linear = term.linearise(moved.points, by_shape, by_frame_free)
        weights, cost = term.weights(linear.residuals)
        root = np.sqrt(weights * (1.0 if by is None else getattr(term.moments(), by)))[..., None]
        _add(
            normal,
            (linear.residuals * root).reshape(frames, -1),
            (linear.by_shape * root[..., None]).reshape(frames, -1, s),
            (linear.by_frame * root[..., None]).reshape(frames, -1, r),
        )
        normal.cost += cost
    if not priors:
        return normal
    for extra in problem.extras:
        residuals, shape_part, frame_part = extra(state, moved.points, by_shape, by_frame)
        _add(normal, residuals, shape_part, frame_part if free is None else frame_part @ free)
        normal.cost += float((residuals**2).sum())
    if problem.pose is not None:
        residuals, root = problem.pose(state)
        columns = np.zeros((len(root), state.frame_size))
        columns[:, 3:-3] = root
        columns = columns if free is None else columns @ free
        normal.frames += columns.T @ columns
        normal.frame_gradient += residuals @ columns
        normal.cost += float((residuals**2).sum())
    if problem.shape is not None:
        residuals, root = problem.shape(state)
        normal.shape += root.T @ root
        normal.shape_gradient += residuals @ root
        normal.cost += float((residuals**2).sum())
    if problem.smoothness is not None and frames > 2:
        _add_smoothness(normal, problem, state)
    return normal


def _add(normal: Normal, residuals: np.ndarray, by_shape: np.ndarray, by_frame: np.ndarray) -> None:
    turned = by_frame.swapaxes(1, 2)
    normal.frames += turned @ by_frame
    normal.cross += turned @ by_shape
    flat = by_shape.reshape(-1, by_shape.shape[-1])
    normal.shape += flat.T @ flat
    normal.frame_gradient += (turned @ residuals[..., None])[..., 0]
    normal.shape_gradient += flat.T @ residuals.reshape(-1)


def _add_smoothness(normal: Normal, problem: Problem, state: State) -> None:
    residuals = problem.smoothness.residuals(state)
    parts = problem.smoothness.jacobians(state)
    if problem.free is not None:
        parts = tuple(part @ problem.free for part in parts)
    frames, r = normal.frame_gradient.shape
    if normal.beside is None:
        normal.beside = np.zeros((2, frames, r, r))
    count = frames - 2
    for i, part in enumerate(parts):
        turned = part.swapaxes(1, 2)
        normal.frames[i : i + count] += turned @ part
        normal.frame_gradient[i : i + count] += (turned @ residuals[..., None])[..., 0]
        for ahead in range(1, 3 - i):
            normal.beside[ahead - 1, i : i + count] += turned @ parts[i + ahead]
    normal.cost += float((residuals**2).sum())


def _step(normal: Normal, damping: float, shape_free: bool) -> tuple[np.ndarray, np.ndarray]:
    """The damped Gauss-Newton step: frames are eliminated, the shape is solved for, frames follow."""
    r = normal.frame_gradient.shape[1]
    s = len(normal.shape_gradient)
    diagonal = np.einsum("bii->bi", normal.frames)
    damped = normal.frames + (damping * diagonal + 1e-9)[..., None] * np.eye(r)
    right = normal.frame_gradient[..., None]
    if s and shape_free:
        right = np.concatenate((right, normal.cross), -1)
    if normal.beside is None:
        solved = np.linalg.solve(damped, right)
    else:
        solved = _solve_band(damped, normal.beside, right)
    if not (s and shape_free):
        return np.zeros(s), -solved[..., 0]
    crossed = normal.cross.swapaxes(1, 2)
    schur = normal.shape - (crossed @ solved[..., 1:]).sum(0)
    schur = schur + np.diag(damping * normal.shape.diagonal() + 1e-9)
    gradient = normal.shape_gradient - (crossed @ solved[..., :1]).sum(0)[:, 0]
    shape = -np.linalg.solve(schur, gradient)
    return shape, -solved[..., 0] - solved[..., 1:] @ shape


def _solve_band(diagonal: np.ndarray, beside: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solves the symmetric block pentadiagonal system frame by frame: block elimination, then back substitution."""
    frames, r, _ = diagonal.shape
    diagonal, first, right = diagonal.copy(), beside[0].copy(), right.copy()
    second = beside[1]
    below = []
    for t in range(frames):
        one, two = t + 1 < frames, t + 2 < frames
        found = np.linalg.solve(diagonal[t], np.concatenate((first[t], second[t], right[t]), 1))
        ahead, after, right[t] = found[:, :r], found[:, r : 2 * r], found[:, 2 * r :]
        if one:
            turned = first[t].T
            diagonal[t + 1] -= turned @ ahead
            first[t + 1] -= turned @ after
            right[t + 1] -= turned @ right[t]
        if two:
            turned = second[t].T
            diagonal[t + 2] -= turned @ after
            right[t + 2] -= turned @ right[t]
        below.append((ahead, after))
    for t in range(frames - 2, -1, -1):
        right[t] -= below[t][0] @ right[t + 1]
        if t + 2 < frames:
            right[t] -= below[t][1] @ right[t + 2]
    return right
