"""A posed capture: what every method trains on, whatever it was stored as."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..render.cameras import Cameras
from .block import Block
from .extent import Extent
from .images import Images, Masks, ZDepths
from .labels import Labels

__all__ = ["Capture", "Extent"]


@dataclass
class Capture:
    """n frames with cameras and what is known beside them. Poses and points are in the source frame and
    unit."""

    name: str
    folder: Path
    format: str
    """How it was stored: "blender", "transforms.json", "colmap", "llff", ..."""
    cameras: Cameras
    """Of all n frames, OpenCV axes, intrinsics and sizes those of `images` (downscaling included)."""
    images: Images
    """`images[i]` (h, w, 3 or 4) float32 sRGB in [0, 1], straight alpha; `images.uint8(i)`. Decoded when
    asked for."""
    names: tuple[str, ...]
    """File name of each frame, as the data set writes it."""
    splits: dict[str, np.ndarray]
    """"train" and "test", and "val" where the data set has one -> int64 frame indices."""
    masks: Masks | None = None
    """`masks[i]` (h, w) bool, True where the pixel may be used; None: no frame has one."""
    z_depths: ZDepths | None = None
    """`z_depths[i]` (h, w) float32 source units, 0 where unknown; None: no frame has one."""
    times: np.ndarray | None = None
    """(n,) float32 in [0, 1]; None: a still scene."""
    points: np.ndarray | None = None
    """(m, 3) float32 sparse points."""
    point_colours: np.ndarray | None = None
    """(m, 3) uint8."""
    point_labels: np.ndarray | None = None
    """(m,) integers: what each point is of, by `label_names`; None: the data set does not say."""
    label_names: dict[int, str] = field(default_factory=dict)
    labels: Labels | None = None
    """Semantic classes of pixels."""
    background: str | None = None
    """"white" or "black" if the benchmark composites transparent pixels on it."""
    colour_space: str = "srgb"
    """Of the files: "linear" for EXR and HDR. `images` are sRGB either way."""
    extent: Extent = field(default_factory=lambda: Extent(np.zeros(3), 1.0, False))
    """The cube that holds the subject."""
    block: Block | None = None
    """The part of a large scene that is to be learned, where it is divided."""
    notes: list[str] = field(default_factory=list)
    """What was skipped, rescaled or ignored, one line each."""

    def __len__(self) -> int:
        return len(self.names)

    def split(self, name: str) -> np.ndarray:
        """Frame indices (k,) int64 of split `name`; "all" is every frame. UserError if there is no such
        split."""
        if name == "all":
            return np.arange(len(self), dtype=np.int64)
        if name not in self.splits:
            known = ", ".join([*self.splits, "all"])
            raise UserError(f"{self.folder}: no split {name!r}; there are {known}")
        return self.splits[name]

    def summary(self) -> list[str]:
        """What a person wants to see before training, one line each."""
        sizes = sorted({tuple(size) for size in self.cameras.sizes.tolist()})
        pixels = " and ".join(f"{w} x {h}" for w, h in sizes[:2]) + (
            f" and {len(sizes) - 2} more sizes" * (len(sizes) > 2)
        )
        models = ", ".join(sorted(set(self.cameras.models)))
        splits = ", ".join(f"{len(index)} {name}" for name, index in self.splits.items())
        lines = [
            f"{self.name}: {self.format}, {len(self)} frames of {pixels} ({splits})",
            f"lens {models}; {'RGBA' if self.images.has_alpha else 'RGB'}"
            + (f" on {self.background}" if self.background else "")
            + (", linear light shown as sRGB" if self.colour_space == "linear" else ""),
        ]
        beside = [
            f"{len(self.points)} points{' with labels' if self.point_labels is not None else ''}"
            if self.points is not None
            else "",
            "masks" if self.masks is not None else "",
            "z_depths" if self.z_depths is not None else "",
            "times" if self.times is not None else "",
        ]
        if any(beside):
            lines.append("also " + ", ".join(text for text in beside if text))
        centre = ", ".join(f"{x:.4g}" for x in self.extent.centre)
        kind = "bounded" if self.extent.bounded else "unbounded"
        lines.append(f"subject within {self.extent.half_side:.4g} of ({centre}), {kind}")
        return lines + [f"note: {note}" for note in self.notes]
