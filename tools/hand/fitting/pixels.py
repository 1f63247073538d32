"""Fitting to pixels of keypoints in one or many views: rays meet in space, a fit of those points is the start, pixels decide."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ....fields.articulated.model_data import ModelData
from ....render.cameras import Cameras
from .fit import Fit, Settings, anneal, extras_of, finish, fit_keypoints, problem_of, settle_noise
from .initial import rest_state
from .keypoints import Keypoints
from .posing import Posing
from .priors import Smoothness
from .solver import solve, total_cost
from .starts import turns_of_a_cube
from .state import State
from .terms import Keypoints2d

__all__ = ["fit_pixels", "pixel_term", "triangulate"]

_AGREES = 20.0
"""Pixels: a view farther than this from where two others put a point does not count for them."""


def pixel_term(
    cameras: Cameras,
    mixture: np.ndarray,  # (m, n)
    pixels: np.ndarray,  # (b, c, m, 2), NaN where not seen
    confidence: np.ndarray | None = None,  # (b, c, m)
) -> Keypoints2d:
    """The term for these pixels; pixels through which a lens sees nothing are left out."""
    frames, views, count, _ = pixels.shape
    directions = np.full((frames, views, count, 3), np.nan)
    for view in range(views):
        flat = torch.from_numpy(np.nan_to_num(pixels[:, view]).reshape(-1, 2))
        local = cameras.unproject(flat, torch.full((len(flat),), view)).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            local = np.where(local[:, 2:] > 1e-6, local / local[:, 2:], np.nan)
        directions[:, view] = np.where(
            np.isfinite(pixels[:, view]).all(-1, keepdims=True), local.reshape(frames, count, 3), np.nan
        )
    # the focal length of any lens near its axis: pixels per unit of x / z
    step = 1e-4
    middle = torch.tensor([[0.0, 0.0, 1.0], [step, 0.0, 1.0], [0.0, step, 1.0]], dtype=torch.float64)
    still = Cameras(
        cameras.models, cameras.params, cameras.sizes, torch.eye(4, dtype=torch.float64).expand(views, 4, 4)
    )
    focal = np.empty((views, 2))
    for view in range(views):
        at = still.project(middle, torch.full((3,), view))[0].numpy()
        focal[view] = np.linalg.norm(at[1:] - at[0], axis=1) / step
    return Keypoints2d(
        directions=directions,
        world_to_camera=torch.linalg.inv(cameras.camera_to_world).numpy(),
        focal=focal,
        mixture=mixture,
        confidence=np.ones((frames, views * count)) if confidence is None else confidence.reshape(frames, -1),
    )


def triangulate(term: Keypoints2d) -> np.ndarray:  # (b, m, 3), NaN where fewer than two views see a point
    """Each point from the pair of views that most other views agree with: the middle of where the two rays are nearest."""
    frames, views, count, _ = term.directions.shape
    seen = term.confidence.reshape(frames, views, count) > 0
    to_world = np.linalg.inv(term.world_to_camera)
    origin = to_world[:, :3, 3]
    ray = np.einsum("vij,bvmj->bvmi", to_world[:, :3, :3], term.directions)
    best, found = np.full((frames, count), np.inf), np.full((frames, count, 3), np.nan)
    for i, k in combinations(range(views), 2):
        d, e = ray[:, i], ray[:, k]
        between = origin[i] - origin[k]
        dd, ee, de = (d * d).sum(-1), (e * e).sum(-1), (d * e).sum(-1)
        scale = dd * ee - de**2
        with np.errstate(divide="ignore", invalid="ignore"):
            s = (de * (e * between).sum(-1) - ee * (d * between).sum(-1)) / scale
            t = (dd * (e * between).sum(-1) - de * (d * between).sum(-1)) / scale
            middle = (origin[i] + s[..., None] * d + origin[k] + t[..., None] * e) / 2
        good = seen[:, i] & seen[:, k] & (scale > 1e-6 * dd * ee) & (s > 0) & (t > 0)
        local = np.einsum("vij,bmj->bvmi", term.world_to_camera[:, :3, :3], np.nan_to_num(middle))
        local = local + term.world_to_camera[:, None, :3, 3]
        offset = (local[..., :2] / np.maximum(local[..., 2:], 1e-3) - term.directions[..., :2]) * term.focal[
            :, None
        ]
        error = np.minimum(np.linalg.norm(offset, axis=-1), _AGREES)
        score = np.where(good, np.where(seen, error, 0).sum(1), np.inf)
        better = score < best
        best[better], found[better] = score[better], middle[better]
    return found


def fit_pixels(
    data: ModelData,
    keypoints: Keypoints,
    cameras: Cameras,
    pixels: np.ndarray,  # (b, c, m, 2), NaN where not seen
    settings: Settings | None = None,
    *,
    confidence: np.ndarray | None = None,  # (b, c, m)
) -> Fit:
    """One subject in c still cameras, one or many frames. Sigma and distances are pixels.

    A single view leaves depth to the known (or mean) size of the hand; a UserError where a frame shows fewer than four keypoints.
    """
    settings = settings or Settings()
    count = len(keypoints.mixture)
    if pixels.ndim != 4 or pixels.shape[1:] != (len(cameras), count, 2):
        raise UserError(f"pixels: expected (frames, {len(cameras)}, {count}, 2), found {pixels.shape}")
    term = pixel_term(cameras, keypoints.mixture, pixels, confidence)
    seen = (term.confidence.reshape(len(pixels), -1, count) > 0).any(1).sum(1)
    if seen.min() < 4 and settings.smooth_angle is None:
        raise UserError(
            f"pixels: expected at least 4 keypoints that are seen, found {seen.min()} in frame {int(seen.argmin())}"
        )
    points = triangulate(term)
    posing = Posing(data, keypoints.vertices, settings.shape_count(data))
    problem = problem_of(data, posing, [term], settings, extras_of(data, posing, settings))
    if np.isfinite(points).all(-1).sum(1).min() >= 4:
        state = fit_keypoints(data, keypoints, points, replace(settings, sigma=None)).state
    else:
        state = _from_one_view(problem, posing, term, len(pixels))
    if settings.shape is not None:
        state = replace(state, shape=np.asarray(settings.shape, np.float64))
    term.sigma = 2.0 if settings.sigma is None else settings.sigma
    state = anneal(
        problem,
        state,
        (max(40 / term.sigma, settings.robust), max(10 / term.sigma, settings.robust), settings.robust),
    )
    if settings.smooth_angle is not None and len(state) > 2:
        problem.smoothness = Smoothness(settings.smooth_angle, settings.smooth_translation)
    if settings.sigma is None:
        state = settle_noise(problem, state, [term], smallest=1e-3)
    solved = solve(problem, state, iterations=40)
    return finish(problem, solved.state, term, solved.iterations)


def _from_one_view(problem: object, posing: Posing, term: Keypoints2d, frames: int) -> State:
    """The best end of short solves from 24 directions, at the distance at which the hand would look as large as it does."""
    ends = []
    for frame in range(frames):
        rest = rest_state(posing, 1, problem.pose.mean)
        model = (
            term.mixture @ posing(rest.shape, rest.rotations(), rest.translation, jacobian=False).points[0]
        )
        seen = term.confidence.reshape(frames, len(term.focal), -1)[frame] > 0
        view = int(seen.sum(1).argmax())
        rows = seen[view]
        flat = term.directions[frame, view, rows]
        spread = lambda p: np.sqrt(((p - p.mean(0)) ** 2).sum(1).mean())  # noqa: E731
        distance = spread(model[rows]) / max(spread(flat[:, :2]), 1e-6)
        to_world = np.linalg.inv(term.world_to_camera[view])
        centre = to_world[:3, :3] @ (flat.mean(0) * distance) + to_world[:3, 3]
        one = replace(
            term,
            directions=term.directions[frame : frame + 1],
            confidence=term.confidence[frame : frame + 1],
            sigma=10.0,
            scale=5.0,
        )
        best = (np.inf, None)
        for turn in turns_of_a_cube():
            rotation = to_world[:3, :3] @ turn
            root = posing.joint_template[0]
            middle = rotation @ (model[rows].mean(0) - root) + root
            start = replace(rest, root=rotation[None], translation=(centre - middle)[None])
            trial = replace(problem, terms=[one], smoothness=None)
            end = solve(trial, start, iterations=12, tolerance=1e-3).state
            best = min(best, (total_cost(trial, end), end), key=lambda found: found[0])
        ends.append(best[1])
    shape = np.mean([end.shape for end in ends], 0)
    return State(
        shape, *(np.concatenate([getattr(end, k) for end in ends]) for k in ("root", "angles", "translation"))
    )
