"""Bending a model onto a scan in a few articulated closest-point steps, on a part of the vertices and of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from .closest import vertex_normals
from .free_space import drawn_back
from .limits import hand_limits
from .misfit import posed_vertices
from .posing import Posing
from .priors import ShapePrior, pose_prior
from .solver import Problem, solve
from .state import State
from .terms import Linearised, Term

if TYPE_CHECKING:
    from .scan import Scan

__all__ = ["CLOSELY", "POINTS", "ROUGHLY", "Bend", "Target"]

_FAR = 0.03
"""Metres at which being farther apart makes no difference."""
_TURNED = 0.02
"""Metres that a normal turned by a radian is away: palm and back, and two sides of a finger, are near but not alike."""
POINTS = 200
"""Points of scan and model that are compared; twice as many where poses are bent."""
ROUGHLY, CLOSELY = (0.024, 8), (0.012, 9)
"""Stages of `Bend`."""


class Target:
    """A scan's points, thinned, as features: places and, where their sign is known, normals."""

    def __init__(self, scan: Scan, count: int = POINTS) -> None:
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
            visible = ((self.scan.origin - points) * normals).sum(1) > 0
            if self.scan.view is not None:  # and is not behind what was seen
                visible &= ~self.scan.view.hides(points)
            counts = counts[visible] if visible.sum() > 8 else counts
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


class Bend:
    """A few articulated steps on a part of the vertices, to a part of the scan."""

    def __init__(self, full: Posing, scan: Scan, shape_free: bool) -> None:
        data = full.data
        self._full, self._target = full, Target(scan, 2 * POINTS)
        self._chosen = np.arange(0, len(data.template), max(1, len(data.template) // (2 * POINTS)))
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

    def __call__(self, state: State, stage: tuple[float, int]) -> State:
        """`stage`: metres within which points believe each other, and steps."""
        # neighbours err together: a hundred or so independent points; what is 3 or 2 cm away is let go
        sigma, rounds = stage
        self._term.sigma, self._term.scale = sigma, max(0.02, 1.2 * sigma) / sigma
        return solve(
            self._problem, state, iterations=rounds, tolerance=1e-3, before=lambda s, _: self._pair(s)
        ).state

    def _pair(self, state: State) -> tuple[np.ndarray, ...]:
        vertices = posed_vertices(self._full, state)
        points, normals = (
            vertices[self._chosen],
            vertex_normals(vertices, self._full.data.faces)[self._chosen],
        )
        target = self._target
        counts, near, to_scan, back, to_model = target.compared(points, normals)
        known = target.scan.normals is not None
        plane = target.scan.normals[:: max(1, len(target.scan.points) // (2 * POINTS))] if known else None
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
