"""How badly a posed model explains a scan: one number by which ends of a fit are told apart, whatever steps led to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from ....fields.articulated.model_data import ModelData
from .closest import NearestOnMesh, boundary_vertices
from .contact import hand_capsules
from .limits import hand_limits
from .posing import Posing
from .priors import pose_prior
from .state import State

if TYPE_CHECKING:
    from .scan import Scan

__all__ = ["Misfit", "posed_vertices", "surface_score"]

_FAR = 0.03
"""Metres at which being farther apart makes no difference."""
_UNUSUAL = 1e-4
"""Metres of misfit that a pose one standard deviation from the mean in all its angles costs: settles what the scan leaves open."""


class Misfit:
    """Of one scan, for states of one frame of `posing`, which has all vertices."""

    def __init__(self, posing: Posing, scan: Scan) -> None:
        data = posing.data
        self.posing, self.scan = posing, scan
        self._prior = pose_prior(data)
        self._extras = [part for part in (hand_limits(data), hand_capsules(data, posing)) if part is not None]
        self._opening = boundary_vertices(data.faces) if data.layout == "mano" else np.zeros(0, np.int64)

    def __call__(self, state: State) -> float:
        """Metres: of the surface, and a little for a pose that is unusual, beyond a joint's range or has fingers in one another."""
        points = self.posing(state.shape, state.rotations(), state.translation, jacobian=False).points
        squares = (self._prior(state)[0] ** 2).sum()
        squares += sum((extra(state, points, None, None)[0] ** 2).sum() for extra in self._extras)
        return self.surface(points[0, : len(self.posing.vertices)]) + float(
            _UNUSUAL * squares / len(self._prior.mean)
        )

    def surface(self, vertices: np.ndarray) -> float:
        """Metres: a depth image's is rendered and compared, others by `surface_score`."""
        data = self.posing.data
        if self.scan.view is not None:
            return self.scan.view.misfit(vertices, data.faces, self._opening)
        return surface_score(data, vertices, self.scan)


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


def posed_vertices(posing: Posing, state: State) -> np.ndarray:
    """(v, 3) of the first frame."""
    points = posing(state.shape, state.rotations(), state.translation, jacobian=False).points
    return points[0, : len(posing.vertices)]
