"""What a point's neighbours tell: the surface's normal, and how thick the noise makes it."""

from __future__ import annotations

import numpy as np

__all__ = ["local_noise", "local_normals", "neighbour_table", "surface_noise"]

_FEWEST = 9
_WIDE = 8.0  # times the noise: reach of a neighbourhood that shows the surface


def neighbour_table(points: np.ndarray, count: int, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) indices and distances of the k = min(count, n) nearest points, each point itself first.

    `rows`: of the first so many points only.
    """
    from scipy.spatial import cKDTree

    k = min(count, len(points))
    distance, index = cKDTree(points, balanced_tree=False, compact_nodes=False).query(points[:rows], k=k)
    return index.reshape(-1, k), distance.reshape(-1, k)


def local_normals(points: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(n, 3) unit normals without sense of side: the direction in which the neighbours of `table` (n, k) spread least."""
    patch = points[table] - points[table].mean(axis=1, keepdims=True)
    return np.linalg.eigh(np.einsum("nki,nkj->nij", patch, patch))[1][:, :, 0]


def local_noise(
    points: np.ndarray, table: np.ndarray, distance: np.ndarray, seeds: int = 400
) -> float | None:
    """A first guess of the noise across the surface, or None with too few neighbours.

    Around the `seeds` points with the nearest neighbours (those on surfaces, where outliers fill a volume) a quadric is
    fitted to each neighbourhood, so curvature does not count as noise. The lower quartile of their residuals is taken,
    because neighbourhoods with an outlier or an edge in them only ever look thicker.
    """
    n, k = table.shape
    if k < _FEWEST:
        return None
    chosen = np.argsort(distance[:, -1])[: max(seeds, 1) * 2 : 2] if n > 2 * seeds else np.arange(n)
    return float(np.percentile(_quadric_scatter(points[table[chosen]]), 25))


def surface_noise(
    points: np.ndarray, rng: np.random.Generator, *, most: int = 60_000, seeds: int = 600
) -> float | None:
    """Standard deviation across the surface of points without outliers, whatever the form; None with too few points.

    From the residuals of quadrics through 16 neighbours around random points; the median square, which edges do not
    move, is turned into a variance with the chi-square distribution's median. Noise that neighbours share is not seen.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import chi2

    if len(points) < 2 * _FEWEST:
        return None
    k = min(16, len(points))
    count, noise = min(len(points), most), 0.0
    while True:
        part = points if count == len(points) else points[rng.choice(len(points), count, replace=False)]
        chosen = rng.choice(count, min(seeds, count), replace=False)
        reach, table = cKDTree(part, balanced_tree=False, compact_nodes=False).query(part[chosen], k=k)
        squares = _quadric_scatter(part[table]) ** 2
        noise = float(np.sqrt(np.median(squares) * (k - 6) / chi2.median(k - 6)))
        if np.median(reach[:, -1]) > _WIDE * noise or count // 4 < 8 * k:
            return noise
        count //= 4  # neighbours closer than the noise is thick make a ball, not a surface


def _quadric_scatter(patch: np.ndarray) -> np.ndarray:
    """(m,) standard deviation of (m, k, 3) neighbourhoods about a quadric each."""
    k = patch.shape[1]
    patch = patch - patch.mean(axis=1, keepdims=True)
    axes = np.linalg.eigh(np.einsum("nki,nkj->nij", patch, patch))[1]
    local = np.einsum("nki,nij->nkj", patch, axes)
    size = np.abs(local).max(axis=(1, 2), keepdims=True)
    z, y, x = np.moveaxis(local / np.maximum(size, 1e-300), 2, 0)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
    transposed = np.swapaxes(terms, 1, 2)
    ridge = 1e-12 * np.eye(6)  # terms are of size one; neighbours in a row leave the curvature across it open
    solution = np.linalg.solve(transposed @ terms + ridge, transposed @ z[:, :, None])
    left = z - (terms @ solution)[:, :, 0]
    return np.sqrt((left**2).sum(axis=1) / (k - 6)) * size[:, 0, 0]
