"""A point cloud cut into the voxels that primitives fill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Voxels", "voxelise"]


@dataclass(frozen=True, eq=False)
class Voxels:
    """v occupied voxels of one size, in the frame of the points; each with a sample of its points."""

    size: float
    """Side."""
    centres: np.ndarray
    """(v, 3) float32 middles."""
    points: np.ndarray
    """(v, m, 3) float32, about the middle, in half diagonals (within +-1 / sqrt(3)); repeated where there are fewer than m."""
    counts: np.ndarray
    """(v,) int64 points in the cloud."""
    dropped: int
    """Points in voxels with too few of them."""

    @property
    def half_diagonal(self) -> float:
        return self.size * 3**0.5 / 2


def voxelise(
    points: np.ndarray,  # (n, 3)
    size: float,
    *,
    minimum: int = 3,
    sample: int = 48,
    generator: np.random.Generator,
) -> Voxels:
    """The voxels of side `size`, parallel to the axes of the points, that hold at least `minimum` points.

    Raises UserError for an empty cloud, points that are not finite, and a size at which nothing is left.
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    if not size > 0:
        raise UserError(f"voxels of side {size}: give a positive length")
    if not len(points):
        raise UserError("voxels: the point cloud is empty; mesh primitives start from points (LiDAR, COLMAP)")
    if not np.isfinite(points).all():
        raise UserError(
            f"voxels: {(~np.isfinite(points).all(1)).sum()} of {len(points)} points are not finite; remove them"
        )
    cell = np.floor(points / size).astype(np.int64)
    low = cell.min(0)
    span = cell.max(0) - low + 1
    if float(span[0]) * float(span[1]) * float(span[2]) > 2**62:
        raise UserError(
            f"voxels: points spread over {(span * size).tolist()} at side {size}; remove far outliers"
        )
    key = ((cell - low) * np.array([span[1] * span[2], span[2], 1])).sum(1)
    # shuffled first, so that the head of each voxel's run is a fair sample of it
    shuffle = generator.permutation(len(points))
    order = shuffle[np.argsort(key[shuffle], kind="stable")]
    _, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    kept = counts >= minimum
    if not kept.any():
        raise UserError(
            f"voxels: none of {len(counts)} voxels of side {size} holds {minimum} points (at most {counts.max()}); use larger voxels"
        )
    dropped = int(counts[~kept].sum())
    first, counts = first[kept], counts[kept]
    rows = order[first[:, None] + np.arange(sample)[None] % counts[:, None]]
    centres = (cell[order[first]] + 0.5) * size
    local = (points[rows] - centres[:, None]) / (size * 3**0.5 / 2)
    return Voxels(float(size), centres.astype(np.float32), local.astype(np.float32), counts, dropped)
