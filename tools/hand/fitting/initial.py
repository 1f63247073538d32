"""Where a fit of keypoints starts: the palm (or pelvis) by consensus, then each joint by the direction of its bones."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .keypoints import Keypoints
from .posing import Posing
from .so3 import exp, log
from .state import State

__all__ = ["initial_state", "kabsch", "rest_state"]

_AGREES = 0.02
"""Metres: a palm point farther than this from where the others put it counts as wrong."""
_BONE_RATIO = (0.6, 1.6)
"""Observed over expected length of a bone that is believed."""


def rest_state(posing: Posing, frames: int, mean: np.ndarray) -> State:
    """b frames of the mean shape in the pose `mean` (3 (j - 1),) at the origin."""
    joints = len(posing.parents)
    return State(
        np.zeros(posing.shape_count),
        np.tile(np.eye(3), (frames, 1, 1)),
        np.tile(mean.reshape(1, joints - 1, 3), (frames, 1, 1)),
        np.zeros((frames, 3)),
    )


def kabsch(
    source: np.ndarray,  # (n, 3)
    target: np.ndarray,  # (n, 3)
    weights: np.ndarray | None = None,  # (n,)
    centred: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation with least squares |R source + t - target| (Kabsch 1976); t is 0 unless `centred`."""
    weights = np.ones(len(source)) if weights is None else weights
    if centred:
        a, b = (np.average(p, axis=0, weights=weights) for p in (source, target))
    else:
        a = b = np.zeros(3)
    u, _, vt = np.linalg.svd((target - b).T @ ((source - a) * weights[:, None]))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return rotation, b - rotation @ a


def initial_state(
    posing: Posing,
    keypoints: Keypoints,
    targets: np.ndarray,  # (b, m, 3), NaN where not seen
    mean: np.ndarray,  # (3 (j - 1),) the pose to keep where nothing is seen
) -> State:
    """One frame after the other, in closed form. Robust against outliers on the palm and implausible bones."""
    start = rest_state(posing, len(targets), mean)
    rotations = start.rotations()[:1]
    rest = posing(start.shape, rotations, np.zeros((1, 3)), jacobian=False).points[0]
    flat = posing(
        start.shape, np.tile(np.eye(3), (1, *rotations.shape[1:2], 1, 1)), np.zeros((1, 3)), False
    ).points[0]
    for frame, seen in enumerate(targets):
        _place(start, frame, posing, keypoints, keypoints.mixture @ rest, seen)
        _bend(start, frame, posing, keypoints, keypoints.mixture @ flat, flat[len(posing.vertices) :], seen)
    return start


def _place(
    state: State, frame: int, posing: Posing, keypoints: Keypoints, rest: np.ndarray, seen: np.ndarray
) -> None:
    """The root: among all triples of rigid points the one that most of them agree with."""
    valid = np.isfinite(seen).all(1)
    rigid = np.array([owner <= 0 or posing.parents[owner] == 0 for owner in keypoints.owner])
    one_joint = keypoints.mixture[:, len(posing.vertices) :].max(1) > 0.999
    palm = np.flatnonzero(rigid & valid & one_joint)
    if len(palm) < 3:
        palm = np.flatnonzero(valid)
    if len(palm) < 3:
        if len(palm):
            state.translation[frame] = (seen[palm] - rest[palm]).mean(0)
        return
    best, chosen = np.inf, palm
    for triple in combinations(palm[:8], 3):
        rotation, move = kabsch(rest[list(triple)], seen[list(triple)])
        distance = np.linalg.norm(rest[palm] @ rotation.T + move - seen[palm], axis=1)
        score = np.minimum(distance, _AGREES).sum()
        if score < best:
            best, chosen = score, palm[distance < _AGREES]
    if len(chosen) < 3:
        chosen = palm
    rotation, move = kabsch(rest[chosen], seen[chosen])
    root = posing.joint_template[0]
    state.root[frame] = rotation
    state.translation[frame] = rotation @ root + move - root


def _bend(
    state: State,
    frame: int,
    posing: Posing,
    keypoints: Keypoints,
    rest: np.ndarray,  # (m, 3) keypoints with every joint at zero
    rest_joints: np.ndarray,  # (j, 3)
    seen: np.ndarray,
) -> None:
    """Joint by joint from the root: turn it so that the bones below it point where they are seen to point."""
    joints = len(posing.parents)
    turned = np.empty((joints, 3, 3))
    placed = np.empty((joints, 3))
    turned[0] = state.root[frame]
    placed[0] = rest_joints[0] + state.translation[frame]
    at_joint = {
        int(k): i
        for i, k in enumerate(keypoints.owner)
        if keypoints.mixture[i, len(posing.vertices) + k] > 0.999
    }
    for joint in range(1, joints):
        parent = posing.parents[joint]
        placed[joint] = placed[parent] + turned[parent] @ (rest_joints[joint] - rest_joints[parent])
        here = at_joint.get(joint)
        centre = placed[joint]
        if here is not None and np.isfinite(seen[here]).all():
            centre = seen[here] if np.linalg.norm(seen[here] - centre) < 3 * _AGREES else centre
        below = [at_joint[k] for k in range(joints) if posing.parents[k] == joint and k in at_joint]
        below += [i for i, k in enumerate(keypoints.owner) if k == joint and at_joint.get(joint) != i]
        source, target = [], []
        for i in below:
            expected, found = rest[i] - rest_joints[joint], seen[i] - centre
            length, ratio = np.linalg.norm(expected), np.linalg.norm(found)
            if np.isfinite(ratio) and length > 1e-6 and _BONE_RATIO[0] < ratio / length < _BONE_RATIO[1]:
                source.append(turned[parent] @ expected / length)
                target.append(found / ratio)
        if not source:
            turned[joint] = turned[parent] @ exp(state.angles[frame, joint - 1])
            continue
        if len(source) == 1:
            axis = np.cross(source[0], target[0])
            sine, cosine = np.linalg.norm(axis), source[0] @ target[0]
            turn = exp(axis / max(sine, 1e-12) * np.arctan2(sine, cosine)) if sine > 1e-9 else np.eye(3)
        else:
            turn, _ = kabsch(np.array(source), np.array(target), centred=False)
        local = log((turned[parent].T @ turn @ turned[parent])[None])[0]
        if np.linalg.norm(local) > 2.4:  # no joint bends so far: the keypoints are wrong here
            local = state.angles[frame, joint - 1]
        state.angles[frame, joint - 1] = local
        turned[joint] = turned[parent] @ exp(local)
