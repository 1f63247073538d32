"""Which reader understands a path: by what is in it, not by what it is called."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

from fieldstone.core.errors import UserError

from .assemble import assemble
from .capture import Capture

__all__ = ["READERS", "open_capture", "reader_for"]

READERS = ("blender", "transforms_json", "colmap", "llff", "dnmp", "kitti360", "kitti_raw", "waymo")
"""Modules of `datasets/readers`, in the order they are asked.

Each has FORMAT (its name), LOOKED_FOR (one line for the error message), `recognise(path) -> reason or None`
and `read(path, downscale) -> Reading`. Formats with more information come first: a mip-NeRF 360 folder has
both a COLMAP model and poses_bounds.npy, and only the first knows the lens distortion.
"""


def _reader(name: str) -> ModuleType:
    return importlib.import_module(f".readers.{name}", __package__)


def reader_for(path: Path) -> ModuleType | None:
    """The reader that recognises `path` (a file or a folder), or None."""
    for name in READERS:
        reader = _reader(name)
        if reader.recognise(path) is not None:
            return reader
    return None


def open_capture(
    path: str | Path,
    *,
    downscale: float = 1,
    holdout: int | None = None,
    workspace: str | Path | None = None,
) -> Capture:
    """The capture at `path`: a folder in any known format, its transforms.json, plain photos, or a video.

    Photos without poses are placed by structure from motion, in `workspace` (None: beside the photos).
    `downscale` >= 1 makes images that many times smaller by area averaging. `holdout` k holds every k-th
    frame out for testing and 0 none; None keeps the data set's own division, or every eighth frame where it
    has none.

    UserError, in one line, for what is missing, unknown, damaged or does not fit together.
    """
    path = Path(path).expanduser()
    workspace = None if workspace is None else Path(workspace).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    reader = reader_for(path)
    if reader is None:
        return _unposed(path, downscale, holdout, workspace)
    return assemble(reader.read(path, downscale), downscale, holdout)


def _unposed(path: Path, downscale: float, holdout: int | None, workspace: Path | None) -> Capture:
    from .readers.image_folder import image_files

    frames = path
    if path.is_file():
        from . import video

        if not video.is_video(path):
            raise UserError(f"{path}: neither a data set file nor a video. {_looked_for()}")
        frames = video.extract_frames(path, workspace)
    elif len(image_files(path)) < 2:
        raise UserError(f"{path}: no known format. {_looked_for()}. The folder contains {_contents(path)}")
    from . import photos

    colmap = _reader("colmap")
    reading = colmap.read(photos.place_photos(frames, workspace), downscale)
    reading.name = path.resolve().stem if path.is_file() else path.resolve().name
    return assemble(reading, downscale, holdout)


def _looked_for() -> str:
    formats = "; ".join(_reader(name).LOOKED_FOR for name in READERS)
    return f"Looked for: {formats}; two or more photos; a video file"


def _contents(folder: Path) -> str:
    kinds = Counter(
        "folders" if entry.is_dir() else entry.suffix.lower() or "files without suffix"
        for entry in folder.iterdir()
    )
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6)) or "nothing"
