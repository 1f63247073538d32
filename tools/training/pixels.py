"""The pixels a scene is trained on: all training images in memory as bytes, drawn at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras

__all__ = ["PixelBatch", "Pixels"]

MEMORY = 6 << 30
"""Bytes that the training images may take; beyond it the user is asked to downscale."""


class PixelBatch(NamedTuple):
    """m pixels with their rays, in the source frame."""

    frame: Tensor
    """(m,) int64, position in the training split."""
    directions: Tensor
    """(m, 3) float32 unit, camera space."""
    colour: Tensor
    """(m, 3) float32 sRGB in [0, 1], straight."""
    alpha: Tensor
    """(m,) float32; 1 where the images have none."""


class Pixels:
    """Every pixel of the training images that a mask leaves in and the lens sees."""

    def __init__(self, capture, split: np.ndarray, cameras: Cameras, device: str) -> None:
        sizes = cameras.sizes.cpu().tolist()
        total = sum(width * height for width, height in sizes)
        first = capture.images.uint8(int(split[0]))
        if total * 4 > MEMORY:
            raise UserError(
                f"{capture.folder}: the training images have {total / 1e6:.0f} million pixels, more than fit in "
                f"{MEMORY >> 30} GB of memory; use --downscale {int(np.ceil(np.sqrt(total * 4 / MEMORY)))}"
            )
        self.has_alpha = first.shape[2] == 4
        values = np.empty((total, 4), np.uint8)
        usable = np.ones(total, bool)
        table_of: dict[int, int] = {}
        tables: list[Tensor] = []
        starts, table_start = [0], []
        length = 0
        lens = cameras.lens_index().tolist()
        for position, frame in enumerate(np.asarray(split).tolist()):
            width, height = sizes[position]
            image = capture.images.uint8(frame)
            if image.shape[:2] != (height, width):
                raise UserError(
                    f"{capture.names[frame]}: {image.shape[1]}x{image.shape[0]} pixels, the camera says {width}x{height}"
                )
            begin, end = starts[-1], starts[-1] + width * height
            pixels = image.reshape(-1, image.shape[2])
            values[begin:end, :3] = pixels[:, :3]
            values[begin:end, 3] = pixels[:, 3] if image.shape[2] == 4 else 255
            self.has_alpha |= image.shape[2] == 4
            if lens[position] not in table_of:
                table_of[lens[position]] = length
                table = cameras.direction_table(position).reshape(-1, 3)
                tables.append(table)
                length += len(table)
            table_start.append(table_of[lens[position]])
            seen = tables[list(table_of).index(lens[position])].isfinite().all(1).cpu().numpy()
            usable[begin:end] = seen
            if capture.masks is not None:
                mask = np.asarray(capture.masks[frame])
                if mask.shape != (height, width):
                    raise UserError(
                        f"{capture.names[frame]}: its mask has {mask.shape[1]}x{mask.shape[0]} pixels, the image {width}x{height}"
                    )
                usable[begin:end] &= mask.reshape(-1)
            starts.append(end)
        self._values = torch.from_numpy(values).to(device)
        self._tables = torch.cat(tables).to(device)
        self._starts = torch.tensor(starts, device=device)
        self._table_start = torch.tensor(table_start, device=device)
        self._one_size = len({tuple(size) for size in sizes}) == 1
        self._usable = None if usable.all() else torch.from_numpy(np.flatnonzero(usable)).to(device)
        if self._usable is not None and len(self._usable) == 0:
            raise UserError(
                f"{capture.folder}: the masks leave no pixel to train on; check that they are not inverted"
            )

    def __len__(self) -> int:
        return len(self._values) if self._usable is None else len(self._usable)

    def draw(self, count: int, generator: torch.Generator) -> PixelBatch:
        """`count` pixels, uniform over all images, with replacement."""
        device = self._values.device
        chosen = torch.randint(len(self), (count,), generator=generator, device=device)
        if self._usable is not None:
            chosen = self._usable[chosen]
        return self._batch(chosen)

    def _batch(self, chosen: Tensor) -> PixelBatch:
        if self._one_size:
            frame = chosen // (self._starts[1] - self._starts[0])
        else:
            frame = torch.searchsorted(self._starts, chosen, right=True) - 1
        values = self._values[chosen].float() / 255
        directions = self._tables[self._table_start[frame] + chosen - self._starts[frame]]
        return PixelBatch(frame, directions, values[:, :3], values[:, 3])
