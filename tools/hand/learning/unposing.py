"""Between registered meshes and what they are made of: poses of all meshes, one rest template a subject.

Alternates as SMPL's training does (Loper et al. 2015, section 4): poses by Levenberg-Marquardt with templates held fast, templates
in closed form with poses held fast. Correspondence is known, so nothing is searched for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....fields.articulated.geometry import unique_edges
from ....fields.articulated.model_data import ModelData
from ..fitting.initial import kabsch
from ..fitting.posing import Posing
from ..fitting.priors import PosePrior
from ..fitting.so3 import log
from ..fitting.state import State

__all__ = [
    "Rest",
    "carry",
    "first_rest",
    "fit_poses",
    "misfit",
    "refit_strays",
    "spread_vertices",
    "start_poses",
    "straighten",
    "unpose",
]

_DAMPING = 1e-6


@dataclass
class Rest:
    """Rest shapes of u subjects."""

    templates: np.ndarray
    """(u, v, 3)."""
    joints: np.ndarray
    """(u, j, 3)."""


def first_rest(
    data: ModelData,
    meshes: np.ndarray,  # (n, v, 3)
    subjects: np.ndarray,  # (n,)
) -> Rest:
    """The template as large as each subject: the median ratio of edge lengths, which poses hardly change."""
    a, b = unique_edges(data.faces).T
    length = np.linalg.norm(data.template[a] - data.template[b], axis=1)
    root = data.joints[0]
    scale = np.ones((int(subjects.max()) + 1, 1, 1))
    for subject in range(len(scale)):
        rows = meshes[subjects == subject]
        scale[subject] = np.median(np.linalg.norm(rows[:, a] - rows[:, b], axis=2) / length.clip(1e-9))
    return Rest(root + scale * (data.template - root), root + scale * (data.joints - root))


def spread_vertices(data: ModelData, count: int) -> np.ndarray:
    """`count` vertices far from each other on the template, at least a few on every joint (farthest-point sampling)."""
    points = data.template
    chosen = [int(np.argmax(points @ np.array([1.0, 0.3, 0.1])))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(sorted(set(chosen) | {int(i) for i in data.weights.argmax(0)}))


def fit_poses(
    posing: Posing,  # of the chosen vertices, without shape directions
    meshes: np.ndarray,  # (n, m, 3) those vertices of each mesh
    rest: Rest,  # of the chosen vertices: (n, m, 3), (n, j, 3), one row a mesh
    start: State,
    prior: PosePrior,
    *,
    sigma: float,
    iterations: int,
    chunk: int = 64,
) -> State:
    """Poses of n meshes, all independent: Gauss-Newton with each mesh's own step, taken back where the mesh got worse."""
    parts = []
    for first in range(0, len(meshes), chunk):
        rows = slice(first, first + chunk)
        parts.append(
            _fit_chunk(
                posing,
                meshes[rows],
                (rest.templates[rows], rest.joints[rows]),
                start.frames(rows),
                prior,
                sigma,
                iterations,
            )
        )
    return State(
        start.shape,
        *(np.concatenate([getattr(p, key) for p in parts]) for key in ("root", "angles", "translation")),
    )


def _fit_chunk(
    posing: Posing,
    meshes: np.ndarray,
    rest: tuple[np.ndarray, np.ndarray],
    state: State,
    prior: PosePrior,
    sigma: float,
    iterations: int,
) -> State:
    count, q = len(meshes), state.frame_size
    m = meshes.shape[1]
    columns = np.zeros((len(prior.root), q))
    columns[:, 3:-3] = prior.root * np.sqrt(prior.weight)
    stiff = columns.T @ columns

    def cost_of(candidate: State) -> tuple[np.ndarray, np.ndarray]:
        points = posing(
            candidate.shape, candidate.rotations(), candidate.translation, False, rest=rest
        ).points[:, :m]
        residuals = (points - meshes).reshape(count, -1) / sigma
        return (residuals**2).sum(1) + (prior(candidate)[0] ** 2).sum(1), residuals

    cost, residuals = cost_of(state)
    damping = np.full(count, _DAMPING)
    for _ in range(iterations):
        moved = posing(state.shape, state.rotations(), state.translation, rest=rest)
        jacobian = state.jacobian(moved)[1][:, :m].reshape(count, -1, q) / sigma
        turned = jacobian.swapaxes(1, 2)
        normal = turned @ jacobian + stiff
        gradient = (turned @ residuals[..., None])[..., 0] + prior(state)[0] @ columns
        diagonal = np.einsum("bii->bi", normal) * damping[:, None] + 1e-12
        step = -np.linalg.solve(normal + diagonal[..., None] * np.eye(q), gradient[..., None])[..., 0]
        trial = state.moved(np.zeros(0), step)
        trial_cost, trial_residuals = cost_of(trial)
        better = trial_cost < cost
        keep = ~better
        for key in ("root", "angles", "translation"):
            getattr(trial, key)[keep] = getattr(state, key)[keep]
        falls = (cost - trial_cost)[better] / np.maximum(cost[better], 1e-300)
        residuals = np.where(better[:, None], trial_residuals, residuals)
        cost = np.where(better, trial_cost, cost)
        damping = np.where(better, damping / 10, np.maximum(damping, 1e-6) * 20)
        state = trial
        if better.all() and falls.max(initial=0) < 1e-7:
            break
    return state


def misfit(posing: Posing, meshes: np.ndarray, rest: Rest, state: State) -> np.ndarray:
    """(n,) metres: root of the mean squared distance of each mesh's chosen vertices (n, m, 3) from its posed template."""
    result = np.empty(len(meshes))
    for first in range(0, len(meshes), 64):
        rows = slice(first, first + 64)
        part = state.frames(rows)
        place = rest.templates[rows], rest.joints[rows]
        points = posing(part.shape, part.rotations(), part.translation, False, rest=place).points
        square = ((points[:, : meshes.shape[1]] - meshes[rows]) ** 2).sum(-1)
        result[rows] = np.sqrt(square.mean(1))
    return result


def refit_strays(
    posing: Posing,
    meshes: np.ndarray,  # (n, m, 3)
    rest: Rest,
    state: State,
    prior: PosePrior,
    subjects: np.ndarray,  # (n,)
    *,
    sigma: float,
    iterations: int,
    tries: int = 6,
    limit: float = 1.6,
) -> tuple[State, np.ndarray]:
    """Meshes that fit `limit` times worse than the median of all and of their subject try the poses of others, far apart from each other, as starts.

    A step too long may leave a finger folded the wrong way, and no small step leads back. Returns the state and which meshes (n,) bool
    still fit that badly.
    """
    error = misfit(posing, meshes, rest, state)
    own_median = np.array([np.median(error[subjects == subject]) for subject in subjects])
    bound = limit * np.maximum(own_median, np.median(error))
    rows = np.flatnonzero(error > bound)
    good = np.flatnonzero(error <= bound)
    if not len(rows) or not len(good):
        return state, error > bound
    flat = state.angles[good].reshape(len(good), -1)
    chosen = [int(np.linalg.norm(flat - flat.mean(0), axis=1).argmin())]
    while len(chosen) < min(tries, len(good)):
        apart = np.linalg.norm(flat[:, None] - flat[chosen], axis=2).min(1)
        chosen.append(int(apart.argmax()))
    own = Rest(rest.templates[rows], rest.joints[rows])
    best, least = state.frames(rows), error[rows]
    for number in good[chosen]:
        trial = state.frames(rows)
        trial.angles[:] = state.angles[number]
        trial = fit_poses(posing, meshes[rows], own, trial, prior, sigma=sigma, iterations=iterations)
        found = misfit(posing, meshes[rows], own, trial)
        better = found < least
        for key in ("root", "angles", "translation"):
            getattr(best, key)[better] = getattr(trial, key)[better]
        least = np.where(better, found, least)
    for key in ("root", "angles", "translation"):
        getattr(state, key)[rows] = getattr(best, key)
    error[rows] = least
    return state, error > bound


def carry(
    data: ModelData,
    state: State,
    joints: np.ndarray,  # (n, j, 3) rest joints of each mesh's subject
    chunk: int = 64,
) -> Callable[[], object]:
    """A generator function of (rows, M (b, v, 3, 3), c (b, v, 3)): rest points T of mesh rows go to M T + c."""
    posing = Posing(data, np.zeros(0, np.int64), 0)

    def parts():
        for first in range(0, len(state), chunk):
            rows = slice(first, min(first + chunk, len(state)))
            turned, placed = posing.chain(state.rotations()[rows], joints[rows], state.translation[rows])
            anchor = placed - (turned @ joints[rows][..., None])[..., 0]
            blended = np.einsum("vj,bjcd->bvcd", data.weights, turned, optimize=True)
            yield rows, blended, np.einsum("vj,bjc->bvc", data.weights, anchor, optimize=True)

    return parts


def unpose(
    data: ModelData,
    state: State,
    joints: np.ndarray,  # (n, j, 3)
    meshes: np.ndarray,  # (n, v, 3)
) -> np.ndarray:  # (n, v, 3)
    """Meshes taken back to rest through the inverse of the blended transforms."""
    result = np.empty_like(meshes)
    for rows, blended, move in carry(data, state, joints)():
        result[rows] = np.linalg.solve(blended, (meshes[rows] - move)[..., None])[..., 0]
    return result


def start_poses(posing: Posing, meshes: np.ndarray, rest: Rest, root: np.ndarray, mean: np.ndarray) -> State:
    """Root by Procrustes on the vertices that the root joint carries most (`root`: (m,) bool), the other joints at `mean`."""
    count, joints = len(meshes), len(posing.parents)
    state = State(
        np.zeros(0),
        np.tile(np.eye(3), (count, 1, 1)),
        np.tile(mean.reshape(1, joints - 1, 3), (count, 1, 1)),
        np.zeros((count, 3)),
    )
    for i in range(count):
        rotation, move = kabsch(rest.templates[i, root], meshes[i, root])
        state.root[i] = rotation
        state.translation[i] = rotation @ rest.joints[i, 0] + move - rest.joints[i, 0]
    return state


def straighten(
    data: ModelData,
    rest: Rest,  # changed in place
    state: State,  # of n meshes
    subjects: np.ndarray,  # (n,)
) -> State:
    """Brings all rest shapes into one rest pose, that of their mean; returns the poses that leave the meshes where they are.

    A bent template with poses less bent explains a subject's meshes as well, so that alternating leaves each subject at rest in a
    pose of its own, and the shape space would learn poses. Here each joint's part of a template (vertices by their weights) is turned as
    the mean's is, by what turns it best about its own middle: where a part is does not count, that is shape. A
    rotation R of a joint whose template turns by A, below one that turns by B, becomes B R A^T.
    """
    mean, count = rest.templates.mean(0), len(rest.templates)
    joints = len(data.parents)
    above = np.maximum(np.asarray(data.parents), 0)
    turned = np.tile(np.eye(3), (count, joints, 1, 1))
    for joint, weight in enumerate(data.weights.T):
        seen = weight > 0.1
        for subject in range(count):
            if seen.sum() >= 4:
                source, target = rest.templates[subject, seen], mean[seen]
                turned[subject, joint] = kabsch(source, target, weight[seen])[0]
            else:
                turned[subject, joint] = turned[subject, above[joint]]
    local = turned[:, above].swapaxes(-1, -2) @ turned
    local[:, 0] = turned[:, 0]
    bent = State(state.shape, local[:, 0], log(local[:, 1:]), np.zeros((count, 3)))
    before = rest.joints.copy()
    for rows, blended, move in carry(data, bent, before)():
        rest.templates[rows] = (blended @ rest.templates[rows][..., None])[..., 0] + move
    posing = Posing(data, np.zeros(0, np.int64), 0)
    rest.joints[:] = posing.chain(bent.rotations(), before, bent.translation)[1]
    turned = turned[subjects]
    base = turned[:, above].copy()
    base[:, 0] = np.eye(3)
    new = base @ state.rotations() @ turned.swapaxes(-1, -2)
    # the root's place in the mesh stays: old root joint + translation
    translation = state.translation + before[subjects, 0] - rest.joints[subjects, 0]
    return State(state.shape, new[:, 0], log(new[:, 1:]), translation)
