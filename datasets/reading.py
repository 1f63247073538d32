"""What a reader returns: frames as the files state them, before any image is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .extent import Extent
from .image_file import Picture
from .labels import Labels

__all__ = ["Frame", "Lens", "Reading", "listed"]


@dataclass(frozen=True)
class Lens:
    """Intrinsics for images of `width` x `height` pixels."""

    model: str
    """A name of `CAMERA_MODELS`."""
    params: tuple[float, ...]
    """COLMAP's order, pixels."""
    width: int
    height: int
    exact: bool = True
    """False: the size was taken from the stored image, so it says nothing of EXIF turning."""


@dataclass(frozen=True)
class Frame:
    """One image and its camera."""

    name: str
    image: Path | Picture
    lens: Lens
    camera_to_world: np.ndarray
    """(4, 4) float64, OpenCV axes, source frame."""
    mask: Path | Picture | None = None
    z_depth: Path | Picture | None = None
    z_depth_unit: float = 1.0
    """Source units per stored value."""
    time: float | None = None


@dataclass
class Reading:
    """What a reader found. `assemble` checks it and makes it a `Capture`."""

    name: str
    folder: Path
    format: str
    frames: list[Frame]
    splits: dict[str, list[int]] | None = None
    """The data set's own division; None: every holdout-th frame is a test frame."""
    points: np.ndarray | None = None
    points_of: str = ""
    """The file or folder that the points are from, for messages."""
    point_colours: np.ndarray | None = None
    point_labels: np.ndarray | None = None
    """(m,) integers, `label_names` says of what."""
    label_names: dict[int, str] = field(default_factory=dict)
    labels: Labels | None = None
    """Of the frames in their order."""
    mask_marks_used: bool = True
    """Whether non-zero mask pixels are the ones to use."""
    background: str | None = None
    extent: Extent | None = None
    """None: chosen from cameras and points."""
    near_far: tuple[float, float] | None = None
    """z_depth range of the scene, if the data set states one."""
    reduced: float = 1
    """How many times smaller than the full images the chosen files already are (from a folder such as
    images_4)."""
    notes: list[str] = field(default_factory=list)


def listed(names: list[str], shown: int = 3) -> str:
    """The first few of `names` and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
