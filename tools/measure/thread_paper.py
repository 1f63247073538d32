"""The published route to a thread's helix, for comparison: PCA projection, edge clusters, a Hough line on the unrolled crest.

After Wang and Chen, "3D vision measurement of an aero-engine turbine shaft" (arXiv 2008.04903), whose abstract names the steps; bins,
thresholds and the edge detector are ours. It needs a cloud cut to the thread and gives no uncertainty. `fit_thread` is
the one to measure with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import NotMeasurable
from .thread_axis import polish_axis, unroll

__all__ = ["CrestLine", "crest_hough", "fit_thread_by_crest"]

_CREST = 0.8  # quantile of the radius above which a point is taken for crest
_ANGLES = 721
_LINES = 400


@dataclass(frozen=True)
class CrestLine:
    """Crests as parallel straight lines z = lead theta / (2 pi) + k pitch of the unrolled surface."""

    pitch: float
    lead: float
    starts: int
    hand: int
    """+1 right, -1 left."""
    point: np.ndarray
    """(3,) on the axis."""
    direction: np.ndarray
    """(3,)"""
    turns: int
    """Clusters of edge points that were used."""


def fit_thread_by_crest(points: np.ndarray) -> CrestLine:  # (n, 3): the thread alone
    """The paper's chain. Raises `NotMeasurable` where fewer than three crests are told apart."""
    centre = points.mean(axis=0)
    _, _, axes = np.linalg.svd(points - centre, full_matrices=False)
    polished = polish_axis(points, centre, axes[0], rounds=2)
    point, direction = polished or (centre, axes[0])
    theta, z, r = unroll(points, point, direction)
    crest = r >= np.quantile(r, _CREST)
    theta, z, radius = theta[crest], z[crest], float(np.median(r[crest]))
    labels = _clusters(theta, z, radius)
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    kept = np.flatnonzero(sizes >= max(20, 0.05 * sizes.max()))
    edge = np.isin(labels, kept)
    if edge.sum() < 60:
        raise NotMeasurable(
            f"crest lines: {len(kept)} clusters of edge points, need 3; scan closer or use fit_thread"
        )
    slope, offsets = crest_hough(theta[edge], z[edge])
    if len(offsets) < 3:
        raise NotMeasurable(
            f"crest lines: {len(offsets)} parallel lines, need 3; show more turns or use fit_thread"
        )
    gaps = np.diff(offsets)
    number = np.concatenate(
        [[0.0], np.cumsum(np.round(gaps / np.median(gaps)))]
    )  # a line may have been missed
    pitch = float(np.polyfit(number, offsets, 1)[0])
    lead = 2 * np.pi * abs(slope)
    starts = max(1, round(lead / pitch))
    return CrestLine(pitch, lead, starts, int(np.sign(slope)), point, direction, len(kept))


def crest_hough(
    theta: np.ndarray,  # (n,)
    z: np.ndarray,  # (n,)
) -> tuple[float, np.ndarray]:
    """Slope dz / dtheta and sorted offsets (k,) of the parallel lines that most points lie on.

    The textbook accumulator: for every slope, a histogram of z - slope theta; the slope whose histogram is the most peaked
    (largest sum of squares) wins, and its peaks are the lines.
    """
    length = float(z.max() - z.min())
    limit = length / 4

    def histogram(slope: float) -> tuple[np.ndarray, float, float]:
        offset = z - slope * theta
        low, width = float(offset.min()), max(float(np.ptp(offset)), 1e-12) / _LINES
        return (
            np.bincount(np.minimum(((offset - low) / width).astype(int), _LINES - 1), minlength=_LINES),
            low,
            width,
        )

    best, span = 0.0, limit
    for _ in range(3):  # coarse to fine
        slopes = np.linspace(best - span, best + span, _ANGLES)
        sharp = []
        for slope in slopes:
            count, _, width = histogram(slope)
            sharp.append((count.astype(float) ** 2).sum() / width)
        best, span = float(slopes[int(np.argmax(sharp))]), 4 * span / _ANGLES
    count, low, width = histogram(best)
    smooth = np.convolve(count, np.ones(5) / 5, "same")
    above = smooth > 0.5 * np.quantile(smooth, 0.98)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], above.astype(int), [0]])))
    offset = z - best * theta
    lines = []
    for begin, end in zip(edges[::2], edges[1::2]):
        inside = (offset >= low + begin * width) & (offset < low + end * width)
        if inside.sum() > 0.2 * len(z) / max(len(edges) // 2, 1):
            lines.append(float(offset[inside].mean()))
    return best, np.sort(np.array(lines))


def _clusters(theta: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """(n,) labels of DBSCAN (Ester et al. 1996) on the unrolled surface, -1 for noise; the seam at +-pi is joined.

    The radius is four times the median distance to the nearest neighbour, the core count four.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    flat = np.stack([radius * np.cos(theta), radius * np.sin(theta), z], axis=1)
    tree = cKDTree(flat)
    reach = 4 * float(np.median(tree.query(flat, k=2)[0][:, 1]))
    pairs = tree.query_pairs(reach, output_type="ndarray")
    degree = np.bincount(pairs.ravel(), minlength=len(flat))
    core = degree >= 4
    linked = pairs[core[pairs].all(axis=1)]
    graph = coo_matrix((np.ones(len(linked)), linked.T), (len(flat), len(flat)))
    labels = connected_components(graph, directed=False)[1]
    labels[~core] = -1
    return labels
