"""What a fit compares with the data: residuals of posed points, their derivatives, and a robust weight for each.

A term looks at the points of `Posing` (chosen vertices, then joints). Blocks of d numbers (3 for a point, 2 for a pixel, 1 for a distance) are
judged together: with u the squared length of a block in units of sigma, the cost is Geman and McClure's c^2 u / (c^2 + u) (1987),
plain least squares where c is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np

__all__ = ["Keypoints2d", "Keypoints3d", "Linearised", "Moments", "Term", "normal_moments", "robust"]


@dataclass(frozen=True)
class Linearised:
    """Residuals of b frames in units of sigma, before robust weights."""

    residuals: np.ndarray
    """(b, m, d); 0 where there is no datum."""
    by_shape: np.ndarray | None = None
    """(b, m, d, s)."""
    by_frame: np.ndarray | None = None
    """(b, m, d, q)."""


@dataclass
class Term:
    """The common part: confidence of each block and the shape of the robust cost."""

    sigma: float = 0.002
    """Standard deviation of the noise: metres, or pixels for `Keypoints2d`."""
    scale: float = np.inf
    """c of Geman and McClure's cost, in units of sigma."""
    confidence: np.ndarray = field(default_factory=lambda: np.ones((1, 1)))
    """(b, m), 0 for what was not observed."""
    independent: ClassVar[int | None] = None
    """d, where blocks are d numbers with independent normal noise; None where they are not (neighbouring closest points err together)."""

    def moments(self) -> Moments:
        """`normal_moments` of this term's blocks; ones where nothing is known of their noise."""
        return Moments() if self.independent is None else normal_moments(self.scale, self.independent)

    def match(self, points: np.ndarray) -> None:
        """Exchanges what the points (b, n, 3) are compared with. Only terms that search for counterparts have anything to do."""

    def linearise(
        self,
        points: np.ndarray,  # (b, n, 3)
        by_shape: np.ndarray | None,  # (b, n, 3, s)
        by_frame: np.ndarray | None,  # (b, n, 3, q)
    ) -> Linearised:
        raise NotImplementedError

    def weights(self, residuals: np.ndarray) -> tuple[np.ndarray, float]:
        """(b, m) weights of the squares, and the cost."""
        cost, weights = robust((residuals**2).sum(-1), self.scale)
        return weights * self.confidence, float((cost * self.confidence).sum())


def robust(
    squares: np.ndarray,  # (...) squared lengths in units of sigma
    scale: float,  # c
) -> tuple[np.ndarray, np.ndarray]:
    """Geman and McClure's cost, and the weight that makes weighted squares have its gradient."""
    if np.isinf(scale):
        return squares, np.ones_like(squares)
    share = scale**2 / (scale**2 + squares)
    return share * squares, share**2


class Moments(NamedTuple):
    """What normal noise of variance 1 looks like through the weights w of a robust cost, for blocks of d numbers r; psi = w r."""

    weight: float = 1.0
    """E[w]."""
    variance: float = 1.0
    """E[w r^2] / (d E[w]): below 1 because the tails weigh less."""
    stiffness: float = 1.0
    """E[psi'] / E[w]: by how much the Gauss-Newton matrix overstates how stiffly the data hold the unknowns."""
    push: float = 1.0
    """E[psi^2] / (d E[w]): the variance of the noise's pull, in units of the Gauss-Newton matrix."""


@lru_cache(maxsize=256)
def normal_moments(scale: float, d: int) -> Moments:
    """By quadrature. An M-estimator's variance is E[psi^2] / E[psi']^2 (Huber and Ronchetti, "Robust Statistics", 2009, corollary 6.7), where
    the Gauss-Newton matrix says 1 / E[w]."""
    if np.isinf(scale):
        return Moments()
    nodes, measure = np.polynomial.legendre.leggauss(200)
    length = 4.5 * (nodes + 1)
    density = measure * length ** (d - 1) * np.exp(-(length**2) / 2)
    density /= density.sum()
    squares = length**2
    weight = (scale**2 / (scale**2 + squares)) ** 2
    slope = -4 * scale**4 / (scale**2 + squares) ** 3  # 2 dw / du
    mean = (density * weight).sum()
    return Moments(
        float(mean),
        float((density * weight * squares).sum() / d / mean),
        float((density * (weight + slope * squares / d)).sum() / mean),
        float((density * weight**2 * squares).sum() / d / mean),
    )


@dataclass
class Keypoints3d(Term):
    """Points in space with known counterparts on the model."""

    targets: np.ndarray = None
    """(b, m, 3) metres; NaN where there is none."""
    mixture: np.ndarray = None
    """(m, n): each keypoint as a mixture of the posing's points."""
    independent = 3

    def __post_init__(self) -> None:
        seen = np.isfinite(self.targets).all(-1)
        self.confidence = np.where(seen, self.confidence, 0.0)
        self.targets = np.where(seen[..., None], self.targets, 0.0)

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        seen = (self.confidence > 0)[..., None]
        residuals = np.where(seen, self.mixture @ points - self.targets, 0.0) / self.sigma
        if by_frame is None:
            return Linearised(residuals)
        return Linearised(
            residuals, *(_mixed(self.mixture / self.sigma, part) for part in (by_shape, by_frame))
        )


@dataclass
class Keypoints2d(Term):
    """Pixels of known points in c views of every frame. The lens is undone on the pixels once, so any lens will do.

    Residuals are pixel distances at the lens's focal length: differences of x / z and y / z, times the focal length.
    """

    directions: np.ndarray = None
    """(b, c, m, 3) rays through the pixels in camera space, z = 1; NaN where there is none."""
    world_to_camera: np.ndarray = None
    """(c, 4, 4)."""
    focal: np.ndarray = None
    """(c, 2) pixels."""
    mixture: np.ndarray = None
    """(m, n)."""
    independent = 2

    def __post_init__(self) -> None:
        frames, views, count, _ = self.directions.shape
        confidence = (
            np.broadcast_to(self.confidence, (frames, views * count))
            if np.ndim(self.confidence) == 2
            else self.confidence
        )
        seen = np.isfinite(self.directions).all(-1).reshape(frames, -1)
        self.confidence = np.where(seen, np.reshape(confidence, (frames, -1)), 0.0)
        self.directions = np.where(np.isfinite(self.directions), self.directions, 0.0)

    def linearise(
        self, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> Linearised:
        frames = len(points)
        keypoints = self.mixture @ points
        rotation, move = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        local = np.einsum("vij,bmj->bvmi", rotation, keypoints) + move[:, None]
        z = np.maximum(local[..., 2:], 1e-3)  # a point behind a camera is pushed, not projected
        scale = self.focal[:, None] / self.sigma
        residuals = (local[..., :2] / z - self.directions[..., :2]) * scale
        residuals = residuals.reshape(frames, -1, 2) * (self.confidence > 0)[..., None]
        if by_frame is None:
            return Linearised(residuals)
        project = np.zeros((*local.shape[:3], 2, 3))
        project[..., 0, 0] = project[..., 1, 1] = 1 / z[..., 0]
        project[..., :, 2] = -local[..., :2] / z**2
        project = np.einsum("bvmij,vjk->bvmik", project * scale[..., None], rotation)

        def through(part: np.ndarray) -> np.ndarray:
            moved = _mixed(self.mixture, part)[:, None]
            return (project @ moved).reshape(frames, -1, 2, part.shape[-1])

        return Linearised(residuals, through(by_shape), through(by_frame))


def _mixed(mixture: np.ndarray, part: np.ndarray) -> np.ndarray:
    """(m, n) times (b, n, 3, k) over n."""
    frames, n, three, k = part.shape
    return (mixture @ part.reshape(frames, n, three * k)).reshape(frames, len(mixture), three, k)
