"""What a set of cameras looks at, and which way is up for them."""

from __future__ import annotations

import numpy as np

from .cameras import Cameras

__all__ = ["focus_point", "up_direction"]

_PARALLEL = 1e-4


def focus_point(cameras: Cameras) -> np.ndarray:  # (3,) float64, source frame
    """The point nearest, in least squares, to all optical axes: sum (I - d d^T) (p - o) = 0.

    Axes that are nearly parallel (well under a degree apart) fix no point along their common direction. There
    it is taken as far ahead of the mean camera as the cameras are spread around that (one unit for cameras at
    one place), and likewise where the axes of cameras that look the same way meet only behind them. Raises
    ValueError for no cameras.
    """
    if len(cameras) == 0:
        raise ValueError("no cameras, so no point they look at")
    origins = cameras.positions.detach().cpu().numpy()
    axes = cameras.forward.detach().cpu().numpy()
    centre, mean_axis = origins.mean(0), axes.mean(0)
    spread = np.sqrt(((origins - centre) ** 2).sum(1).mean())
    agreement = np.linalg.norm(mean_axis)
    # without a common direction (a full circle) the point to fall back on is the middle itself
    guess = centre + (mean_axis / agreement * (spread or 1.0) if agreement > 0.1 else 0.0)
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    missed = (across @ (origins - guess)[:, :, None]).mean(0)[:, 0]
    # an eigenvalue is the mean squared sine between the axes and its eigenvector; where that is below the
    # square of half a degree or so, the equation along it says nothing and the guess stays
    sines, vectors = np.linalg.eigh(across.mean(0))
    point = guess + vectors @ (sines / (sines**2 + _PARALLEL**2) * (vectors.T @ missed))
    ahead = (((point - origins) * axes).sum(1) > 0).mean()
    return guess if agreement > 0.5 and ahead < 0.5 else point


def up_direction(cameras: Cameras) -> np.ndarray:  # (3,) float64 unit
    """The mean of the cameras' up axes (-y); for cameras whose ups cancel, the axis they circle around."""
    ups = -cameras.camera_to_world[:, :3, 1].detach().cpu().numpy()
    mean = ups.mean(0)
    if np.linalg.norm(mean) > 0.1:
        return mean / np.linalg.norm(mean)
    positions = cameras.positions.detach().cpu().numpy()
    return np.linalg.svd(positions - positions.mean(0), full_matrices=True)[2][2]
