"""Primitives that go and come: those that no training view shows are removed, and new ones are put where something is and no primitive shows it.

The paper has neither; the released code drops primitives whose codes are not numbers. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...fields.primitives import PrimitiveGeometry, Voxels, voxelise
from ...render.cameras import Cameras
from ...render.rasterise import Fragments
from .dnmp_depth import visible_points
from .dnmp_shading import Primitives, shade

__all__ = ["densify", "heaviest", "missed_points"]

PIXELS = 1 << 14
BEHIND_SHARE = 0.03
"""Of a point's depth, beside a voxel's side, by which the surface may be behind it and still be its surface."""
SIDE_SHARE = 0.03
"""Voxels of new primitives are at least this share of their distance wide: farther points are rougher and fewer."""


@torch.no_grad()
def heaviest(
    scene: Primitives,
    views: Iterable[tuple[Cameras, Fragments]],
) -> Tensor:  # (n,) for the n primitives of the vertices
    """The largest weight that each primitive has in any pixel of the views; 0 for those that are seen in none."""
    most = torch.zeros(len(scene.vertices) // 42)
    alone = scene._replace(far=None)
    for camera, found in views:
        face, weight = found.face.flatten(0, 1), found.barycentric.flatten(0, 1)
        directions = camera.image_rays(0).directions
        seen = directions.isfinite().all(1)
        for first in range(0, len(face), PIXELS):
            part = slice(first, first + PIXELS)
            rows = torch.nonzero(seen[part] & (face[part, 0] >= 0))[:, 0]
            if not len(rows):
                continue
            shaded = shade(alone, face[part][rows], weight[part][rows], directions[part][rows])
            faces = face[part][rows].reshape(-1)
            there = faces >= 0
            owner = scene.faces[faces[there].long(), 0].long() // 42
            most.scatter_reduce_(0, owner, shaded.weights.reshape(-1)[there], "amax")
    return most


@torch.no_grad()
def missed_points(
    points: Tensor,  # (m, 3) frame of the cameras
    views: Iterable[tuple[Cameras, Fragments]],
    size: float,
) -> np.ndarray:  # (k, 3) float64
    """The points that a view sees where the surface is behind them, by more than a voxel's side `size` and a share of the depth, or absent."""
    missed: list[np.ndarray] = []
    for camera, found in views:
        index, pixel, z = visible_points(points, camera)
        surface = found.z_depth[..., 0].reshape(-1)[torch.from_numpy(pixel)].numpy()
        there = found.mask[..., 0].reshape(-1)[torch.from_numpy(pixel)].numpy()
        missed.append(index[~there | (surface > z * (1 + BEHIND_SHARE) + size)])
    return points[torch.from_numpy(np.unique(np.concatenate(missed)))].double().numpy()


def side_at(size: float, distance: np.ndarray) -> np.ndarray:  # (m,)
    """Side of a new primitive's voxel at a distance: `size`, doubled until it is SIDE_SHARE of the distance."""
    return size * 2.0 ** np.ceil(np.log2(np.maximum(SIDE_SHARE * distance / size, 1)))


def densify(
    geometry: PrimitiveGeometry,
    points: np.ndarray,  # (m, 3) where something is that no primitive shows
    sides: np.ndarray,  # (m,) of the voxels wanted there
    *,
    minimum: int,
    start: str,
    generator: np.random.Generator,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[
    Tensor, Tensor
]:  # (k,) int64 primitives, (k, 48, 3) float32 their points, about the voxels' middles, in half diagonals
    """Places primitives that are not alive into the voxels with most points, as long as there are any; not where one as small is already."""
    from scipy.spatial import cKDTree

    cuts: list[Voxels] = []
    for side in np.unique(sides):
        try:
            cut = voxelise(points[sides == side], float(side), minimum=minimum, generator=generator)
        except UserError:  # no voxel of this side holds enough points
            continue
        there = geometry.alive & (geometry.reach < 1.01 * cut.half_diagonal)
        if there.any():
            bare = cKDTree(geometry.centres[there].numpy()).query(cut.centres)[0] > side / 2
            cut = Voxels(cut.size, cut.centres[bare], cut.points[bare], cut.counts[bare], cut.dropped)
        cuts.append(cut)
    free = torch.nonzero(~geometry.alive)[:, 0]
    if not cuts or not len(free):
        return free[:0], torch.zeros(0, 48, 3)
    counts = np.concatenate([cut.counts for cut in cuts])
    least = np.sort(counts)[-len(free)] if len(counts) > len(free) else 0
    rows, samples, used = [], [], 0
    for cut in cuts:
        kept = np.flatnonzero(cut.counts >= least)[: len(free) - used]
        chosen = Voxels(cut.size, cut.centres[kept], cut.points[kept], cut.counts[kept], 0)
        rows.append(free[used : used + len(kept)])
        geometry.place(rows[-1], chosen, start)
        samples.append(torch.from_numpy(chosen.points))
        used += len(kept)
    say(f"{used} primitives placed where views show something and none was")
    return torch.cat(rows), torch.cat(samples)
