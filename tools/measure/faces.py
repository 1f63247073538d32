"""Parallel faces of a part told apart by their height: a mounting face, its step, a boss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .cloud import Cloud
from .errors import NotMeasurable
from .fit import fit_plane
from .frame import axes_from
from .result import Measurement

__all__ = ["Face", "parallel_faces"]

_LEAST_SHARE = 0.01  # of all points, for a level to be a face
_BINS_PER_SIGMA = 2
_FLAT_TOPPED = 2.6  # kurtosis below which a band of heights holds more than one face
_SEARCHED = 30_000


@dataclass(frozen=True)
class Face:
    """A plane of the part, and the coordinates in it that features of the face are found in."""

    plane: Measurement
    """Fitted to the points of this level alone; `point` in world coordinates."""
    point: np.ndarray
    """(3,) of the plane, in the cloud's own coordinates."""
    axes: np.ndarray
    """(3, 3): rows u, v, normal."""
    height: float
    """Above the first face."""
    sigma: float
    """Of the points about it."""
    share: float
    """Of the cloud's points."""

    def local(self, points: np.ndarray) -> np.ndarray:  # (n, 3) in the cloud's coordinates
        """(n, 3): u, v and height above the face."""
        return points @ self.axes.T - self.axes @ self.point


def parallel_faces(cloud: Cloud, *, rng: np.random.Generator, sigma: float | None = None) -> list[Face]:
    """The largest plane and the planes parallel to it, largest first. Heights count along the first normal.

    Levels are peaks of the histogram of heights above the largest plane; two are told apart when they lie more than four sigma
    from each other (0.3 mm at a noise of 0.05 mm), and each plane is then fitted to its own points, up to half way to the next.
    Each face's normal has the sign of the cloud's normals on it; without any, all point to where the scanner stood, where the cloud
    says so (its `viewpoint`), else to the side on which fewer points lie, as a scanner sees no inside. The last is wrong for a face
    from which more stands up than is seen below it: studs without a viewpoint.
    """
    first = fit_plane(cloud, rng=rng, sigma=sigma)
    noise = float(first.extras["sigma"])
    normal, point = first["normal"], first["point"] - cloud.origin
    heights = (cloud.points - point) @ normal
    if sigma is None:
        finer = _one_of_several(cloud, heights, noise, rng)
        if finer is not None:
            first, noise = finer
            normal, point = first["normal"], first["point"] - cloud.origin
            heights = (cloud.points - point) @ normal
    unsigned = cloud.normals is None and cloud.viewpoint is None
    if unsigned and (heights > 5 * noise).sum() > (heights < -5 * noise).sum():
        normal, heights = -normal, -heights
    levels = _levels(heights, noise, len(cloud))
    faces = []
    for level in levels:
        gaps = [abs(level - other) for other in levels if other != level]
        reach = min([3 * noise, *(gap / 2 for gap in gaps)])
        near = np.abs(heights - level) <= max(reach, 3 * noise if not gaps else reach)
        own = first
        if len(levels) > 1:
            own = fit_plane(cloud.select(near), sigma=noise, robust=False)
            own.n_total = len(cloud)
        direction = own["normal"] * np.sign(own["normal"] @ normal)
        if cloud.normals is not None and float((cloud.normals[near] @ direction).mean()) < 0:
            direction = -direction
        own.parameters["normal"] = direction.tolist()
        faces.append(
            Face(
                plane=own,
                point=own["point"] - cloud.origin,
                axes=axes_from(direction),
                height=float((own["point"] - first["point"]) @ normal),
                sigma=noise,
                share=float(near.mean()),
            )
        )
    return sorted(faces, key=lambda face: -face.share)


def _one_of_several(
    cloud: Cloud, heights: np.ndarray, noise: float, rng: np.random.Generator
) -> tuple[Measurement, float] | None:
    """A plane and its noise, where what was fitted is several parallel faces close together taken for one; None where it is one.

    A face's heights are Gaussian, with a kurtosis of 3; two faces within the same band have 1 to 2.5.
    """
    result = None
    for _ in range(4):
        near = np.flatnonzero(np.abs(heights) <= 4 * noise)
        spread = heights[near] - heights[near].mean()
        square = float((spread**2).mean())
        if len(near) < 200 or float((spread**4).mean()) > _FLAT_TOPPED * square**2:
            break
        chosen = near if len(near) <= _SEARCHED else rng.choice(near, _SEARCHED, replace=False)
        part = cloud.select(chosen)
        try:
            plane = fit_plane(part, sigma=noise / 4, min_share=0.15, rng=rng)
        except NotMeasurable:
            break
        own = (part.points - (plane["point"] - cloud.origin)) @ plane["normal"]
        inside = np.abs(own) <= noise
        found = 1.4826 * float(np.median(np.abs(own[inside] - np.median(own[inside]))))
        if found > 0.45 * noise:  # as wide as what a Gaussian of the old width has there
            break
        heights = (cloud.points - (plane["point"] - cloud.origin)) @ plane["normal"]
        noise = found
        result = plane, found
    return result


def _levels(heights: np.ndarray, noise: float, count: int) -> list[float]:
    """Heights of the faces: peaks that hold enough points and stand out of what lies around them, the highest peak first."""
    low, high = float(heights.min()), float(heights.max())
    width = max(noise / _BINS_PER_SIGMA, (high - low) / 200_000, 1e-300)
    low -= 12 * _BINS_PER_SIGMA * width  # room for the windows below
    bins = int((high - low) / width) + 1 + 12 * _BINS_PER_SIGMA
    histogram = np.bincount(((heights - low) / width).astype(np.int64), minlength=bins).astype(np.float64)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / _BINS_PER_SIGMA) ** 2)
    smooth = np.convolve(histogram, kernel / kernel.sum(), "same")
    half = 2 * _BINS_PER_SIGMA
    within = np.convolve(histogram, np.ones(2 * half + 1), "same")
    around = np.convolve(histogram, np.ones(10 * half + 1), "same")
    peaks: list[int] = []
    for at in np.argsort(-smooth):
        if within[at] < _LEAST_SHARE * count:
            break
        if any(abs(at - other) < 2 * half for other in peaks):
            continue
        # a wall or a slope spreads evenly over height, a face does not
        elsewhere = around[at] - sum(within[other] for other in peaks if abs(at - other) <= 5 * half)
        if smooth[at] >= smooth[max(at - 2, 0) : at + 3].max() and within[at] > 0.5 * elsewhere:
            peaks.append(int(at))
    return [low + (at + 0.5) * width for at in peaks]
