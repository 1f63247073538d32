"""Which points of a cloud a view sees, without a surface: what hides behind nearer points does not count."""

from __future__ import annotations

import numpy as np
import torch

from ...render.cameras import Cameras

__all__ = ["seen_points", "visible_points"]

BLOCK = 6
"""Pixels: the nearest point of a block of this side and of those around it hides what is behind."""
SLACK_SHARE, SLACK = 0.04, 0.25
"""Depth by which a point may be behind the nearest: a share of it, and of the source unit."""


def seen_points(
    points: torch.Tensor,  # (n, 3) frame of the camera
    camera: Cameras,  # one
) -> tuple[torch.Tensor, torch.Tensor]:  # (m,) int64 row-major pixels, each once; (m,) float32 z_depth
    """Pixels in which a point is seen, and its z_depth there. Points seen through a gap between nearer points may be among them."""
    _, flat, z = visible_points(points, camera)
    order = np.lexsort((z, flat))
    pixel, first = np.unique(flat[order], return_index=True)
    return torch.from_numpy(pixel), torch.from_numpy(z[order][first]).float()


def visible_points(
    points: torch.Tensor,  # (n, 3) frame of the camera
    camera: Cameras,  # one
) -> tuple[
    np.ndarray, np.ndarray, np.ndarray
]:  # (m,) int64 points; (m,) int64 row-major pixels; (m,) z_depth
    """All points that nothing nearer hides, with the pixels they fall in; several may share one."""
    width, height = camera.size(0)
    pixels, z = camera.project(points.double(), torch.zeros(1, dtype=torch.int64))
    x, y = pixels[:, 0].nan_to_num(-1), pixels[:, 1].nan_to_num(-1)
    inside = (z > 0.5) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y, z = x[inside].long().numpy(), y[inside].long().numpy(), z[inside].numpy()
    rows, columns = -(-height // BLOCK) + 2, -(-width // BLOCK) + 2
    nearest = np.full((rows, columns), np.inf)
    np.minimum.at(nearest, (y // BLOCK + 1, x // BLOCK + 1), z)
    spread = np.min([np.roll(nearest, (a, b), (0, 1)) for a in (-1, 0, 1) for b in (-1, 0, 1)], axis=0)
    limit = spread[y // BLOCK + 1, x // BLOCK + 1]
    kept = z <= limit * (1 + SLACK_SHARE) + SLACK
    index = torch.nonzero(inside)[:, 0].numpy()
    return index[kept], (y * width + x)[kept], z[kept]
