"""How well a fit is determined: covariance, and which degrees of freedom the data did not see.

Near the optimum the unknowns are normal, with the inverse of J^T W J (data and priors) as covariance where the cost is plain least squares;
under robust weights W what normal noise tells through them is put right by `terms.Moments`. A degree of freedom counts as not
seen where the data leave it more than half of the variance that it has without them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .posing import Moved
from .solver import Normal, Problem, normal_equations
from .state import State

__all__ = ["Observability", "determined", "observe", "step_names"]

_UNSEEN = 0.5
_WIDE = np.array([np.pi, np.pi, np.pi, 10.0, 10.0, 10.0])
"""Radians and metres: what is believed of root and translation before any data."""


@dataclass(frozen=True)
class Observability:
    """Of each frame on its own data and priors, the shape known from all frames; smoothness is left out, so for sequences the figures are
    upper bounds.
    """

    names: tuple[str, ...]
    """s + q names: shape0.., then "wrist x", ..., "translation z"."""
    covariance: np.ndarray
    """(b, s + q, s + q) of shape and frame step, radians and metres: of the truth round the result, the priors' doubt included."""
    scatter: np.ndarray
    """(b, s + q, s + q): how results would scatter under fresh noise. Smaller than `covariance` where priors decide: they hold the result at one
    place, which need not be the right one."""
    share: np.ndarray
    """(b, s + q): what is left of each variance, 0 (well seen) to 1 (not seen at all)."""
    effective: float
    """How many unknowns the data determine, over all frames (the trace of the hat matrix)."""

    def unseen(self, frame: int = 0) -> list[str]:
        """Names of the degrees of freedom that the data of a frame did not see."""
        return [name for name, share in zip(self.names, self.share[frame]) if share > _UNSEEN]


def step_names(joint_names: tuple[str, ...], shapes: int) -> tuple[str, ...]:
    """Names of the numbers of a step."""
    turns = [f"{joint} {axis}" for joint in joint_names for axis in "xyz"]
    return (*(f"shape{i}" for i in range(shapes)), *turns, *(f"translation {axis}" for axis in "xyz"))


class _Information(NamedTuple):
    """What data and priors say at a state, in the blocks of `Normal`."""

    moved: Moved
    data: Normal
    prior_frame: np.ndarray
    """(b, r, r)."""
    prior_shape: np.ndarray
    """(s, s)."""
    solved: np.ndarray
    """(b, r, s) how each frame follows the shape."""
    inverse: np.ndarray
    """(b, r, r) covariance of the frames, the shape known."""
    shape: np.ndarray
    """(s, s) covariance of the shape; 0 where it is known."""
    effective: float


def _information(problem: Problem, state: State) -> _Information:
    moved = problem.posing(state.shape, state.rotations(), state.translation)
    everything = normal_equations(problem, state, moved, by="stiffness")
    data = normal_equations(problem, state, moved, priors=False, by="stiffness")
    s, q = len(state.shape), state.frame_size
    free = np.eye(q) if problem.free is None else problem.free
    wide = np.zeros(q)
    wide[:3], wide[-3:] = _WIDE[:3] ** -2, _WIDE[3:] ** -2
    wide = free.T @ (wide[:, None] * free)
    # the shape's information from all frames: each contributes its own, its pose eliminated
    per_frame = everything.frames + wide
    solved = np.linalg.solve(per_frame, everything.cross)
    gained = everything.cross.swapaxes(1, 2) @ solved
    prior_shape, prior_frame = everything.shape - data.shape, per_frame - data.frames
    free_shape = problem.shape_free and s
    shape = _inverse(everything.shape - gained.sum(0)) if free_shape else np.zeros((s, s))
    inverse = _inverse(per_frame)
    effective = float(inverse.shape[0] * inverse.shape[1] - np.einsum("bij,bji->", inverse, prior_frame))
    if free_shape:
        effective += float(s - np.trace(shape @ prior_shape))
    return _Information(moved, data, prior_frame, prior_shape, solved, inverse, shape, effective)


def determined(problem: Problem, state: State) -> float:
    """`Observability.effective` alone."""
    return _information(replace(problem, smoothness=None), state).effective


def observe(problem: Problem, state: State) -> Observability:
    """Linearises at `state`. Unknowns that `problem.free` holds fast have covariance 0 and share 0."""
    problem = replace(problem, smoothness=None)
    moved, data, prior_frame, prior_shape, solved, inverse, shape_covariance, effective = _information(
        problem, state
    )
    frames, s, q = len(state), len(state.shape), state.frame_size
    free = np.eye(q) if problem.free is None else problem.free
    before = _inverse(prior_frame)
    carry = -solved @ shape_covariance
    step = inverse - carry @ solved.swapaxes(1, 2)
    covariance = np.empty((frames, s + q, s + q))
    covariance[:, :s, :s] = shape_covariance
    covariance[:, s:, :s] = free @ carry
    covariance[:, :s, s:] = covariance[:, s:, :s].swapaxes(1, 2)
    covariance[:, s:, s:] = free @ step @ free.T
    scatter = _scatter(
        normal_equations(problem, state, moved, priors=False, by="push"), solved, shape_covariance, inverse
    )
    # what is told of the truth: K (push + priors) K, where K stands for stiffness and priors
    excess = scatter - _scatter(data, solved, shape_covariance, inverse)
    if problem.free is not None:
        widen = np.zeros((s + q, s + free.shape[1]))
        widen[:s, :s], widen[s:, s:] = np.eye(s), free
        scatter, excess = (widen @ part @ widen.T for part in (scatter, excess))
    covariance += excess
    wanted = np.empty((frames, s + q))
    wanted[:, :s] = _inverse(prior_shape).diagonal() if s else 0.0
    wanted[:, s:] = np.einsum("qr,brp,qp->bq", free, before, free, optimize=True)
    left = np.einsum("bii->bi", covariance)
    share = np.where(wanted > 0, left / np.maximum(wanted, 1e-300), 0.0).clip(0, 1)
    names = step_names(tuple(problem.posing.data.joint_names), s)
    return Observability(names, covariance, scatter, share, effective)


def _scatter(data: Normal, solved: np.ndarray, shape: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """(b, s + r, s + r) each frame's block of K D K, with K the covariance and D the data's information alone.

    K's columns of frame f, rows of frame k: -A_k C W_f, and inv(H_f) more where k = f; rows of the shape: C W_f. W_f = [1, -A_f^T], A = `solved`,
    C = `shape`.
    """
    frames, r, s = solved.shape
    turned = solved.swapaxes(1, 2)
    own = data.frames @ solved - data.cross
    total = data.shape + (turned @ own - data.cross.swapaxes(1, 2) @ solved).sum(0)
    wide = np.concatenate((np.tile(np.eye(s), (frames, 1, 1)), -turned), 2)
    by_shape = shape @ wide
    alone = np.concatenate((np.zeros((frames, r, s)), inverse), 2)
    crossed = alone.swapaxes(1, 2) @ -own @ by_shape
    return (
        by_shape.swapaxes(1, 2) @ total @ by_shape
        + alone.swapaxes(1, 2) @ data.frames @ alone
        + crossed
        + crossed.swapaxes(1, 2)
    )


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Of symmetric matrices (..., n, n) that may have directions without information: those get a variance of 1e6."""
    return np.linalg.inv(matrix + 1e-6 * np.eye(matrix.shape[-1]))
