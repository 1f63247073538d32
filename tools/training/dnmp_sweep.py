"""Points where a scanner left none: planes are swept through what photographs show and no primitive covers.

Plane sweep (Collins 1996) with normalised cross-correlation over small windows; a point is kept where several views of the sweep put one in the
same cell. Rough, as it has to be: it places primitives, which are then shaped and coloured like all others. The paper's depth comes from COLMAP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, max_pool2d

from ...render.cameras import Cameras
from .dnmp_population import side_at

__all__ = ["Swept", "agreeing", "sweep", "swept_points"]

PLANES, NEAREST, FARTHEST = 48, 3.0, 120.0
"""Even in inverse depth, in source units."""
NEIGHBOURS = 3
WINDOW = 7
ALIKE, CONTRAST = 0.85, 0.012
"""Correlation that a point needs with two neighbours in the mean, and spread of grey values in its window."""
MOTION = 0.004
"""A neighbour's distance over the depth, below which its view is no help."""


WIDEST, VIEWS = 640, 8
"""Pixels and number of the pictures that are swept; larger ones are shrunk first, of more only some are taken."""


class Swept(NamedTuple):
    points: Tensor
    """(m, 3) float32 frame of the cameras."""
    z_depth: Tensor
    """(m,)."""
    view: Tensor
    """(m,) int64 which of the views swept it was."""


def _blurred(images: Tensor) -> Tensor:
    return avg_pool2d(images, WINDOW, 1, WINDOW // 2, count_include_pad=False)


@torch.no_grad()
def sweep(
    cameras: Cameras,  # n
    images: list[Tensor],  # n of (h, w) float32 grey, in [0, 1]
    index: int,  # the view that is swept
    wanted: Tensor,  # (h, w) bool: its pixels that need points
) -> Swept:
    """Points of the wanted pixels of one view, matched with the views nearest to it. Not differentiable."""
    nothing = Swept(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    rows = torch.nonzero(wanted.any(1))[:, 0]
    if not len(rows):
        return nothing
    top, bottom = (
        max(int(rows[0]) - WINDOW, 0),
        min(int(rows[-1]) + WINDOW + 1, wanted.shape[0]),
    )
    grey = images[index][None, None, top:bottom]
    height, width = grey.shape[2:]
    apart = (cameras.positions - cameras.positions[index]).norm(dim=1).float()
    apart[index] = torch.inf
    order = apart.argsort()
    neighbours = order[apart[order] > 0.05][:NEIGHBOURS].tolist()
    # the farther neighbour on the line of motion fixes far points better: one more, three times as far as the last
    farther = (
        order[(apart[order] > 3 * apart[neighbours[-1]]) & apart[order].isfinite()] if neighbours else []
    )
    neighbours += farther[:1].tolist() if len(farther) else []
    if not neighbours:
        return nothing
    ys, xs = torch.meshgrid(torch.arange(top, bottom), torch.arange(width), indexing="ij")
    at = torch.stack([xs, ys], -1).reshape(-1, 2).double() + 0.5
    rays = cameras.rays(torch.tensor([index]), at)
    along = rays.directions / rays.z_per_distance[:, None]  # of z_depth 1
    origin = rays.origins[:1]
    inverse = torch.linspace(1 / NEAREST, 1 / FARTHEST, PLANES)
    mean = _blurred(grey)
    spread = (_blurred(grey.square()) - mean.square()).clamp_min(0)
    score = torch.empty(PLANES, height * width)
    for plane, w in enumerate(inverse.tolist()):
        points = origin + along / w
        alike = torch.full((len(neighbours), height * width), -1.0)
        for row, other in enumerate(neighbours):
            if float(apart[other]) * w < MOTION:
                continue
            pixels, z = cameras.project(points.double(), torch.tensor([other]))
            there = images[other]
            size = torch.tensor([there.shape[1], there.shape[0]])
            place = (pixels / size * 2 - 1).float().nan_to_num(9.0)
            seen = (z > 0) & (place.abs() < 1).all(1)
            warped = grid_sample(
                there[None, None], place.view(1, height, width, 2), align_corners=False, padding_mode="border"
            )
            other_mean = _blurred(warped)
            other_spread = (_blurred(warped.square()) - other_mean.square()).clamp_min(0)
            both = _blurred(warped * grey) - mean * other_mean
            ncc = (both / (spread * other_spread + 1e-9).sqrt()).view(-1)
            alike[row] = torch.where(seen, ncc, -1.0)
        # the better half of the neighbours: what is hidden in one is seen in another
        score[plane] = alike.topk(min(2, len(neighbours)), dim=0).values.mean(0)
    best, plane = score.max(0)
    inner = plane.clamp(1, PLANES - 2)
    left, middle, right = (score.gather(0, (inner + s)[None])[0] for s in (-1, 0, 1))
    bend = (left - 2 * middle + right).clamp_max(-1e-6)
    shift = (0.5 * (left - right) / bend).clamp(-0.5, 0.5)
    step = float(inverse[1] - inverse[0])
    w = inverse[inner] + shift * step
    kept = (best > ALIKE) & (spread.view(-1).sqrt() > CONTRAST) & (plane > 0) & (plane < PLANES - 1)
    kept &= wanted[top:bottom].reshape(-1)
    z = 1 / w[kept]
    return Swept(
        (origin + along[kept] * z[:, None]).float(),
        z,
        torch.full((len(z),), index, dtype=torch.int64),
    )


def agreeing(swept: list[Swept], size: float, views: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """(m, 3) float64 points of cells where at least `views` views put one, and (m,) float64 sides of their cells, see `side_at`."""
    points = torch.cat([s.points for s in swept]).double().numpy()
    z, view = torch.cat([s.z_depth for s in swept]).numpy(), torch.cat([s.view for s in swept]).numpy()
    side = side_at(size, z)
    if not len(points):
        return points, side
    cell = np.column_stack([np.floor(points / side[:, None]), np.log2(side / size)]).astype(np.int64)
    number = np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)
    pairs = np.unique(np.column_stack([number, view]), axis=0)
    kept = np.bincount(pairs[:, 0])[number] >= views
    return points[kept], side[kept]


def swept_points(
    cameras: Cameras,
    pixels: Callable[[int], Tensor],  # of a view: (h w, 3) uint8
    bare: list[Tensor],  # (h, w) bool: pixels of each view where no primitive is
    size: float,  # of the finest voxels
) -> tuple[np.ndarray, np.ndarray]:  # (m, 3) float64, (m,) sides of the voxels wanted there
    """Points of the bare pixels of up to VIEWS of the views, those on which three of them agree."""
    width, height = cameras.size(0)
    shrink = max(1, -(-width // WIDEST))
    small = cameras.resized(width // shrink, height // shrink) if shrink > 1 else cameras
    images = []
    for view in range(len(cameras)):
        grey = pixels(view).float().mean(1).view(1, 1, height, width) / 255
        images.append(avg_pool2d(grey, shrink)[0, 0])
    swept = []
    for view in range(0, len(cameras), max(1, -(-len(cameras) // VIEWS))):
        wanted = -max_pool2d(
            -bare[view].float()[None, None], 3, 1, 1
        )  # not the last pixel beside a primitive
        swept.append(sweep(small, images, view, avg_pool2d(wanted, shrink)[0, 0] > 0.5))
    return agreeing(swept, size)
