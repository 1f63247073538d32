"""A part laid onto a reference, so that regions drawn there hold the same surfaces: principal axes, then point-to-plane ICP.

ICP: Chen and Medioni, "Object modelling by registration of multiple range images", IVC 10 (1992) 145, on the closest 80 % of the pairs. The
alignment only chooses which points belong to which feature; what is measured refers to datums, not to it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .cloud import Cloud
from .errors import NotMeasurable
from .neighbours import local_normals, neighbour_table
from .sampling import even_subset

__all__ = ["align", "pose_onto"]

_REFERENCE, _PART, _QUICK = 20_000, 6000, 800  # points
_KEPT = 0.8  # of the pairs: scans show what the reference lacks, and the other way round
_ALIKE = (
    1.15  # ratio of the spreads along two principal axes up to which the turn about the third is searched
)
_TURNS = 36
_REFINED = 6
_WORST = 0.02  # of the reference's extent: mean distance from which the part is another one
_DISTINCT_DEG = 5.0


def align(cloud: Cloud, reference: Cloud, rng: np.random.Generator) -> tuple[Cloud, list[str]]:
    """The cloud in the reference's frame, and warnings. Units must be the same already. Raises as `pose_onto` does."""
    pose, warnings = pose_onto(cloud.world_points, reference.world_points, rng)
    turn, shift = pose[:3, :3], pose[:3, 3]
    move = shift - reference.origin
    points = cloud.world_points @ turn.T + move
    normals = None if cloud.normals is None else cloud.normals @ turn.T
    viewpoint = None if cloud.viewpoint is None else turn @ (cloud.viewpoint + cloud.origin) + move
    return replace(
        cloud,
        points=np.ascontiguousarray(points),
        origin=reference.origin,
        normals=normals,
        viewpoint=viewpoint,
    ), warnings


def pose_onto(
    points: np.ndarray,  # (n, 3)
    reference: np.ndarray,  # (m, 3) in the same unit
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[str]]:
    """(4, 4) that takes the points to the reference, and a warning where another pose fits as well (a symmetric part).

    Raises `NotMeasurable` where no pose fits. Both must show about the same part: principal axes know no other start.
    """
    from scipy.spatial import cKDTree

    target = np.ascontiguousarray(reference[even_subset(reference, _REFERENCE, rng)])
    part = np.ascontiguousarray(rng.permutation(points[even_subset(points, _PART, rng)]))
    tree, normals = cKDTree(target), local_normals(target, neighbour_table(target, 12)[0])
    extent = float(np.linalg.norm(np.ptp(target, axis=0)))
    quick = part[:_QUICK]
    starts = _starts(part, target)
    scores = np.array([_score(tree, _moved(quick, pose)) for pose in starts])
    found = []
    for i in np.argsort(scores)[:_REFINED]:
        pose = _icp(quick, tree, target, normals, starts[i], 25)
        found.append((_score(tree, _moved(quick, pose)), pose))
    found.sort(key=lambda item: item[0])
    pose = _icp(part, tree, target, normals, found[0][1], 40)
    score = _score(tree, _moved(part, pose))
    spacing = float(np.median(tree.query(target[:: max(1, len(target) // 500)], k=2)[0][:, 1]))
    if score > _WORST * extent + spacing:
        raise NotMeasurable(
            f"the part does not lie on the reference in any pose: {score:.3g} apart on average, {_WORST * extent + spacing:.3g} allowed; is it "
            "the same part, seen whole, in the same unit?"
        )
    warnings = []
    for other, turned in found[1:]:
        apart = np.degrees(
            np.arccos(np.clip((np.trace(turned[:3, :3].T @ found[0][1][:3, :3]) - 1) / 2, -1, 1))
        )
        if apart > _DISTINCT_DEG and other < 1.1 * found[0][0]:
            warnings.append(
                f"aligned, but the part fits the reference as well when turned by {apart:.0f} deg: which of its alike features is which is chance"
            )
            break
    return pose, warnings


def _starts(part: np.ndarray, target: np.ndarray) -> list[np.ndarray]:
    """Poses that lay principal axes on principal axes, in all senses; turned about an axis the others are alike across."""
    (a, from_axes, _), (b, to_axes, spread) = _principal(part), _principal(target)
    flips = [np.diag(s) for s in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))]
    turns = [np.eye(3)]
    for i, j in ((0, 1), (1, 2)):
        if spread[j] < _ALIKE * spread[i]:
            for step in range(1, _TURNS):
                c, s = np.cos(2 * np.pi * step / _TURNS), np.sin(2 * np.pi * step / _TURNS)
                turn = np.eye(3)
                turn[i, i], turn[j, j], turn[i, j], turn[j, i] = c, c, -s, s
                turns.append(turn)
    poses = []
    for flip in flips:
        for turn in turns:
            pose = np.eye(4)
            pose[:3, :3] = to_axes @ turn @ flip @ from_axes.T
            pose[:3, 3] = b - pose[:3, :3] @ a
            poses.append(pose)
    return poses


def _principal(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centroid, right-handed axes as columns by rising spread, and the spreads."""
    centre = points.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((points - centre).T))
    vectors[:, 0] *= np.linalg.det(vectors)
    return centre, vectors, np.sqrt(np.maximum(values, 0))


def _moved(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return points @ pose[:3, :3].T + pose[:3, 3]


def _score(tree, points: np.ndarray) -> float:
    """Mean distance to the reference of the closest part of the points."""
    distance = np.sort(tree.query(points)[0])
    return float(distance[: max(1, int(_KEPT * len(distance)))].mean())


def _icp(part, tree, target, normals, pose: np.ndarray, rounds: int) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    for _ in range(rounds):
        moved = _moved(part, pose)
        distance, index = tree.query(moved)
        kept = distance <= np.quantile(distance, _KEPT)
        p, n = moved[kept], normals[index[kept]]
        centre = p.mean(axis=0)
        design = np.hstack([np.cross(p - centre, n), n])
        away = ((target[index[kept]] - p) * n).sum(axis=1)
        reach = max(float(np.abs(p - centre).max()), 1e-300)
        scale = np.array([reach, reach, reach, 1.0, 1.0, 1.0])  # turns in units of length
        scaled = design / scale
        step = np.linalg.lstsq(scaled.T @ scaled, scaled.T @ away, rcond=1e-10)[0] / scale
        turn = Rotation.from_rotvec(step[:3]).as_matrix()
        update = np.eye(4)
        update[:3, :3] = turn
        update[:3, 3] = centre + step[3:] - turn @ centre
        pose = update @ pose
        if np.linalg.norm(step[:3]) < 1e-7 and np.linalg.norm(step[3:]) < 1e-7 * reach:
            break
    return pose
