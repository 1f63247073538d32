"""Where a fit of a surface starts: typical poses laid into the scan from all sides, the likeliest of them bent onto it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.vq import kmeans2

from ....fields.articulated.model_data import ModelData
from .bending import CLOSELY, POINTS, ROUGHLY, Bend, Target
from .closest import vertex_normals
from .initial import kabsch, rest_state
from .misfit import Misfit, posed_vertices
from .posing import Posing
from .priors import pose_prior
from .repose import Fingers
from .so3 import exp
from .state import State

if TYPE_CHECKING:
    from .scan import Scan

__all__ = [
    "Start",
    "directions",
    "principal_axes",
    "surface_starts",
    "turns_of_a_cube",
    "typical_poses",
]


@dataclass(frozen=True)
class Start:
    """A placement of the model and how far it leaves model and scan apart, metres."""

    score: float
    state: State


def surface_starts(
    data: ModelData,
    scan: Scan,
    shape: np.ndarray | None = None,  # (s,) known, or None
    *,
    shapes: int = 10,
    bent: int = 20,  # how many placements are bent onto the scan
    searched: int = 4,  # of the likeliest of these, single fingers are put elsewhere
) -> list[Start]:
    """Best first, each clearly another one. Every typical pose is laid in from all `directions` by a few rigid steps towards the closest points;
    the closest placements get articulated steps. Closest in place and, where the scan knows them, in normals, and both ways:
    a palm seen from the front is not explained by a back. Which of them explain the scan is judged by `Misfit`.
    """
    shapes = min(shapes, data.shape_basis.shape[2]) if shape is None else len(shape)
    full = Posing(data, None, shapes)
    target, misfit = Target(scan), Misfit(full, scan)
    axes, found = principal_axes(target.points), []
    chosen = np.arange(0, len(data.template), max(1, len(data.template) // POINTS))
    for pose in typical_poses(data):
        base = rest_state(full, 1, pose)
        base = base if shape is None else replace(base, shape=np.asarray(shape, np.float64))
        vertices = posed_vertices(full, base)
        points, normals = vertices[chosen], vertex_normals(vertices, data.faces)[chosen]
        own = principal_axes(points)
        for turn in directions():
            rotation = axes @ turn @ own.T
            score, rotation, move = _laid(target, points, normals, rotation, None, 2)
            found.append((score, base, points, normals, rotation, move))
    found.sort(key=lambda item: item[0])
    closer = []
    for _, base, points, normals, rotation, move in found[: 6 * bent]:
        score, rotation, move = _laid(target, points, normals, rotation, move, 6)
        if scan.view is not None:
            score = misfit.surface(posed_vertices(full, base) @ rotation.T + move)
        closer.append((score, base, points @ rotation.T + move, rotation, move))
    closer.sort(key=lambda item: item[0])
    root, bend = full.joint_template[0], Bend(full, scan, shape is None)
    starts = []
    for _, base, _, rotation, move in _distinct(closer, lambda item: item[2], bent, 0.012):
        at = full.joint_basis[0] @ base.shape + root
        end = bend(replace(base, root=rotation[None], translation=(rotation @ at + move - at)[None]), ROUGHLY)
        starts.append(Start(misfit(end), end))
    starts.sort(key=lambda start: start.score)
    for i, start in enumerate(starts[: max(6, bent // 2)]):
        end = bend(start.state, CLOSELY)
        starts[i] = Start(misfit(end), end)

    def ordered() -> list[Start]:
        starts.sort(key=lambda start: start.score)
        return _distinct(starts, lambda start: posed_vertices(full, start.state), len(starts), 0.006)

    starts, fingers = ordered(), Fingers(data)
    # scans from all sides leave fewer wrong fingers, and are costlier to judge
    for i, start in enumerate(_likely(starts)[: searched if scan.view is not None else 0]):
        starts[i] = Start(*fingers.searched(start.state, misfit, lambda state: bend(state, CLOSELY)))
    return _likely(ordered())


def _likely(starts: list[Start]) -> list[Start]:
    """Those whose misfit, best first, is not hopelessly worse than the best one's."""
    return [start for start in starts if start.score <= 2 * starts[0].score + 0.002]


def typical_poses(data: ModelData, count: int = 7) -> list[np.ndarray]:
    """Axis-angles (3 (j - 1),): straight, the mean, and what `count` clusters of the model's recorded poses have in common."""
    mean = pose_prior(data).mean
    poses = [np.zeros_like(mean), mean]
    if len(data.pose_coefficients) >= 4 * count:
        recorded = data.pose_mean + data.pose_coefficients @ data.pose_components
        centres, label = kmeans2(recorded, count, minit="++", rng=np.random.default_rng(0))
        poses += [centre for i, centre in enumerate(centres) if (label == i).any()]
    return poses


def directions() -> list[np.ndarray]:
    """72 rotations: those of the icosahedron (every direction is within 45 degrees of one) and of the cube (all flips and rolls by 90 degrees)."""
    fifth = exp(np.array([[0.0, 1.0, (1 + 5**0.5) / 2]]) / np.hypot(1, (1 + 5**0.5) / 2) * 2 * np.pi / 5)[0]
    third = np.roll(np.eye(3), 1, axis=0)
    found = [np.eye(3)]
    for turn in found:  # grows while it is walked: the closure of the two generators
        for step in (fifth, third):
            _add_new(found, turn @ step)
    for turn in turns_of_a_cube():
        _add_new(found, turn)
    return found


def turns_of_a_cube() -> list[np.ndarray]:
    """The 24 proper rotations of a cube."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            turn = np.zeros((3, 3))
            turn[range(3), order] = signs
            if np.linalg.det(turn) > 0:
                found.append(turn)
    return found


def _add_new(found: list[np.ndarray], turn: np.ndarray) -> None:
    if all(np.abs(turn - other).max() > 1e-6 for other in found):
        found.append(turn)


def _laid(
    target: Target,
    points: np.ndarray,
    normals: np.ndarray,
    rotation: np.ndarray,
    move: np.ndarray | None,  # None: middle onto middle
    steps: int,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Rigid steps towards the closest points: score, rotation and translation."""
    if move is None:
        turned, counts = points @ rotation.T, slice(None)
        if target.scan.origin is not None:
            toward = target.scan.origin - target.points.mean(0)
            facing = normals @ rotation.T @ toward > 0
            counts = facing if facing.sum() > 8 else counts
        move = target.points.mean(0) - turned[counts].mean(0)
    for step in range(steps + 1):
        placed, turned = points @ rotation.T + move, normals @ rotation.T
        counts, near, to_scan, back, to_model = target.compared(placed, turned)
        if step == steps:
            break
        source = np.concatenate((points[counts], points[back]))
        goal = np.concatenate((target.points[near], target.points))
        weight = 1 / (1 + np.concatenate((to_scan, to_model)) ** 2 / 0.015**2) ** 2
        rotation, move = kabsch(source, goal, weight)
    return target.score(placed, to_scan, to_model), rotation, move


def _distinct(items: list, vertices_of, most: int, apart: float) -> list:
    """The first of `items` whose vertices are on average `apart` metres or more from those of all before."""
    kept, places = [], []
    for item in items:
        vertices = vertices_of(item)
        if all(np.linalg.norm(vertices - other, axis=1).mean() > apart for other in places):
            kept.append(item)
            places.append(vertices)
        if len(kept) == most:
            break
    return kept


def principal_axes(points: np.ndarray) -> np.ndarray:
    """(3, 3) right-handed principal axes as columns, longest first."""
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2].T
    return axes * np.array([1, 1, np.sign(np.linalg.det(axes))])
