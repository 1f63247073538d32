"""A video as frames that are read one at a time, whatever it is stored in.

Raw files and folders of pictures are read where they lie. A compressed video can only be decoded forwards, and training
asks for its frames in any order: it is decoded once, into a temporary file of plain pixels that goes with the object.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Protocol

import numpy as np

from fieldstone.core.errors import UserError

from .image_file import IMAGE_SUFFIXES, decode, read_header
from .video import decoded_frames, is_video
from .yuv import Y4M_MAGIC, open_i420, open_y4m

__all__ = ["MovingPicture", "open_moving_picture"]

_FPS = 30.0
_MAX_FPS = 1000.0


class _Source(Protocol):
    width: int
    height: int
    frames: int

    def frame(self, number: int) -> np.ndarray: ...


class MovingPicture:
    """Frames of one size, by number. Only the one asked for is in memory."""

    def __init__(self, path: Path, kind: str, source: _Source, fps: float) -> None:
        self.path = path
        self.kind = kind
        """"y4m", "i420", "folder" or "container"."""
        self.width, self.height, self.fps = source.width, source.height, fps
        self._source = source

    def __len__(self) -> int:
        return self._source.frames

    def frame(self, number: int) -> np.ndarray:  # (h, w, 3) uint8 sRGB
        """Frame `number`, from 0. IndexError outside; `UserError` if it cannot be read."""
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        return self._source.frame(number)


def open_moving_picture(
    path: str | os.PathLike,
    *,
    size: tuple[int, int] | None = None,  # width and height, of raw I420 only
    fps: float | None = None,  # in place of the file's; 30 where it has none
) -> MovingPicture:
    """Opens .y4m, raw I420 (with `size`), a folder of 8-bit pictures in the order of their names, or what ffmpeg decodes.

    What it is, is told by its content. `UserError` in one line for what is missing, unknown, damaged or has no frames.
    """
    path = Path(path)
    if fps is not None and not 0 < fps <= _MAX_FPS:
        raise UserError(f"--fps {fps:g}: give a number above 0 and up to {_MAX_FPS:g}")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a video file or a folder of frames")
    kind = _kind(path, size)
    if size is not None and kind != "i420":
        raise UserError(f"{path}: --size is for raw video; this is {_NAMES[kind]}, which knows its own size")
    own: float | None = None
    if kind == "y4m":
        source: _Source = open_y4m(path)
        own = source.fps
    elif kind == "i420":
        source = open_i420(path, *size)
    elif kind == "folder":
        source = _Folder(path)
    else:
        source = _Decoded(path)
        own = source.fps
    return MovingPicture(path, kind, source, fps or own or _FPS)


_NAMES = {"y4m": "a y4m file", "folder": "a folder of frames", "container": "a video container"}


def _kind(path: Path, size: tuple[int, int] | None) -> str:
    if path.is_dir():
        return "folder"
    try:
        with open(path, "rb") as file:
            start = file.read(len(Y4M_MAGIC))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if start == Y4M_MAGIC:
        return "y4m"
    if is_video(path):
        return "container"
    if size is not None:
        return "i420"
    if not start:
        raise UserError(f"{path}: the video has no frames: the file is empty")
    raw = path.suffix.lower() in (".yuv", ".i420", ".raw")
    raise UserError(
        f"{path}: "
        + (
            "raw video says nothing of itself: give --size WIDTHxHEIGHT (and --fps)"
            if raw
            else "not a video known here (MP4, MOV, MKV, WebM, AVI, ... or y4m); for raw I420 give --size WIDTHxHEIGHT"
        )
    )


class _Folder:
    """Pictures of one size, in the natural order of their names."""

    def __init__(self, path: Path) -> None:
        self._paths = sorted(
            (entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES), key=_natural
        )
        if not self._paths:
            raise UserError(f"{path}: the folder has no frames: no PNG, JPEG, ... in it")
        self.width, self.height = read_header(self._paths[0]).upright_size()
        for entry in self._paths:
            header = read_header(entry)
            if header.upright_size() != (self.width, self.height):
                wide, high = header.upright_size()
                raise UserError(
                    f"{entry}: {wide} x {high} pixels, and {self._paths[0].name} has {self.width} x {self.height}; "
                    "frames of a video are of one size"
                )
            if header.alpha:
                raise UserError(f"{entry}: the frame has an alpha channel; convert it to RGB")

    @property
    def frames(self) -> int:
        return len(self._paths)

    def frame(self, number: int) -> np.ndarray:
        pixels = decode(self._paths[number], upright=True)
        if pixels.shape != (self.height, self.width, 3):
            raise UserError(f"{self._paths[number]}: not {self.width} x {self.height} in RGB any more")
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels * 255).astype(np.uint8)
        return pixels


def _natural(path: Path) -> tuple:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


class _Decoded:
    """What ffmpeg decodes, as plain pixels in a temporary file without a name."""

    def __init__(self, path: Path) -> None:
        self.width = self.height = self.frames = 0
        self._path = path
        self._file = tempfile.TemporaryFile(prefix="fieldstone-frames-")
        try:
            self.fps = self._spool()
        except BaseException:
            self._file.close()
            raise
        if not self.frames:
            raise UserError(f"{path}: the video has no frames that can be decoded")

    def _spool(self) -> float | None:
        fps, frames = decoded_frames(self._path)
        for frame in frames:
            if not self.frames:
                self.height, self.width = frame.shape[:2]
            try:
                self._file.write(np.ascontiguousarray(frame, np.uint8).data)
            except OSError as error:
                free = shutil.disk_usage(tempfile.gettempdir()).free >> 20
                raise UserError(
                    f"{self._path}: frame {self.frames} cannot be kept in {tempfile.gettempdir()} ({error.strerror}; "
                    f"{free} MB free); set TMPDIR to a larger disk"
                ) from error
            self.frames += 1
        self._file.flush()
        return fps

    def frame(self, number: int) -> np.ndarray:
        count = self.width * self.height * 3
        self._file.seek(number * count)
        return np.frombuffer(self._file.read(count), np.uint8).reshape(self.height, self.width, 3)
