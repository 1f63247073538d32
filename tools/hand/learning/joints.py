"""Where the joints of learned subjects are, and the sparse regressor that finds them from a rest shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from ....fields.articulated.model_data import ModelData
from ..fitting.posing import Posing
from ..fitting.state import State
from .unposing import Rest

__all__ = ["fit_regressor", "move_joints", "smooth_joints"]


def move_joints(
    data: ModelData,
    meshes: np.ndarray,  # (n, m, 3) chosen vertices of one subject's meshes
    chosen: np.ndarray,  # (m,)
    rest: Rest,  # of the subject: (1, m, 3), (1, j, 3)
    state: State,  # n frames
    expected: np.ndarray,  # (j, 3) where the shape says that joints are
    *,
    sigma: float,
    spread: float = 0.003,  # metres: how far joints are believed to be from what is expected
    together: float = 10.0,  # so many neighbouring vertices err alike: what skinning cannot do is no noise
) -> np.ndarray:  # (j, 3)
    """The rest joints that best explain how the meshes move: one Gauss-Newton step on joints and poses together.

    Poses are eliminated frame by frame, which is why the step is right although they change too. What the meshes do not show, such as
    the place of a hinge along its axis, or that of a joint that hardly turns, stays as expected; the pull is towards `expected`, not towards
    where the joints are, so that steps taken again and again do not drift.
    """
    sigma = sigma * np.sqrt(together)
    joints = len(data.parents)
    m = len(chosen)
    basis = np.zeros((len(data.template), 3, 3 * joints))
    posing = Posing(data.replace(shape_basis=basis), chosen, 3 * joints)
    posing.joint_basis = np.eye(3 * joints).reshape(joints, 3, 3 * joints)
    place = (np.repeat(rest.templates, len(meshes), 0), np.repeat(rest.joints, len(meshes), 0))
    wide = replace(state, shape=np.zeros(3 * joints))
    moved = posing(wide.shape, wide.rotations(), wide.translation, rest=place)
    by_shape, by_frame = (
        part[:, :m].reshape(len(meshes), 3 * m, -1) / sigma for part in wide.jacobian(moved)
    )
    residuals = ((moved.points[:, :m] - meshes) / sigma).reshape(len(meshes), -1)
    turned = by_frame.swapaxes(1, 2)
    frames = turned @ by_frame + 1e-6 * np.eye(by_frame.shape[-1])
    right = np.concatenate(((turned @ residuals[..., None]), turned @ by_shape), -1)
    solved = np.linalg.solve(frames, right)
    flat = by_shape.reshape(-1, 3 * joints)
    cross = by_shape.swapaxes(1, 2) @ by_frame
    normal = flat.T @ flat - (cross @ solved[..., 1:]).sum(0) + np.eye(3 * joints) / spread**2
    gradient = flat.T @ residuals.reshape(-1) - (cross @ solved[..., :1]).sum(0)[:, 0]
    gradient += (rest.joints[0] - expected).reshape(-1) / spread**2
    return rest.joints[0] - np.linalg.solve(normal, gradient).reshape(joints, 3)


def smooth_joints(
    templates: np.ndarray,  # (u, v, 3)
    joints: np.ndarray,  # (u, j, 3) as each subject's own meshes have them
    expected: np.ndarray,  # (u, j, 3) as the regressor has them
    shapes: int,
) -> np.ndarray:  # (u, j, 3)
    """The regressor's joints, corrected by linear functions of the shape: what one subject's meshes leave open, the others tell.

    A third as many directions as subjects at most, so that the functions are determined several times over.
    """
    count = len(templates)
    kept = min(shapes, count // 3)
    centred = (templates - templates.mean(0)).reshape(count, -1)
    left = np.linalg.svd(centred, full_matrices=False)[0][:, :kept]
    apart = joints - expected
    mean = apart.mean(0)
    return expected + mean + (left @ (left.T @ (apart - mean).reshape(count, -1))).reshape(joints.shape)


def fit_regressor(
    templates: np.ndarray,  # (u, v, 3)
    joints: np.ndarray,  # (u, j, 3)
    start: np.ndarray,  # (j, v) the regressor to stay near where subjects do not tell
    *,
    most: int = 200,
) -> np.ndarray:  # (j, v)
    """Non-negative least squares of each joint on the `most` vertices nearest to it, rows summing to 1 (Loper et al. 2015, section 4.4).

    A tenth of the weight goes on staying with `start`'s joint of the mean shape and on the sum.
    """
    mean = templates.mean(0)
    result = np.zeros_like(start)
    for joint in range(len(start)):
        centre = joints[:, joint].mean(0)
        near = np.argsort(np.linalg.norm(mean - centre, axis=1))[:most]
        near = np.union1d(near, np.flatnonzero(start[joint] > 1e-6))
        scale = 1 / max(float(np.std(templates[:, near] - mean[near])), 1e-6)
        rows = [templates[:, near].transpose(0, 2, 1).reshape(-1, len(near)) * scale]
        right = [joints[:, joint].reshape(-1) * scale]
        # a prior towards the start where the subjects leave the weights open, and the sum as a heavy row
        rows += [0.3 * np.eye(len(near)), np.full((1, len(near)), 1e4)]
        right += [0.3 * start[joint, near], np.array([1e4])]
        weights, _ = nnls(np.concatenate(rows), np.concatenate(right), maxiter=20 * len(near))
        result[joint, near] = weights / weights.sum()
    return result
