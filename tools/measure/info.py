"""What a cloud holds, as a measurement: counts, extents, spacing, and a guess at its noise."""

from __future__ import annotations

import numpy as np

from .cloud import Cloud
from .result import Measurement

__all__ = ["describe"]

_SAMPLE = 2000


def describe(cloud: Cloud, rng: np.random.Generator | None = None) -> Measurement:
    """Extents, centroid and nearest-neighbour spacing (its median over 2000 points).

    The centroid's covariance is that of the mean of the points' scatter; it says where the samples lie, not how exact they are.
    """
    from scipy.spatial import cKDTree

    points = cloud.points
    count = len(points)
    rng = np.random.default_rng(0) if rng is None else rng
    chosen = np.sort(rng.choice(count, min(count, _SAMPLE), replace=False))
    spacing = None
    if count > 1:
        spacing = float(np.median(cKDTree(points).query(points[chosen], k=2)[0][:, 1]))
    low, high = points.min(axis=0) + cloud.origin, points.max(axis=0) + cloud.origin
    centroid = points.mean(axis=0)
    spread = np.cov(points.T) if count > 1 else np.zeros((3, 3))
    return Measurement(
        kind="info",
        unit=cloud.unit,
        parameters={
            "points": count,
            "centroid": (centroid + cloud.origin).tolist(),
            "lowest": low.tolist(),
            "highest": high.tolist(),
            "extent": (high - low).tolist(),
            "spacing": spacing,
        },
        covariance=spread / count,
        covariance_names=["centroid.x", "centroid.y", "centroid.z"],
        rms=float(np.sqrt(np.trace(spread))),
        n_used=count,
        n_total=count,
        warnings=list(cloud.warnings),
        input=cloud.input_record(),
        extras={
            "normals": cloud.normals is not None,
            "colours": cloud.colours is not None,
            "sigma_median": None if cloud.sigma is None else float(np.median(cloud.sigma)),
            "organised": None if cloud.shape is None else list(cloud.shape),
            "origin": cloud.origin.tolist(),
            "viewpoint": None if cloud.viewpoint is None else (cloud.viewpoint + cloud.origin).tolist(),
        },
    )
