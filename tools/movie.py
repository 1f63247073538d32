"""Frames into a video, an animated picture or a folder of pictures, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path, atomic_write_bytes

from .pictures import encode

__all__ = ["MOVIE_SUFFIXES", "check_target", "movie"]

MOVIE_SUFFIXES = (".mp4", ".gif")
"""Suffixes of single-file outputs; a path without a suffix is a folder of PNG frames."""


def check_target(out: str | os.PathLike) -> None:
    """`UserError` unless `movie` can write to `out`; called before work is put into frames."""
    out = Path(out)
    if out.suffix == "":
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out}: exists already and is not an empty folder; choose another --out")
    elif out.suffix.lower() not in MOVIE_SUFFIXES:
        raise UserError(
            f"{out}: cannot write {out.suffix!r}; give a name that ends in {' or '.join(MOVIE_SUFFIXES)}, "
            "or one without a suffix for a folder of PNG frames"
        )
    elif out.is_dir():
        raise UserError(f"{out}: is a folder; choose another --out")


@contextlib.contextmanager
def movie(out: str | os.PathLike, fps: float = 30.0) -> Iterator[Callable[..., None]]:
    """Yields `write(picture, name=None)` for uint8 (h, w, 3) frames; `out` appears when the block ends
    without an error.

    `.mp4` is H.264 (frames of one size; an odd last row or column is dropped, which the format asks for),
    `.gif` loops, a path without a suffix is a folder of PNG frames called `name` or by number. fps: frames a
    second, not for folders.
    """
    check_target(out)
    if not 0 < fps <= 240:
        raise UserError(f"--fps {fps}: give a number above 0 and up to 240")
    out = Path(out)
    if out.suffix == "":
        with _folder(out) as write:
            yield write
    else:
        import imageio.v2 as imageio

        with atomic_path(out) as temporary:
            if out.suffix.lower() == ".mp4":
                options = {"codec": "libx264", "quality": 8, "macro_block_size": 1, "fps": fps}
            else:
                options = {"duration": 1000 / fps, "loop": 0}
            try:
                writer = imageio.get_writer(temporary, mode="I", **options)
            except ImportError as error:
                raise UserError(f'{out}: {error}; install it with: pip install "imageio[ffmpeg]"') from error
            even = out.suffix.lower() == ".mp4"

            def write(picture: np.ndarray, name: str | None = None) -> None:
                height, width = picture.shape[:2]
                writer.append_data(picture[: height // 2 * 2, : width // 2 * 2] if even else picture)

            with writer:
                yield write


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Callable[..., None]]:
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    count = 0

    def write(picture: np.ndarray, name: str | None = None) -> None:
        nonlocal count
        atomic_write_bytes(temporary / f"{name or f'frame_{count:05d}'}.png", encode(picture))
        count += 1

    try:
        yield write
        temporary.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
