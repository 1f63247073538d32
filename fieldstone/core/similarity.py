"""Similarity transforms: one scale, a rotation, a translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Similarity", "align_points"]


@dataclass(frozen=True)
class Similarity:
    """y = scale * rotation @ x + translation, in float64."""

    scale: float
    """Positive, unitless: target units per source unit."""
    rotation: np.ndarray
    """(3, 3) proper rotation."""
    translation: np.ndarray
    """(3,) in target units."""

    @staticmethod
    def identity() -> Similarity:
        return Similarity(1.0, np.eye(3), np.zeros(3))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Maps points (..., 3)."""
        return self.scale * (np.asarray(points, np.float64) @ self.rotation.T) + self.translation

    def rotate(self, directions: np.ndarray) -> np.ndarray:
        """Maps directions (..., 3): rotation only, lengths kept."""
        return np.asarray(directions, np.float64) @ self.rotation.T

    def inverse(self) -> Similarity:
        rotation = self.rotation.T
        return Similarity(1.0 / self.scale, rotation, -(rotation @ self.translation) / self.scale)

    def then(self, after: Similarity) -> Similarity:
        """The transform that applies this one first and `after` second."""
        return Similarity(
            self.scale * after.scale, after.rotation @ self.rotation, after.apply(self.translation)
        )

    def apply_to_poses(self, camera_to_world: np.ndarray) -> np.ndarray:
        """Maps rigid poses (..., 4, 4): axes are rotated, origins mapped; the result is rigid again."""
        poses = np.array(camera_to_world, np.float64)
        poses[..., :3, 3] = self.apply(poses[..., :3, 3])
        poses[..., :3, :3] = self.rotation @ poses[..., :3, :3]
        return poses

    def matrix(self) -> np.ndarray:
        """(4, 4) homogeneous matrix."""
        result = np.eye(4)
        result[:3, :3] = self.scale * self.rotation
        result[:3, 3] = self.translation
        return result

    def to_json(self) -> dict:
        return {
            "scale": float(self.scale),
            "rotation": np.asarray(self.rotation).tolist(),
            "translation": np.asarray(self.translation).tolist(),
        }

    @staticmethod
    def from_json(value: dict) -> Similarity:
        return Similarity(
            float(value["scale"]), np.array(value["rotation"], float), np.array(value["translation"], float)
        )


def align_points(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity that maps `source` (n, 3) onto `target` (n, 3) with least squared error.

    Closed form of Umeyama (1991), equations 39-42: the determinant guard keeps a rotation proper.
    Raises ValueError for fewer than three points or points without spread.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(f"need two (n >= 3, 3) arrays of one shape, got {source.shape} and {target.shape}")
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    variance = (a**2).sum() / len(a)
    if variance == 0:
        raise ValueError("the source points coincide: no scale can be found")
    u, singular, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / variance)
    return Similarity(scale, rotation, target_mean - scale * rotation @ source_mean)
