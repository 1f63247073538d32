"""One video to be learned: where it is, its size, and its frames when they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...datasets.moving_picture import MovingPicture, open_moving_picture

__all__ = ["Clip", "open_clip", "restore_clip"]

_SMALLEST = 8
_MOST_FRAMES = 1 << 24


@dataclass
class Clip:
    """What the method of videos learns; the file is opened when the first frame is read."""

    name: str
    path: Path
    width: int
    height: int
    frames: int
    fps: float
    raw: bool = False
    """Raw I420, which has to be told its size to be opened."""
    splits: dict[str, int] = field(default_factory=dict)

    @cached_property
    def moving_picture(self) -> MovingPicture:
        """The opened file; `UserError` if it is not there or is another video."""
        if not self.path.exists():
            raise UserError(
                f"{self.path}: the video of the run is not there; say where it is now with --data"
            )
        size = (self.width, self.height) if self.raw else None
        opened = open_moving_picture(self.path, size=size, fps=self.fps)
        if (opened.width, opened.height, len(opened)) != (self.width, self.height, self.frames):
            raise UserError(
                f"{self.path}: {len(opened)} frames of {opened.width} x {opened.height}; the run was trained on "
                f"{self.frames} of {self.width} x {self.height}"
            )
        return opened

    def frame(self, number: int) -> np.ndarray:  # (h, w, 3) uint8 sRGB
        return self.moving_picture.frame(number)

    def moved(self, path: str | os.PathLike) -> Clip:
        """The same video at another place."""
        return Clip(Path(path).name, Path(path), self.width, self.height, self.frames, self.fps, self.raw)

    def to_json(self) -> dict:
        """All but the path and the frames, as plain data."""
        return {key: getattr(self, key) for key in ("name", "width", "height", "frames", "fps", "raw")}

    def summary(self) -> list[str]:
        return [
            f"{self.name}: {self.frames} frames of {self.width} x {self.height} pixels, {self.fps:g} a second"
        ]


def open_clip(
    path: str | os.PathLike, *, size: tuple[int, int] | None = None, fps: float | None = None
) -> Clip:
    """The video at `path`; see `datasets.moving_picture`. `UserError` for one too small to be learned."""
    opened = open_moving_picture(path, size=size, fps=fps)
    if min(opened.width, opened.height) < _SMALLEST:
        raise UserError(
            f"{path}: {opened.width} x {opened.height} pixels; both sides must be at least {_SMALLEST}"
        )
    clip = Clip(
        opened.path.name, opened.path, opened.width, opened.height, len(opened), opened.fps,
        opened.kind == "i420",
    )  # fmt: skip
    clip.moving_picture = opened
    return clip


def restore_clip(record: dict, folder: Path, data: dict) -> Clip:
    """A clip from `to_json`'s record; its file is looked for only when frames are read."""
    try:
        place = Path(os.path.normpath(Path(folder) / str(data["path"])))
        clip = Clip(
            str(record["name"]), place, int(record["width"]), int(record["height"]), int(record["frames"]),
            float(record["fps"]), bool(record["raw"]),
        )  # fmt: skip
        sizes = clip.width, clip.height, clip.frames
        if min(sizes) < 1 or clip.width * clip.height > 1 << 26 or clip.frames > _MOST_FRAMES:
            raise ValueError(f"sizes {sizes}")
        if not 0 < clip.fps <= 1000:
            raise ValueError(f"{clip.fps} frames a second")
        return clip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'capture.json'}: damaged ({error!r})") from error
