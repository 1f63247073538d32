"""LLFF: poses_bounds.npy beside a folder of images.

Each of the n rows holds a 3 x 5 matrix [R | t | (h, w, f)] and the near and far z_depth of the scene. The
columns of R are the camera's down, right and back axes. One focal length for both axes, no distortion,
principal point in the middle; rows belong to the images in name order. Source: Mildenhall et al. 2019
(LLFF), its README.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..reading import Frame, Lens, Reading
from .image_folder import image_files, image_folders

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "llff"
LOOKED_FOR = "poses_bounds.npy beside a folder images, images_4 or images_8 (LLFF)"


def _table(path: Path) -> Path | None:
    file = path if path.is_file() else path / "poses_bounds.npy"
    if not file.is_file() or file.suffix != ".npy":
        return None
    with open(file, "rb") as opened:
        return file if opened.read(6) == b"\x93NUMPY" else None


def recognise(path: Path) -> str | None:
    """Why `path` (a folder or the .npy itself) looks like this format, or None."""
    file = _table(path)
    return f"poses in {file.name}" if file else None


def read(path: Path, downscale: float = 1) -> Reading:
    """Frames in name order. UserError if the table is no (n, 17) numbers or the images are not n."""
    file = _table(path)
    folder = file.parent
    try:
        # mmap: the header of a hostile file may claim any shape; mapping it fails instead of allocating.
        table = np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{file}: not readable as a table of numbers ({' '.join(str(error).split())[:200]})"
        ) from error
    if table.ndim != 2 or table.shape[1] != 17 or table.dtype.kind not in "fiu":
        raise UserError(
            f"{file}: an array of {table.dtype} {table.shape}; LLFF has one row of 17 numbers for each image"
        )
    notes: list[str] = []
    images, reduced = _images(folder, len(table), downscale, notes)
    frames = []
    for row, image in zip(table.astype(np.float64), images):
        matrix = row[:15].reshape(3, 5)
        height, width, focal = matrix[:, 4]
        if not (np.isfinite(matrix[:, 4]).all() and 1 <= min(height, width) <= max(height, width) <= 1 << 20):
            raise UserError(
                f"{file}: frame {image.name}: h, w, f are {height}, {width}, {focal}; they must be positive"
            )
        down, right, back, position = matrix[:, 0], matrix[:, 1], matrix[:, 2], matrix[:, 3]
        pose = np.eye(4)
        pose[:3] = np.stack([right, down, -back, position], axis=1)
        lens = Lens("SIMPLE_PINHOLE", (focal, width / 2, height / 2), round(width), round(height))
        frames.append(
            Frame(name=image.relative_to(folder).as_posix(), image=image, lens=lens, camera_to_world=pose)
        )
    bounds = table[:, 15:].astype(np.float64)
    if not (np.isfinite(bounds).all() and (bounds[:, 0] > 0).all() and (bounds[:, 1] > bounds[:, 0]).all()):
        raise UserError(f"{file}: near and far bounds must be finite with 0 < near < far")
    return Reading(
        name=folder.resolve().name,
        folder=folder,
        format=FORMAT,
        frames=frames,
        near_far=(float(bounds[:, 0].min()), float(bounds[:, 1].max())),
        reduced=reduced,
        notes=notes,
    )


def _images(folder: Path, count: int, downscale: float, notes: list[str]) -> tuple[list[Path], float]:
    counts = []
    for candidate, factor in image_folders(folder, downscale):
        images = image_files(candidate)
        if len(images) == count:
            if factor != 1:
                notes.append(f"images are those of {candidate.name}, {factor:g} times reduced")
            return images, factor
        counts.append(f"{len(images)} in {candidate.name}")
    found = ", ".join(counts) or "none"
    raise UserError(
        f"{folder}: poses_bounds.npy has {count} poses, but images found: {found}; both must agree"
    )
