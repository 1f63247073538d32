"""The images of a capture from a folder, checked before they are believed."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["ImageSet", "list_images", "read_image_set", "read_stereo_images"]

_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".pgm", ".jpg", ".jpeg")
_LEFT, _RIGHT = (
    ("L", "left", "Left", "LEFT", "l", "cam0", "0"),
    ("R", "right", "Right", "RIGHT", "r", "cam1", "1"),
)
_MOST_PIXELS, _MOST_FILES, _MOST_BYTES = 1 << 27, 128, 1 << 30


@dataclass(frozen=True)
class ImageSet:
    """The grey images of one camera in order."""

    images: np.ndarray
    """(n, h, w) uint8 or uint16."""
    paths: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def read_stereo_images(folder: str | os.PathLike) -> tuple[ImageSet, ImageSet]:
    """The images of `folder`/L and `folder`/R (also left/right, cam0/cam1), in the order of the numbers in their names.

    Raises `UserError` for a missing folder, image or number, sizes or depths that differ, and files that are no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    sides = []
    for names in (_LEFT, _RIGHT):
        found = next((folder / name for name in names if (folder / name).is_dir()), None)
        if found is None:
            raise UserError(f"{folder}: holds no folder {' or '.join(names[:3])} with that camera's images")
        sides.append(found)
    listed = [list_images(side) for side in sides]
    counts = [len(paths) for paths in listed]
    if counts[0] != counts[1]:
        less = int(counts[1] < counts[0])
        numbers = [{_number(p) for p in paths} for paths in listed]
        lacking = sorted(numbers[1 - less] - numbers[less])
        named = f" (number {', '.join(map(str, lacking[:5]))} lacks in {sides[less].name})" if lacking else ""
        raise UserError(
            f"{folder}: {counts[0]} left and {counts[1]} right images{named}; both cameras take every pattern, add the missing ones"
        )
    left, right = (read_image_set(paths) for paths in listed)
    if left.images.shape != right.images.shape or left.images.dtype != right.images.dtype:
        raise UserError(
            f"{folder}: left images are {_shape(left.images[0])}, right ones {_shape(right.images[0])}; they must be alike"
        )
    return left, right


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder in the order of the last number in their names; a number that lacks is an error."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder}: holds no images ({', '.join(_SUFFIXES)})")
    if len(paths) > _MOST_FILES:
        raise UserError(
            f"{folder}: {len(paths)} images; at most {_MOST_FILES} make a capture. Give the folder of one capture"
        )
    numbers = [_number(p) for p in paths]
    if None not in numbers:
        twice = {n for n in numbers if numbers.count(n) > 1}
        if twice:
            raise UserError(f"{folder}: number {min(twice)} occurs twice; keep one image for each pattern")
        gaps = sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers))
        if gaps:
            raise UserError(
                f"{folder}: image {gaps[0]} is missing ({len(paths)} images, numbered {min(numbers)} to {max(numbers)})"
            )
        return [p for _, p in sorted(zip(numbers, paths))]
    return sorted(paths)


def read_image_set(paths: list[Path]) -> ImageSet:
    """Decodes images in parallel to one (n, h, w) array. Colour is turned grey, with a warning."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        images = list(pool.map(_read, paths))
    warnings = []
    coloured = sum(image.ndim == 3 for image in images)
    if coloured:
        warnings.append(
            f"{coloured} of {len(images)} images are in colour; the mean of their channels was used"
        )
        images = [_grey(image) for image in images]
    for path, image in zip(paths, images):
        if image.shape != images[0].shape or image.dtype != images[0].dtype:
            raise UserError(
                f"{path}: is {_shape(image)}, {paths[0].name} is {_shape(images[0])}; all images of a camera must be alike"
            )
    return ImageSet(np.stack(images), tuple(paths), tuple(warnings))


def _read(path: Path) -> np.ndarray:
    import cv2

    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path}: {path.stat().st_size >> 20} MB is too large for an image of a capture")
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise UserError(f"{path}: cannot be decoded ({error.err})") from error
    if image is None:
        raise UserError(
            f"{path}: not an image that can be decoded ({path.stat().st_size} bytes); is the file whole?"
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: pixels are {image.dtype}; 8 or 16 bit grey values are needed")
    if min(image.shape[:2]) < 8 or image.shape[0] * image.shape[1] > _MOST_PIXELS:
        raise UserError(f"{path}: {_shape(image)} is not the size of a camera's image")
    return image


def _grey(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        return image
    channels = image[..., :3].astype(np.float32).mean(axis=2)
    return (channels + 0.5).astype(image.dtype)


def _number(path: Path) -> int | None:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1][:9]) if found else None


def _shape(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} {image.dtype}"
