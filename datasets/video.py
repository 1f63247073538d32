"""A video becomes a folder of photos: its sharpest frames, evenly spread over its length."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json

from .photo_features import sharpness

__all__ = ["decoded_frames", "extract_frames", "is_video"]

_SCORED_PER_BIN = 15  # of a long video, this many frames of each stretch are compared
_MAX_PIXELS = 1 << 26
_NO_VIDEO = (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis", b"crx ", b"M4A ")
"""Brands of ISO files that hold still pictures or sound."""


def is_video(path: str | Path) -> bool:
    """Whether the first bytes of `path` are those of a video container: MP4, MOV, MKV, WebM, AVI, FLV, MPEG, TS,
    WMV, Ogg. The name does not count."""
    try:
        with open(path, "rb") as file:
            start = file.read(400)
    except OSError:
        return False
    if start[4:8] == b"ftyp":
        return start[8:12] not in _NO_VIDEO
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    if start[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime from before ftyp
        return True
    if start[:1] == b"\x47" and start[188:189] == b"\x47" and start[376:377] == b"\x47":
        return True
    known = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\1\xba", b"\0\0\1\xb3", b"\x30\x26\xb2\x75")
    return start.startswith(known)


def extract_frames(
    path: str | Path,
    workspace: str | Path | None = None,
    *,
    count: int = 120,
    report: Callable[[str], None] = print,
) -> Path:
    """Writes up to `count` frames of the video as frame_<number in the video>.jpg; returns their folder.

    The length is divided into `count` equal stretches, and of each the sharpest frame is taken (see
    `photo_features.sharpness`). Frames are turned as the video says it was held. One frame is in memory at a
    time, and the best of its stretch.

    The folder is `frames` in `workspace` (None: a folder beside the video named after it, ending in _frames).
    Frames that an earlier call took from the same video (size, modification time, `count`) are used again; the
    folder appears when it is complete.

    UserError if the video cannot be read or has fewer than two frames, or the workspace cannot be written.
    """
    path = Path(path)
    if count < 2:
        raise UserError(f"{count} frames asked for; at least 2 are needed")
    workspace = Path(workspace) if workspace is not None else path.parent / f"{path.stem}_frames"
    folder = workspace / "frames"
    source = {"size": path.stat().st_size, "modified_ns": path.stat().st_mtime_ns, "count": count}
    if _taken_from(folder) == source:
        return folder
    total = _frame_count(path)
    if total < 2:
        raise UserError(f"{path}: the video has {total} readable frames; at least 2 are needed")
    with _new_folder(folder) as target:
        written = _write_sharpest(path, target, min(count, total), total)
        if written < 2:
            raise UserError(
                f"{path}: only {written} frames can be decoded; the video is damaged, copy it again"
            )
        atomic_write_json(target / "video.json", source)
    report(f"{path}: kept the {written} sharpest of {total} frames, evenly spread")
    return folder


def _write_sharpest(path: Path, folder: Path, bins: int, total: int) -> int:
    from PIL import Image

    def write(frame: np.ndarray, number: int) -> None:
        Image.fromarray(frame).save(folder / f"frame_{number:06d}.jpg", quality=95, subsampling=0)

    written, current = 0, 0
    best: tuple[float, int, np.ndarray] | None = None
    step = max(1, total // (bins * _SCORED_PER_BIN))
    for number, frame in enumerate(_frames(path)):
        if number % step:
            continue
        stretch = min(number * bins // total, bins - 1)
        if stretch != current and best is not None:
            write(best[2], best[1])
            written, best = written + 1, None
        current = stretch
        score = sharpness(frame[..., 1])  # green carries most of the luminance
        if best is None or score > best[0]:
            best = score, number, frame
    if best is not None:
        write(best[2], best[1])
        written += 1
    return written


@contextlib.contextmanager
def _opened(path: Path) -> Iterator:
    import imageio.v2 as imageio

    with _ffmpeg_errors(path):
        # the protocol is what a local file needs: a play list must not make ffmpeg fetch from elsewhere
        reader = imageio.get_reader(
            str(path.resolve()), "ffmpeg", input_params=["-protocol_whitelist", "file"]
        )
    try:
        yield reader
    finally:
        reader.close()


def _frames(path: Path) -> Iterator[np.ndarray]:
    """(h, w, 3) uint8 sRGB frames, one at a time; ffmpeg applies the rotation in the file."""
    with _opened(path) as reader:
        width, height = reader.get_meta_data()["size"]
        if not 0 < width * height <= _MAX_PIXELS:
            raise UserError(f"{path}: frames of {width} x {height} pixels; at most 2^26 are read")
        frames = reader.iter_data()
        while True:
            with _ffmpeg_errors(path):
                frame = next(frames, None)
            if frame is None:
                return
            yield np.asarray(frame)


def decoded_frames(path: Path) -> tuple[float | None, Iterator[np.ndarray]]:
    """Frames a second as the container says (None if it does not), and its (h, w, 3) uint8 sRGB frames, one at a time.

    `UserError` if the video cannot be read, here or on the way.
    """
    with _opened(path) as reader, _ffmpeg_errors(path):
        fps = float(reader.get_meta_data().get("fps") or 0)
    return fps if 0 < fps < 1000 else None, _frames(path)


def _frame_count(path: Path) -> int:
    with _opened(path) as reader, _ffmpeg_errors(path):
        return int(reader.count_frames())


@contextlib.contextmanager
def _ffmpeg_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        why = f" ({lines[-1].strip()[:160]})" if lines else ""
        raise UserError(
            f"{path}: the video cannot be read{why}; copy it again or convert it to MP4"
        ) from error


def _taken_from(folder: Path) -> dict | None:
    try:
        return json.loads((folder / "video.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which it replaces when the block ends without an error."""
    temporary = folder.parent / f".{folder.name}.tmp"
    made = not folder.parent.exists()
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: cannot be written ({error.strerror}); name another folder for the workspace"
        ) from error
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made and folder.parent.exists() and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
