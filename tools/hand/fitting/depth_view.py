"""How well a posed model explains a depth image: it is rendered, and compared pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage

from ....render.cameras import Cameras
from ....render.rasterise import fragments
from .closest import beyond_opening

__all__ = ["DepthView"]

_FAR = 0.02
"""Metres at which a depth that is farther off makes no difference; also the cost of a pixel that only one of the two covers."""
_JUMP = 0.005
"""Metres from which a pixel may be explained by one beside it: outlines and edges of fingers are not known to the pixel."""
_BEHIND = 0.01
"""Metres behind what was seen from which a point is hidden."""
_ACROSS = 96
"""Pixels across what is seen: a larger picture is compared at every so many pixels."""


@dataclass(frozen=True, eq=False)
class DepthView:
    """One depth image."""

    camera: Cameras
    """One."""
    z_depth: np.ndarray
    """(h, w) metres along the optical axis, 0 where the camera saw through."""

    @cached_property
    def _small(self) -> tuple[Cameras, np.ndarray, np.ndarray, np.ndarray]:
        """Camera, depths, places (h, w, 3) in the world and where a model may be, of the picture that is compared."""
        row, column = np.nonzero(self.z_depth)
        factor = max(1, int(max(np.ptp(row), np.ptp(column)) + 1) // _ACROSS)
        camera = self.camera.downscaled(factor)
        width, height = camera.size(0)
        at = [
            ((np.arange(n) + 0.5) * full / n).astype(int)
            for n, full in zip((height, width), self.z_depth.shape)
        ]
        z = self.z_depth[np.ix_(*at)]
        row, column = np.nonzero(z)
        pixels = torch.from_numpy(np.stack((column + 0.5, row + 0.5), 1))
        local = camera.unproject(pixels, torch.zeros(len(row), dtype=torch.long)).numpy()
        pose = camera.camera_to_world[0].double().numpy()
        places = np.zeros((*z.shape, 3))
        places[row, column] = local / local[:, 2:] * z[row, column, None] @ pose[:3, :3].T + pose[:3, 3]
        return camera, z, places, ndimage.binary_dilation(z > 0, np.ones((3, 3)))

    def misfit(
        self,
        vertices: np.ndarray,  # (v, 3) metres
        faces: np.ndarray,  # (f, 3)
        opening: np.ndarray,  # boundary vertices of the model's open wrist; empty for a closed model
    ) -> float:
        """Metres: the mean over what is seen of how far the rendered depth is off, cut off at `_FAR`, and as much for each pixel where the
        model covers what the camera saw through. What is seen past the open wrist is no part of the model."""
        camera, z, places, near = self._small
        # the inside of an open wrist is nothing that a camera sees: there an arm goes on
        found = fragments(
            torch.from_numpy(vertices.astype(np.float32)), torch.from_numpy(faces), camera, back_faces=False
        )
        rendered = found.z_depth[..., 0].numpy()
        covered = found.mask[..., 0].numpy()
        rendered = np.where(covered, rendered, 10.0)
        seen = z > 0
        error = np.abs(rendered - z)
        worse = seen & (error > _JUMP)
        row, column = np.nonzero(worse)
        padded = np.pad(rendered, 1, constant_values=10.0)
        around = [padded[row + i, column + k] for i in range(3) for k in range(3)]
        error[row, column] = np.abs(np.stack(around) - z[row, column]).min(0)
        error = np.where(seen, np.minimum(error, _FAR), 0.0)
        bare = seen & (error >= _FAR)
        if len(opening) and bare.any():
            row, column = np.nonzero(bare)
            past = beyond_opening(vertices, opening, places[row, column])
            error[row[past], column[past]] = 0.0
        return float((error.sum() + _FAR * (covered & ~near).sum()) / seen.sum())

    def hides(
        self,
        points: np.ndarray,  # (n, 3)
    ) -> np.ndarray:  # (n,) bool
        """Which points lie clearly behind what was seen, whatever else is there."""
        at = self.camera.project(torch.from_numpy(points), torch.zeros(len(points), dtype=torch.long))[
            0
        ].numpy()
        height, width = self.z_depth.shape
        inside = np.isfinite(at).all(1) & (at >= 0).all(1) & (at < (width, height)).all(1)
        x, y = (np.where(inside, at[:, k], 0).astype(int) for k in (0, 1))
        pose = self.camera.camera_to_world[0].double().numpy()
        before = self._farthest[y, x]
        return inside & (before > 0) & ((points - pose[:3, 3]) @ pose[:3, 2] > before + _BEHIND)

    @cached_property
    def _farthest(self) -> np.ndarray:
        """The largest depth within a pixel or two: where one finger ends before another, the other's."""
        return ndimage.maximum_filter(self.z_depth, 3)
