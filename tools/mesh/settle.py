"""Moving a mesh onto the surface that rays see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from .blocks import BATCH, evaluate

__all__ = ["from_the_clearest", "half_transmittance_offsets", "neighbour_mean", "settle"]


def settle(
    density: Callable[[Tensor], Tensor],
    vertices: np.ndarray,  # (v, 3) source frame
    faces: np.ndarray,  # (f, 3)
    normals: np.ndarray,  # (v, 3) unit, outward
    reach: float,  # source units
    samples: int = 16,
) -> np.ndarray:  # (v, 3)
    """Vertices moved along their normals to where a ray from outside loses half its light.

    One level cannot suit parts of unlike density; this brings each vertex to the median-depth surface of its
    own place (the mesh refinement of instant-ngp has the same aim). A vertex whose ray keeps half its light
    within +-`reach` stays. The moves are averaged once with the neighbours', so that noise of single vertices
    does not roughen the mesh.
    """
    offset = half_transmittance_offsets(density, vertices, normals, reach, samples)
    offset = (offset + neighbour_mean(offset, faces)) / 2
    return vertices + offset[:, None] * normals


def half_transmittance_offsets(
    density: Callable[[Tensor], Tensor],
    points: np.ndarray,
    normals: np.ndarray,
    reach: float,
    samples: int = 16,
) -> np.ndarray:
    """(n,) signed distance along the outward normal from each point to where transmittance is 1/2; 0 where it
    never is.

    The ray comes from +reach and goes to -reach against the normal; optical depth by the midpoint rule,
    linear within a step.
    """
    step = 2 * reach / samples
    heights = reach - step * (np.arange(samples) + 0.5)
    result = np.zeros(len(points))
    together = max(1, BATCH // samples)
    for start in range(0, len(points), together):
        part = slice(start, start + together)
        where = points[part, None] + heights[:, None] * normals[part, None]
        depth = evaluate(density, where.reshape(-1, 3)).reshape(-1, samples).astype(np.float64) * step
        depth = from_the_clearest(depth)
        total = np.cumsum(depth, 1)
        passed = total >= np.log(2)
        k = passed.argmax(1)
        rows = np.arange(len(k))
        share = (np.log(2) - (total[rows, k] - depth[rows, k])) / np.maximum(depth[rows, k], 1e-12)
        result[part] = np.where(passed.any(1), reach - step * (k + np.clip(share, 0, 1)), 0.0)
    return result


def from_the_clearest(values: np.ndarray) -> np.ndarray:
    """Samples (n, k) along rays that come in from outside, with those before the clearest of the outer half
    set to 0.

    So a ray that has to start within another surface, across a narrow gap, starts in the gap instead.
    """
    clearest = values[:, : values.shape[1] // 2].argmin(1)
    return np.where(np.arange(values.shape[1]) < clearest[:, None], 0.0, values)


def neighbour_mean(values: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mean over each vertex's neighbours, by edge use; a vertex without any keeps its own value. `values`
    (v,).
    """
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = np.concatenate([ends, ends[:, ::-1]])
    total = np.bincount(ends[:, 0], values[ends[:, 1]], minlength=len(values))
    count = np.bincount(ends[:, 0], minlength=len(values))
    return np.where(count > 0, total / np.maximum(count, 1), values)
