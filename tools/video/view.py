"""A learned video shown: any frame of it, or all of them one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ..movie import check_target, movie
from ..pictures import to_uint8

__all__ = ["VideoScene", "check_video_target", "write_video"]


class VideoScene:
    """A frame generator with the clip it was trained on.

    Frames are made one at a time, whatever is asked for, so that a frame is the same bits alone and in its video (on one machine,
    with one number of threads), and memory does not grow with length.
    """

    def __init__(self, field, clip, device: str) -> None:
        self.field, self.clip, self.device = field, clip, device

    @torch.no_grad()
    def values(
        self,
        number: float,  # a frame from 0, or a time between two
    ) -> np.ndarray:  # (h, w, 3) float32 sRGB in [0, 1]
        """`UserError` for a number outside the video."""
        last = self.clip.frames - 1
        if not 0 <= number <= last:
            raise UserError(f"frame {number:g}: the video has frames 0 to {last}")
        numbers = torch.tensor([number], dtype=torch.float32, device=self.device)
        return self.field(numbers)[0].permute(1, 2, 0).cpu().numpy()

    def frame(self, number: float) -> np.ndarray:  # (h, w, 3) uint8 sRGB
        """As `values`, rounded."""
        return to_uint8(self.values(number))


def check_video_target(out: Path, *, one_frame: bool) -> None:
    """`UserError` unless a video, or one frame of it, can be written to `out`."""
    if not one_frame:
        check_target(out)
    elif out.suffix.lower() not in (".png", ".jpg", ".jpeg") or out.is_dir():
        raise UserError(f"{out}: one frame is written as .png or .jpg; give such a name with --frame")


def write_video(
    scene: VideoScene,
    out: str | os.PathLike,  # .mp4, .gif or, without a suffix, a folder of PNG frames
    on_frame: Callable[[int, int], None] | None = None,  # called with (done, total)
) -> Path:
    """Decodes the whole video. PNG frames hold exactly what the model gives; .mp4 and .gif are compressed once more."""
    out = Path(out)
    check_target(out)
    total = scene.clip.frames
    with movie(out, min(scene.clip.fps, 240.0)) as write:
        for number in range(total):
            write(scene.frame(number))
            if on_frame is not None:
                on_frame(number + 1, total)
    return out
