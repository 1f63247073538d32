"""What is known before any data is seen: plausible poses and shapes, and how motion goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....fields.articulated.model_data import ModelData
from .so3 import log, right_jacobian_inverse
from .state import State

__all__ = ["PosePrior", "ShapePrior", "Smoothness", "pose_prior"]

_NARROWEST = 0.03
"""Radians: no direction of pose space is believed to be stiffer than this, however little it varied in the recorded poses."""


@dataclass(frozen=True)
class PosePrior:
    """A normal distribution of the axis-angles of all joints but the root (Mahalanobis distance)."""

    mean: np.ndarray
    """(3 (j - 1),)."""
    root: np.ndarray
    """(3 (j - 1), 3 (j - 1)) a square root L of the inverse covariance: the cost is |L (theta - mean)|^2."""
    weight: float = 1.0

    def __call__(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (b, k) and their derivative by the axis-angles (k, k)."""
        root = self.root * np.sqrt(self.weight)
        return (state.angles.reshape(len(state), -1) - self.mean) @ root.T, root

    @property
    def variance(self) -> np.ndarray:
        """(k,) of each axis-angle."""
        return np.linalg.inv(self.root.T @ self.root).diagonal() / max(self.weight, 1e-12)


def pose_prior(
    data: ModelData,
    *,
    spread: float = 0.4,  # radians: standard deviation where the model knows nothing
    weight: float = 1.0,
) -> PosePrior:
    """From the coefficients of the poses a model was learned from; an isotropic one where it has none.

    Directions that the components do not span keep `spread` / 4 within joints that they move (the data showed them still), and
    `spread` in joints that they do not move at all.
    """
    size = 3 * (len(data.parents) - 1)
    components, coefficients = data.pose_components, data.pose_coefficients
    if not len(components) or len(coefficients) < 2:
        return PosePrior(np.array(data.pose_mean), np.eye(size) / spread, weight)
    touched = np.abs(components).sum(0).reshape(-1, 3).sum(1) > 0
    base = np.repeat(np.where(touched, spread / 4, spread), 3) ** 2
    deviations = coefficients - coefficients.mean(0)
    samples = deviations @ components
    covariance = samples.T @ samples / len(samples)
    # the recorded poses' own covariance, a little of the base added so that nothing is impossible
    covariance = covariance + np.diag(np.where(np.repeat(touched, 3), 0.05 * base + _NARROWEST**2, base))
    mean = data.pose_mean + coefficients.mean(0) @ components
    return PosePrior(mean, np.linalg.cholesky(np.linalg.inv(covariance)).T, weight)


@dataclass(frozen=True)
class ShapePrior:
    """Shape coefficients of unit variance."""

    weight: float = 1.0

    def __call__(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (s,) and their derivative (s, s)."""
        root = np.sqrt(self.weight)
        return root * state.shape, root * np.eye(len(state.shape))


@dataclass(frozen=True)
class Smoothness:
    """Second differences of axis-angles, of the root's rotation and of the translation along a sequence.

    A sequence of constant velocity costs nothing. Standard deviations are of the second difference between neighbouring frames.
    """

    angle: float
    """Radians."""
    translation: float
    """Metres."""

    def residuals(self, state: State) -> np.ndarray:
        """(b - 2, q)."""
        turns = log(state.root[:-1].swapaxes(-1, -2) @ state.root[1:])
        flat = state.angles.reshape(len(state), -1)
        parts = (
            (turns[1:] - turns[:-1]) / self.angle,
            np.diff(flat, 2, axis=0) / self.angle,
            np.diff(state.translation, 2, axis=0) / self.translation,
        )
        return np.concatenate(parts, 1)

    def jacobians(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Derivatives (b - 2, q, q) of residual t by the steps of frames t, t + 1 and t + 2.

        For the root, turn_t = log(R_t^T R_t+1) changes by -J^-1(-turn_t) d_t + J^-1(turn_t) d_t+1.
        """
        count, q = len(state) - 2, state.frame_size
        scale = np.full(q, 1 / self.angle)
        scale[-3:] = 1 / self.translation
        first, middle, last = (np.tile(np.diag(factor * scale), (count, 1, 1)) for factor in (1.0, -2.0, 1.0))
        turns = log(state.root[:-1].swapaxes(-1, -2) @ state.root[1:])
        ahead, behind = right_jacobian_inverse(turns), right_jacobian_inverse(-turns)
        first[:, :3, :3] = behind[:-1] / self.angle
        middle[:, :3, :3] = (-ahead[:-1] - behind[1:]) / self.angle
        last[:, :3, :3] = ahead[1:] / self.angle
        return first, middle, last
