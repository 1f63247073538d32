"""What moved while a street was recorded: boxes, the pixels they cover, and the points in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..render.cameras import Cameras
from .image_file import ImageHeader, Picture, read_header

__all__ = ["AnyMask", "BoxMask", "NumberMask", "grown", "inside", "outlines"]

_STEPS = 12
"""Points along each side of a face that stand for it in an image."""


def grown(
    boxes: np.ndarray,  # (k, 4, 4) cube [-1/2, 1/2]^3 to some frame
    margin: float | np.ndarray,  # metres on every side; one for all or (k,)
) -> np.ndarray:  # (k, 4, 4)
    """The boxes with `margin` added on every side."""
    size = np.linalg.norm(boxes[:, :3, :3], axis=1)  # (k, 3)
    factor = (size + 2 * np.broadcast_to(margin, len(boxes))[:, None]) / np.maximum(size, 1e-9)
    made = boxes.copy()
    made[:, :3, :3] *= factor[:, None, :]
    return made


def inside(
    points: np.ndarray,  # (n, 3)
    boxes: np.ndarray,  # (k, 4, 4) cube [-1/2, 1/2]^3 to the points' frame
) -> np.ndarray:  # (n,) bool
    """Which points lie in any of the boxes. Boxes without volume hold nothing."""
    found = np.zeros(len(points), bool)
    for box in boxes:
        if abs(np.linalg.det(box[:3, :3])) < 1e-12:
            continue
        reach = 0.5 * np.abs(box[:3, :3]).sum(1)
        near = np.flatnonzero((np.abs(points - box[:3, 3]) <= reach).all(1))
        local = (points[near] - box[:3, 3]) @ np.linalg.inv(box[:3, :3]).T
        found[near[(np.abs(local) <= 0.5).all(1)]] = True
    return found


def outlines(
    boxes: np.ndarray,  # (k, 4, 4) cube [-1/2, 1/2]^3 to world
    camera: Cameras,  # one
) -> list[np.ndarray]:  # each (m, 2) corners of a convex polygon, pixels
    """Around what each box covers of the image; boxes out of sight have none. Lens distortion is in it, as faces are projected point by point."""
    from scipy.spatial import ConvexHull, QhullError

    faces = _surface()
    width, height = camera.size(0)
    found = []
    for box in boxes:
        world = faces @ box[:3, :3].T + box[:3, 3]
        pixels, z = camera.project(torch.from_numpy(world), torch.tensor([0]))
        pixels = pixels[(z > 0.1) & torch.isfinite(pixels).all(1)].numpy()
        if not len(pixels):
            continue
        low, high = pixels.min(0), pixels.max(0)
        if (high < 0).any() or (low > (width, height)).any():
            continue
        try:
            found.append(pixels[ConvexHull(pixels).vertices])
        except QhullError:  # a box seen as a line covers no pixel
            continue
    return found


def _surface() -> np.ndarray:  # (m, 3)
    """Points all over the faces of the cube [-1/2, 1/2]^3."""
    line = np.linspace(-0.5, 0.5, _STEPS)
    a, b = (side.ravel() for side in np.meshgrid(line, line))
    faces = [
        np.stack(np.roll([np.full_like(a, end), a, b], axis, 0), 1)
        for axis in range(3)
        for end in (-0.5, 0.5)
    ]
    return np.concatenate(faces)


@dataclass(frozen=True, eq=False)
class BoxMask(Picture):
    """A mask whose marked pixels show a mover, drawn when it is asked for."""

    camera: Cameras
    """One, of the full image."""
    boxes: np.ndarray
    """(k, 4, 4) cube [-1/2, 1/2]^3 to world."""
    name: str

    def __str__(self) -> str:
        return f"{self.name} (mask of {len(self.boxes)} boxes)"

    def header(self) -> ImageHeader:
        return ImageHeader("boxes", *self.camera.size(0), alpha=False)

    def pixels(self) -> np.ndarray:  # (h, w, 1) uint8
        from PIL import Image, ImageDraw

        drawn = Image.new("L", self.camera.size(0))
        for corners in outlines(self.boxes, self.camera):
            # Pillow's integer coordinates are pixel centres
            ImageDraw.Draw(drawn).polygon([tuple(corner - 0.5) for corner in corners], fill=255)
        return np.asarray(drawn)[..., None]


@dataclass(frozen=True)
class NumberMask(Picture):
    """Marks the pixels of a picture of class or instance numbers that have one of some numbers."""

    path: Path
    numbers: frozenset[int]

    def __str__(self) -> str:
        return str(self.path)

    def header(self) -> ImageHeader:
        return read_header(self.path)

    def any(self) -> bool:
        """Whether there is such a pixel."""
        return bool(self.pixels().any())

    def pixels(self) -> np.ndarray:  # (h, w, 1) uint8
        from .labels import Labels

        stored = Labels({}, (self.path,)).image(0)
        return (np.isin(stored, list(self.numbers)) * np.uint8(255))[..., None]


@dataclass(frozen=True, eq=False)
class AnyMask(Picture):
    """Marks what any of some masks of one size marks."""

    parts: tuple[Picture, ...]

    def __str__(self) -> str:
        return " and ".join(str(part) for part in self.parts)

    def header(self) -> ImageHeader:
        return self.parts[0].header()

    def pixels(self) -> np.ndarray:  # (h, w, 1) uint8
        first, *others = (part.pixels() for part in self.parts)
        height, width = first.shape[:2]
        for other in others:  # annotations may be of another resolution
            rows = (np.arange(height) + 0.5) * other.shape[0] / height
            columns = (np.arange(width) + 0.5) * other.shape[1] / width
            first = np.maximum(first, other[rows.astype(int)[:, None], columns.astype(int)])
        return first
