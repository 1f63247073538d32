"""Subsets of a cloud to search on: small, and not ruled by where a scan happens to be dense."""

from __future__ import annotations

import numpy as np

__all__ = ["even_subset"]

_DRAWN_PER_KEPT = 4
_CELLS = 32


def even_subset(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of at most `count` points, thinned where the cloud is denser than where its typical point lies.

    Four times as many are drawn and sorted into cells of 1/32 of the extent; cells with more points than the median point's
    cell are thinned to that. Overlapping scans then weigh as their surface does. Sparse points are all kept, not favoured:
    a subset uniform in volume would consist of outliers, which fill the volume, and lose the surface.
    """
    n = len(points)
    if n <= count:
        return np.arange(n)
    drawn = rng.integers(0, n, count * _DRAWN_PER_KEPT) if n > count * _DRAWN_PER_KEPT else np.arange(n)
    sample = points[drawn]
    low = np.percentile(sample, 1, axis=0)
    side = max(float((np.percentile(sample, 99, axis=0) - low).max()) / _CELLS, 1e-300)
    cells = np.clip(np.floor((sample - low) / side), -_CELLS, 2 * _CELLS).astype(np.int64) + _CELLS
    key = (cells[:, 0] * (4 * _CELLS) + cells[:, 1]) * (4 * _CELLS) + cells[:, 2]
    _, cell, counts = np.unique(key, return_inverse=True, return_counts=True)
    crowd = counts[cell]
    keep = rng.random(len(drawn)) * crowd <= np.median(crowd)
    kept = np.unique(drawn[keep])
    return kept if len(kept) <= count else np.sort(rng.choice(kept, count, replace=False))
