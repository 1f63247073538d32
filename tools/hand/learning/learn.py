"""Registered meshes in, an articulated model out: template, shape space, pose correctives, joint regressor, pose space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from ..fitting.initial import kabsch
from ..fitting.posing import Posing
from ..fitting.priors import PosePrior
from ..fitting.state import State
from .correctives import corrective_penalty, fit_correctives, pose_features
from .joints import fit_regressor, move_joints, smooth_joints
from .shape_space import ShapeSpace, learn_shape_space, shape_metrics
from .unposing import (
    Rest,
    first_rest,
    fit_poses,
    refit_strays,
    spread_vertices,
    start_poses,
    straighten,
    unpose,
)

__all__ = ["Learned", "LearnSettings", "Registered", "learn"]

_FREE = 1.5
"""Radians: the spread of the pose prior while learning; correspondences are known, so poses hardly need one."""


@dataclass(frozen=True)
class Registered:
    """n meshes of one topology, of u subjects in any poses."""

    vertices: np.ndarray
    """(n, v, 3) metres."""
    subjects: np.ndarray
    """(n,) int from 0 to u - 1."""
    names: tuple[str, ...] = ()
    truth: np.ndarray | None = None
    """(n, v, 3) the meshes without noise, where they are known: then held-out errors are measured on these."""


@dataclass(frozen=True)
class LearnSettings:
    """What is learned, and how finely."""

    shapes: int = 10
    components: int | None = None
    """Pose components that are kept; None: all."""
    rounds: int = 4
    """Alternations between poses and templates."""
    held_out: float = 0.1
    """Share of the meshes (of subjects with at least three) that is only tested on."""
    ridges: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    """Strengths of the correctives' ridge that are tried; the best on the held-out meshes' poses is taken."""
    reach: float | None = None
    """Metres a corrective reaches from its joint; None: a sixth of the template's length."""
    vertices: int = 300
    """Vertices that poses are fitted to."""
    regressor: bool = True
    """Whether joints are looked for anew; False keeps the starting model's regressor."""


@dataclass
class Learned:
    """The model and what is known of its quality."""

    data: ModelData
    space: ShapeSpace
    report: dict = field(default_factory=dict)
    """Plain numbers: see `learn`."""


def learn(
    start: ModelData,  # tree, weights, faces, and a first template and regressor of the meshes' topology
    meshes: Registered,
    settings: LearnSettings | None = None,
    *,
    rng: np.random.Generator,
    progress: Callable[[str], None] = lambda line: None,
) -> Learned:
    """Learns from registered meshes. The report has, in millimetres, the error of held-out meshes with skinning alone and with correctives,
    compactness, generalisation and specificity against the number of components, and the noise of the meshes.

    Raises UserError for another topology, values that are not finite, or fewer than two subjects.
    """
    settings = settings or LearnSettings()
    _check(start, meshes)
    subjects, n = meshes.subjects, len(meshes.vertices)
    held = _held_out(subjects, settings.held_out, rng)
    train = ~held
    progress(f"{n} meshes of {int(subjects.max()) + 1} subjects, {int(held.sum())} held out")

    plain = start.replace(
        pose_correctives=np.zeros_like(start.pose_correctives), shape_basis=start.shape_basis[:, :, :0]
    )
    skinned = _alternate(plain, meshes, train, settings, correctives=False, progress=progress)
    error_skinned = _held_out_error(skinned, meshes, held, settings.shapes)
    progress(f"skinning alone: held-out vertex error {1e3 * error_skinned:.3f} mm")
    notes: list[str] = []
    if (np.bincount(subjects[train]) > 1).any():
        full = _alternate(
            skinned.data, meshes, train, settings, correctives=True, progress=progress, before=skinned
        )
        error_full = _held_out_error(full, meshes, held, settings.shapes)
        progress(f"with correctives: held-out vertex error {1e3 * error_full:.3f} mm")
    else:
        full, error_full = skinned, float("nan")
        notes.append(
            "no subject has two meshes: shape and pose cannot be told apart, correctives were left out"
        )
    if not held.any():
        notes.append("nothing was held out: it takes subjects with at least three meshes")

    space = learn_shape_space(full.rest.templates, settings.shapes, full.template_noise)
    regressor = full.data.joint_regressor
    if settings.regressor:
        regressor = fit_regressor(full.rest.templates, full.rest.joints, start.joint_regressor)
    angles = full.state.angles[train].reshape(int(train.sum()), -1)
    mean = angles.mean(0)
    _, _, right = np.linalg.svd(angles - mean, full_matrices=False)
    components = right[: settings.components or len(right)]
    data = ModelData.checked(
        full.data.arrays()
        | {
            "template": space.mean,
            "shape_basis": space.basis,
            "joint_regressor": regressor,
            "pose_mean": mean,
            "pose_components": components,
            "pose_coefficients": (angles - mean) @ components.T,
        },
        where="learned model",
        joint_names=start.joint_names,
        side=start.side,
        info=start.info | {"learned": f"from {n} registered meshes of {int(subjects.max()) + 1} subjects"},
    )
    report = {
        "meshes": n,
        "subjects": int(subjects.max()) + 1,
        "held_out_meshes": int(held.sum()),
        "noise_mm": 1e3 * full.noise,
        "held_out_error_mm": {
            "skinning": _millimetres(error_skinned),
            "correctives": _millimetres(error_full),
        },
        "ridge": full.ridge,
        "explained": {str(k): space.explained(k) for k in _counts(settings.shapes)},
        "explained_with_noise": {str(k): space.explained_raw(k) for k in _counts(settings.shapes)},
        "shape": shape_metrics(full.rest.templates, _counts(settings.shapes), rng),
        "notes": notes,
    }
    for key in ("generalisation", "specificity"):
        report["shape"][f"{key}_mm"] = [1e3 * value for value in report["shape"].pop(key)]
    return Learned(data, space, report)


@dataclass
class _Fitted:
    data: ModelData
    rest: Rest
    state: State
    noise: float
    """Standard deviation of a coordinate of the meshes, metres."""
    template_noise: float
    """Mean variance of a template's coordinate that comes from it."""
    ridge: float = 0.0


def _alternate(
    data: ModelData,
    meshes: Registered,
    train: np.ndarray,
    settings: LearnSettings,
    *,
    correctives: bool,
    progress: Callable[[str], None],
    before: _Fitted | None = None,
) -> _Fitted:
    """Poses, then joints, templates and correctives, `rounds` times."""
    vertices, subjects = meshes.vertices, meshes.subjects
    chosen = spread_vertices(data, settings.vertices)
    u = int(subjects.max()) + 1
    prior = PosePrior(np.zeros(3 * (len(data.parents) - 1)), np.eye(3 * (len(data.parents) - 1)) / _FREE)
    noise, ridge = 0.001, settings.ridges[len(settings.ridges) // 2]
    if before is None:
        rest = first_rest(data, vertices[train], subjects[train])
        state = None
    else:
        rest, state, noise = before.rest, before.state, before.noise
    used, counts = train, np.bincount(subjects[train], minlength=u)
    for turn in range(settings.rounds):
        posing = Posing(data, chosen, 0)
        if settings.regressor and state is not None:
            expected = np.einsum("jv,uvd->ujd", data.joint_regressor, rest.templates)
            for subject in np.flatnonzero(counts > 2):
                rows = np.flatnonzero((subjects == subject) & used)[:40]
                rest.joints[subject] = move_joints(
                    data,
                    vertices[rows][:, chosen],
                    chosen,
                    Rest(rest.templates[subject : subject + 1, chosen], rest.joints[subject : subject + 1]),
                    state.frames(rows),
                    expected[subject],
                    sigma=max(noise, 2e-4),
                )
            rest.joints = smooth_joints(rest.templates, rest.joints, expected, settings.shapes)
        own = Rest(rest.templates[subjects][:, chosen], rest.joints[subjects])
        if state is None:
            palm = data.weights[chosen, 0] > 0.5
            palm = palm if palm.sum() >= 4 else np.ones(len(chosen), bool)
            state = start_poses(posing, vertices[:, chosen], own, palm, data.pose_mean)
        state = fit_poses(
            posing,
            vertices[:, chosen],
            own,
            state,
            prior,
            sigma=max(noise, 2e-4),
            iterations=25 if turn == 0 and before is None else 8,
        )
        state, stray = refit_strays(
            posing, vertices[:, chosen], own, state, prior, subjects, sigma=max(noise, 2e-4), iterations=25
        )
        used = train & ~stray
        used = used if (np.bincount(subjects[used], minlength=u) > 0).all() else train
        counts = np.bincount(subjects[used], minlength=u)
        unposed = unpose(data, state, rest.joints[subjects], vertices)
        features = pose_features(state.rotations())
        if correctives:
            residuals = unposed - rest.templates[subjects]
            penalty = corrective_penalty(
                data.template, data.joints, data.weights, data.parents, _reach(data, settings)
            )
            ridge = (
                _best_ridge(features, residuals, subjects, penalty, used, settings.ridges)
                if turn in (0, settings.rounds - 1)
                else ridge
            )
            data = data.replace(
                pose_correctives=fit_correctives(
                    features[used], residuals[used], subjects[used], penalty, ridge
                )
            )
            flat = data.pose_correctives.reshape(-1, features.shape[1])
            unposed = unposed - (features @ flat.T).reshape(unposed.shape)
        noise, template_noise = _average(data, rest, unposed, subjects, used, counts)
        state = straighten(data, rest, state, subjects)
        left_out = f", {int(stray.sum())} meshes left out" if stray.any() else ""
        progress(f"round {turn + 1}: {1e3 * noise:.3f} mm left a coordinate{left_out}")
        if not settings.regressor or (turn == 0 and before is None):
            rest.joints = np.einsum("jv,uvd->ujd", data.joint_regressor, rest.templates)
        data = data.replace(template=rest.templates.mean(0))
    return _Fitted(data, rest, state, noise, template_noise, ridge)


def _average(
    data: ModelData,
    rest: Rest,
    unposed: np.ndarray,
    subjects: np.ndarray,
    train: np.ndarray,
    counts: np.ndarray,
) -> tuple[float, float]:
    """New templates, in place: each subject's mean of its unposed meshes, laid on the common template without scaling.

    Joints move along. Returns the standard deviation of a coordinate about its subject's mean, and the variance that it leaves in a template.
    """
    mean = data.template
    spread, freedom = 0.0, 0
    for subject in range(len(rest.templates)):
        rows = unposed[(subjects == subject) & train]
        own = rows.mean(0)
        spread += float(((rows - own) ** 2).sum())
        freedom += 3 * own.shape[0] * (len(rows) - 1)
        rotation, move = kabsch(own, mean)
        rest.templates[subject] = own @ rotation.T + move
        rest.joints[subject] = rest.joints[subject] @ rotation.T + move
    variance = spread / max(freedom, 1)
    return float(np.sqrt(variance)), float(variance * np.mean(1 / np.maximum(counts, 1)))


def _best_ridge(
    features: np.ndarray,
    residuals: np.ndarray,
    subjects: np.ndarray,
    penalty: np.ndarray,
    train: np.ndarray,
    ridges: tuple[float, ...],
) -> float:
    """By two-fold validation over the people with at least two training meshes, on every eighth vertex; of one such person, the middle one."""
    people = np.flatnonzero(np.bincount(subjects[train]) > 1)
    if len(people) < 2:
        return ridges[len(ridges) // 2]
    folds = [np.flatnonzero(train & np.isin(subjects, people[part::2])) for part in (0, 1)]
    some = slice(None, None, 8)
    scores = []
    for ridge in ridges:
        score = 0.0
        for a, b in (folds, folds[::-1]):
            learned = fit_correctives(features[a], residuals[a][:, some], subjects[a], penalty[some], ridge)
            rest = residuals[b][:, some] - np.einsum("nk,vdk->nvd", features[b], learned, optimize=True)
            for subject in np.unique(subjects[b]):
                own = rest[subjects[b] == subject]
                score += float(((own - own.mean(0)) ** 2).sum())
        scores.append(score)
    return ridges[int(np.argmin(scores))]


def _held_out_error(fitted: _Fitted, meshes: Registered, held: np.ndarray, shapes: int) -> float:
    """Mean vertex distance of held-out meshes from the model: subjects are as the model's `shapes` directions give them, poses are fitted,
    and the meshes' vertices took no part in templates or correctives.
    """
    if not held.any():
        return float("nan")
    data, state = fitted.data, fitted.state.frames(np.flatnonzero(held))
    space = learn_shape_space(fitted.rest.templates, shapes)
    templates = space.mean + np.einsum("us,vds->uvd", space.coefficients, space.basis, optimize=True)
    subjects = meshes.subjects[held]
    chosen = spread_vertices(data, 10**9)[:: max(1, len(data.template) // 600)]
    prior = PosePrior(np.zeros(3 * (len(data.parents) - 1)), np.eye(3 * (len(data.parents) - 1)) / _FREE)
    own = Rest(templates[subjects][:, chosen], fitted.rest.joints[subjects])
    state = fit_poses(
        Posing(data, chosen, 0),
        meshes.vertices[held][:, chosen],
        own,
        state,
        prior,
        sigma=max(fitted.noise, 2e-4),
        iterations=8,
    )
    truth = (meshes.vertices if meshes.truth is None else meshes.truth)[held]
    total = 0.0
    posing = Posing(data, None, 0)
    for i in range(len(subjects)):
        rest = templates[subjects[i]][None], fitted.rest.joints[subjects[i]][None]
        one = state.frames(slice(i, i + 1))
        points = posing(one.shape, one.rotations(), one.translation, False, rest=rest).points[
            0, : len(data.template)
        ]
        total += float(np.linalg.norm(points - truth[i], axis=1).mean())
    return total / len(subjects)


def _millimetres(metres: float) -> float | None:
    return None if np.isnan(metres) else 1e3 * metres


def _held_out(subjects: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) bool: `share` of the meshes, never so many that a subject keeps fewer than two."""
    held = np.zeros(len(subjects), bool)
    left = np.bincount(subjects)
    for row in rng.permutation(len(subjects)):
        if held.sum() >= round(share * len(subjects)):
            break
        if left[subjects[row]] > 2:
            held[row] = True
            left[subjects[row]] -= 1
    return held


def _reach(data: ModelData, settings: LearnSettings) -> float:
    return settings.reach or float(np.ptp(data.template, axis=0).max()) / 6


def _counts(shapes: int) -> tuple[int, ...]:
    return tuple(k for k in (1, 2, 3, 5, 7, 10, 15, 20) if k <= shapes)


def _check(start: ModelData, meshes: Registered) -> None:
    v = len(start.template)
    if meshes.vertices.ndim != 3 or meshes.vertices.shape[1:] != (v, 3):
        raise UserError(
            f"meshes: expected (n, {v}, 3), the starting model's topology, found {meshes.vertices.shape}"
        )
    if not np.isfinite(meshes.vertices).all():
        bad = int(np.flatnonzero(~np.isfinite(meshes.vertices).all((1, 2)))[0])
        raise UserError(
            f"meshes: expected finite vertices, found NaN or infinity in mesh {meshes.names[bad] if meshes.names else bad}"
        )
    if len(np.unique(meshes.subjects)) < 2:
        raise UserError("meshes: expected at least 2 subjects, found 1; a shape space needs several")
