"""Where a fit of a surface starts: typical poses laid into the scan from all sides, the likeliest of them bent onto it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from ....fields.articulated.model_data import ModelData
from .closest import NearestOnMesh, vertex_normals
from .free_space import drawn_back
from .initial import kabsch, rest_state
from .limits import hand_limits
from .posing import Posing
from .priors import ShapePrior, pose_prior
from .so3 import exp
from .solver import Problem, solve
from .state import State
from .terms import Linearised, Term

if TYPE_CHECKING:
    from .scan import Scan

__all__ = [
    "Start",
    "directions",
    "principal_axes",
    "surface_score",
    "surface_starts",
    "turns_of_a_cube",
    "typical_poses",
]

_FAR = 0.03
"""Metres at which being farther apart makes no difference."""
_TURNED = 0.02
"""Metres that a normal turned by a radian is away: palm and back, and two sides of a finger, are near but not alike."""
_POINTS = 200
"""Points of scan and model that are compared; twice as many where poses are bent."""


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
    bent: int = 24,  # how many placements are bent onto the scan
) -> list[Start]:
    """Best first, each clearly another one. Every typical pose is laid in from all `directions` by a few rigid steps towards the closest points;
    the closest placements get articulated steps. Closest in place and, where the scan knows them, in normals, and both ways:
    a palm seen from the front is not explained by a back.
    """
    shapes = min(shapes, data.shape_basis.shape[2]) if shape is None else len(shape)
    full = Posing(data, None, shapes)
    target = _Target(scan)
    axes, found = principal_axes(target.points), []
    chosen = np.arange(0, len(data.template), max(1, len(data.template) // _POINTS))
    for pose in typical_poses(data):
        base = rest_state(full, 1, pose)
        base = base if shape is None else replace(base, shape=np.asarray(shape, np.float64))
        vertices = _vertices(full, base)
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
        closer.append((score, base, points @ rotation.T + move, rotation, move))
    closer.sort(key=lambda item: item[0])
    root, bend = full.joint_template[0], _Bend(full, scan, shape is None)
    starts = []
    for _, base, _, rotation, move in _distinct(closer, lambda item: item[2], bent, 0.012):
        at = full.joint_basis[0] @ base.shape + root
        starts.append(bend(replace(base, root=rotation[None], translation=(rotation @ at + move - at)[None])))
    starts.sort(key=lambda start: start.score)
    return _distinct(starts, lambda start: _vertices(full, start.state), len(starts), 0.006)


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


def surface_score(data: ModelData, vertices: np.ndarray, scan: Scan, count: int = 600) -> float:
    """Metres: mean distance from scan to surface and, of a complete scan, from vertices to the scan, cut off at `_FAR`.

    Points that meet a surface facing the other way, and vertices where the camera saw through, count as far.
    """
    step = max(1, len(scan.points) // count)
    face, _, distance = NearestOnMesh(data.faces, len(vertices))(vertices, scan.points[::step])
    distance = np.minimum(distance, _FAR)
    if scan.normals is not None and scan.signed:
        a, b, c = vertices[data.faces[face]].swapaxes(0, 1)
        away = (np.cross(b - a, c - a) * scan.normals[::step]).sum(1) < 0
        distance[away] = _FAR
    score = distance.mean()
    if scan.complete:
        score += np.minimum(cKDTree(scan.points).query(vertices)[0], _FAR).mean()
    if scan.empty is not None:
        score += _FAR * scan.empty(vertices).mean()
    return float(score)


class _Target:
    """A scan's points, thinned, as features: places and, where their sign is known, normals."""

    def __init__(self, scan: Scan, count: int = _POINTS) -> None:
        step = max(1, len(scan.points) // count)
        self.scan, self.points = scan, scan.points[::step]
        self.normals = scan.normals[::step] if scan.normals is not None and scan.signed else None
        self.features = self.described(self.points, self.normals)
        self.tree = cKDTree(self.features)

    def described(self, points: np.ndarray, normals: np.ndarray | None) -> np.ndarray:
        """(n, 3) or (n, 6)."""
        return points if self.normals is None else np.concatenate((points, _TURNED * normals), 1)

    def compared(self, points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, ...]:
        """For the model's points: which count, the nearest scan point and distance of these; the nearest of these and distance for each scan point."""
        counts = np.arange(len(points))
        if self.scan.origin is not None:  # one camera: only what faces it can have been seen
            facing = ((self.scan.origin - points) * normals).sum(1) > 0
            counts = counts[facing] if facing.sum() > 8 else counts
        own = self.described(points[counts], normals[counts])
        to_scan, near = self.tree.query(own)
        to_model, back = cKDTree(own).query(self.features)
        return counts, near, to_scan, counts[back], to_model

    def score(self, points: np.ndarray, to_scan: np.ndarray, to_model: np.ndarray) -> float:
        """Metres: distances both ways, cut off at `_FAR`; what lies where the camera saw through is far."""
        both = np.minimum(to_model, _FAR).mean()
        if self.scan.complete or self.scan.origin is not None:
            both += np.minimum(to_scan, _FAR).mean()
        if self.scan.empty is not None:
            both += _FAR * self.scan.empty(points).mean()
        return float(both)


def _laid(
    target: _Target,
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


@dataclass
class _Closest(Term):
    """Chosen vertices and scan points, each drawn to its counterpart."""

    pairs: tuple[np.ndarray, np.ndarray, np.ndarray] = None
    """(k,) vertices, (k, 3) targets, (k, 3, 3) metric."""

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        vertices, targets, metric = self.pairs
        residuals = (metric @ (points[0, vertices] - targets)[..., None])[None, ..., 0] / self.sigma
        if by_frame is None:
            return Linearised(residuals)
        return Linearised(
            residuals, *(metric @ part[:, vertices] / self.sigma for part in (by_shape, by_frame))
        )


class _Bend:
    """A few articulated steps on a part of the vertices, to a part of the scan."""

    def __init__(self, full: Posing, scan: Scan, shape_free: bool) -> None:
        data = full.data
        self._full, self._target = full, _Target(scan, 2 * _POINTS)
        self._chosen = np.arange(0, len(data.template), max(1, len(data.template) // (2 * _POINTS)))
        self._term = _Closest()
        limits = hand_limits(data)
        self._problem = Problem(
            Posing(data, self._chosen, full.shape_count), [self._term], pose_prior(data), ShapePrior(),
            extras=[] if limits is None else [limits], shape_free=shape_free,
        )  # fmt: skip
        self._rays = None
        if scan.origin is not None:
            away = self._target.points - scan.origin
            self._rays = cKDTree(away / np.linalg.norm(away, axis=1, keepdims=True))

    def __call__(self, state: State) -> Start:
        for sigma, rounds in ((0.024, 8), (0.012, 10)):
            # neighbours err together: a hundred or so independent points; what is 3 or 2 cm away is let go
            self._term.sigma, self._term.scale = sigma, max(0.02, 1.2 * sigma) / sigma
            state = solve(
                self._problem, state, iterations=rounds, tolerance=1e-3, before=lambda s, _: self._pair(s)
            ).state
        unusual = 1e-4 * (self._problem.pose(state)[0] ** 2).mean()
        score = surface_score(self._full.data, _vertices(self._full, state), self._target.scan)
        return Start(score + float(unusual), state)

    def _pair(self, state: State) -> tuple[np.ndarray, ...]:
        vertices = _vertices(self._full, state)
        points, normals = (
            vertices[self._chosen],
            vertex_normals(vertices, self._full.data.faces)[self._chosen],
        )
        target = self._target
        counts, near, to_scan, back, to_model = target.compared(points, normals)
        known = target.scan.normals is not None
        plane = target.scan.normals[:: max(1, len(target.scan.points) // (2 * _POINTS))] if known else None
        across = (
            np.concatenate((plane[near], plane))
            if known
            else np.concatenate((normals[counts], normals[back]))
        )
        across = across[:, :, None] * across[:, None]
        parts = [
            (
                np.concatenate((counts, back)),
                np.concatenate((target.points[near], target.points)),
                across + 0.4 * (np.eye(3) - across),
            )
        ]
        if self._rays is not None and target.scan.empty is not None:
            free = drawn_back(
                target.points, self._rays, target.scan.origin, points, target.scan.empty(points)
            )
            parts.append((free.vertices, free.targets, free.metric))
        self._term.pairs = tuple(np.concatenate(part) for part in zip(*parts))
        self._term.confidence = np.ones((1, len(self._term.pairs[0])))
        return points, counts, to_scan, back, to_model


def _vertices(posing: Posing, state: State) -> np.ndarray:
    points = posing(state.shape, state.rotations(), state.translation, jacobian=False).points
    return points[0, : len(posing.vertices)]


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
