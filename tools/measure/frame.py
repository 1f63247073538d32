"""A primitive as the fits see it: a local frame and one or two sizes.

Every primitive is described in coordinates (x, y, z) = axes @ (point - origin) whose z axis is its axis or normal. Fits linearise
there, at zero offset and zero tilt, and move the frame after every step; no parametrisation of a direction is ever singular.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Frame", "axes_from"]


@dataclass(frozen=True)
class Frame:
    origin: np.ndarray
    """(3,) float64: a point of the plane or axis, or the centre."""
    axes: np.ndarray
    """(3, 3) float64: the rows are the unit vectors of x, y and z; right-handed."""
    sizes: np.ndarray
    """(2,) float64: what the primitive needs of them (see `primitives`), the rest zero."""

    @property
    def axis(self) -> np.ndarray:
        """(3,): the direction of z."""
        return self.axes[2]

    @classmethod
    def from_axis(cls, origin, axis, sizes=()) -> Frame:
        """The frame with z along `axis` (any length) and x, y chosen across it."""
        padded = np.zeros(2)
        padded[: len(sizes)] = sizes
        return cls(np.asarray(origin, np.float64), axes_from(np.asarray(axis, np.float64)), padded)

    def local(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) world to (n, 3) local."""
        return (points - self.origin) @ self.axes.T

    def moved(self, shift: np.ndarray, tilt: np.ndarray, growth: np.ndarray) -> Frame:
        """The frame after a step: origin by `shift` (3,) along the local axes, z by `tilt` (2,) along x and y, sizes by
        `growth` (2,).
        """
        axis = self.axes[2] + tilt @ self.axes[:2]
        axis /= np.linalg.norm(axis)
        across = self.axes[0] - (self.axes[0] @ axis) * axis
        across /= np.linalg.norm(across)
        axes = np.stack([across, np.cross(axis, across), axis])
        return Frame(self.origin + shift @ self.axes, axes, self.sizes + growth)

    def slid_to(self, point: np.ndarray) -> Frame:
        """The same axis with the origin at the foot of `point` on it (sizes are the caller's business)."""
        return Frame(self.origin + ((point - self.origin) @ self.axis) * self.axis, self.axes, self.sizes)


def axes_from(axis: np.ndarray) -> np.ndarray:
    """(3, 3) right-handed rows x, y, z with z along `axis`; x is perpendicular to the world axis that `axis` is farthest from."""
    z = axis / np.linalg.norm(axis)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])
