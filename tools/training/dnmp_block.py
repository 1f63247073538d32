"""What is different where mesh primitives learn one block of a large scene.

The block and its margin are learned as any scene is. What its views see beyond, they see as a backdrop of large primitives, which keeps the sky and the
far field of the block clean and is left out when blocks are joined. Ours; the paper's scenes are one piece.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.similarity import Similarity

from ...datasets.block import Block
from ...fields.primitives import Voxels, voxelise
from .dnmp_settings import DnmpSettings

__all__ = ["cut_voxels", "scene_frame", "within_sight", "worth_learning"]

BACKDROP = 4
"""Times the widest voxels: the side of those of the backdrop."""
SIGHT = 200
"""Finest voxels: how far beyond the block its views are taken to see."""
BACKDROP_SHARE = 4
"""One of so many pixels that show nothing but backdrop is learned from."""


def scene_frame(capture, options: DnmpSettings) -> Similarity:
    """From the source frame to that of the primitives. Metres stay metres; only the origin moves, since world coordinates may be
    millions of them. A block's origin is its own middle, in whole voxels from that of the scene, so that voxels of all blocks fall together.
    """
    origin = np.asarray(capture.extent.centre, float)
    if capture.block is not None:
        widest = options.voxel * 2 ** (options.scales - 1)
        origin = origin + np.round((capture.block.centre - origin) / widest) * widest
    return Similarity(1.0, np.eye(3), -origin)


def within_sight(
    points: Tensor,  # (n, 3) frame of the primitives
    frame: Similarity,
    block: Block | None,
    options: DnmpSettings,
) -> Tensor:  # (m, 3)
    """Without what is too far from the block to matter to it."""
    if block is None:
        return points
    away = block.distance(frame.inverse().apply(points.numpy()), block.index)
    return points[torch.from_numpy(away <= SIGHT * options.voxel)]


def cut_voxels(
    points: Tensor,  # (n, 3) frame of the primitives
    frame: Similarity,
    block: Block | None,
    options: DnmpSettings,
    seed: int,
) -> tuple[list[Voxels], float]:
    """Voxels of each scale, for a block also those of the backdrop, and the half side of the cube about the origin that holds the scales."""
    cloud = points.numpy()
    near = np.ones(len(cloud), bool) if block is None else block.near(frame.inverse().apply(cloud))
    voxels = []
    for scale in range(options.scales):
        size = options.voxel * 2**scale
        # grids of different scales are shifted against each other: where one has a seam the other has a middle
        shift = 0.37 * size * scale
        generator = np.random.default_rng(seed + scale)
        cut = voxelise(cloud[near] + shift, size, minimum=options.minimum_points, generator=generator)
        voxels.append(replace(cut, centres=cut.centres - np.float32(shift)))
    half_side = max(float(np.abs(cut.centres).max()) for cut in voxels) + 2 * options.voxel
    if (~near).sum() >= options.minimum_points:
        size = BACKDROP * options.voxel * 2 ** (options.scales - 1)
        generator = np.random.default_rng(seed + options.scales)
        cut = voxelise(cloud[~near], size, minimum=1, generator=generator)
        apart = ~block.near(frame.inverse().apply(cut.centres))
        if apart.any():
            kept = {name: getattr(cut, name)[apart] for name in ("centres", "points", "counts")}
            voxels.append(replace(cut, **kept))
    return voxels, half_side


def worth_learning(
    face: Tensor,  # (p, K) int32 what pixels meet, -1 where absent
    faces: Tensor,  # (f, 3) of the primitives
    near: Tensor,  # (n,) bool: which primitives belong to the block or its margin
) -> Tensor:  # (m,) int64 pixels
    """Those that show the block or nothing at all, and a few of those that show the backdrop alone."""
    there = face >= 0
    primitive = faces[face.clamp_min(0).long(), 0].long() // 42
    wanted = (there & near[primitive]).any(1) | ~there.any(1)
    backdrop = torch.nonzero(~wanted)[:, 0]
    return torch.cat([torch.nonzero(wanted)[:, 0], backdrop[::BACKDROP_SHARE]])
