"""COLMAP's own files: cameras, images and points3D, binary or text.

Formats as COLMAP's documentation gives them (colmap.github.io/format.html). Binary files are little-endian
and begin with a count; every count is checked against the length of the file before anything is allocated
for it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...render.cameras import CAMERA_MODELS, COLMAP_MODEL_IDS
from ..reading import Lens

__all__ = ["PosedImage", "model_suffix", "read_images", "read_lenses", "read_points"]

_MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class PosedImage:
    """One line of `images`: where a photo was taken."""

    name: str
    lens: int
    """Camera id."""
    camera_to_world: np.ndarray
    """(4, 4) float64."""


def model_suffix(folder: Path) -> str | None:
    """ ".bin" or ".txt" if `folder` holds a model in that form, else None."""
    for suffix in (".bin", ".txt"):
        if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
            return suffix
    return None


class _Bytes:
    """A binary file read front to back; reading past its end is a UserError, never an allocation."""

    def __init__(self, path: Path):
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise UserError(f"{path}: {size >> 20} MB; at most 8 GB are read")
        self.path = path
        self.data = path.read_bytes()
        self.at = 0

    def take(self, form: struct.Struct) -> tuple:
        if self.at + form.size > len(self.data):
            self.fail(f"it ends at byte {len(self.data)} in the middle of a record")
        values = form.unpack_from(self.data, self.at)
        self.at += form.size
        return values

    def count(self, smallest: int) -> int:
        """A record count, refused if records of at least `smallest` bytes cannot fit in what follows."""
        (count,) = self.take(_COUNT)
        if count * smallest > len(self.data) - self.at:
            self.fail(f"it claims {count} records in {len(self.data) - self.at} bytes")
        return count

    def text(self) -> str:
        end = self.data.find(b"\0", self.at, self.at + 4096)
        if end < 0:
            self.fail("a name has no end")
        text = self.data[self.at : end].decode("utf-8", errors="replace")
        self.at = end + 1
        return text

    def skip(self, size: int) -> None:
        if self.at + size > len(self.data):
            self.fail(f"it ends at byte {len(self.data)} in the middle of a record")
        self.at += size

    def fail(self, why: str) -> None:
        raise UserError(f"{self.path}: damaged COLMAP file: {why}; export the model again")


_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<IiQQ")
_IMAGE = struct.Struct("<I4d3dI")
_POINT = struct.Struct("<Q3d3BdQ")


def read_lenses(folder: Path) -> dict[int, Lens]:
    """Camera id -> lens. UserError for a model we do not have."""
    if model_suffix(folder) == ".bin":
        return _lenses_binary(folder / "cameras.bin")
    path = folder / "cameras.txt"
    lenses = {}
    for number, words in _lines(path):
        with _text_errors(path, number):
            model, width, height = words[1], int(words[2]), int(words[3])
            values = tuple(float(word) for word in words[4:])
            lenses[int(words[0])] = _lens(path, model, values, width, height)
    return lenses


def _lens(path: Path, model: str, values: tuple[float, ...], width: int, height: int) -> Lens:
    if model not in CAMERA_MODELS:
        raise UserError(
            f"{path}: camera model {model} is not supported; supported: {', '.join(CAMERA_MODELS)}"
        )
    if model == "EQUIRECTANGULAR":  # COLMAP repeats width and height as its parameters
        values = ()
    if len(values) != CAMERA_MODELS[model]:
        raise UserError(f"{path}: {model} takes {CAMERA_MODELS[model]} parameters, found {len(values)}")
    if not (1 <= width <= 1 << 20 and 1 <= height <= 1 << 20):
        raise UserError(f"{path}: image size {width} x {height}; both sides must be 1 to 1048576 pixels")
    return Lens(model, values, width, height)


def _lenses_binary(path: Path) -> dict[int, Lens]:
    file = _Bytes(path)
    lenses = {}
    for _ in range(file.count(_CAMERA.size)):
        identity, number, width, height = file.take(_CAMERA)
        model = COLMAP_MODEL_IDS.get(number)
        if model is None:
            known = ", ".join(f"{key} {name}" for key, name in COLMAP_MODEL_IDS.items())
            raise UserError(f"{path}: camera {identity} has unknown model id {number}; known: {known}")
        values = file.take(struct.Struct(f"<{2 if model == 'EQUIRECTANGULAR' else CAMERA_MODELS[model]}d"))
        lenses[identity] = _lens(path, model, values, width, height)
    return lenses


def read_images(folder: Path) -> list[PosedImage]:
    """Every registered image, in the file's order."""
    if model_suffix(folder) == ".bin":
        return _images_binary(folder / "images.bin")
    path = folder / "images.txt"
    images = []
    # Every image has two lines, and the second, its observations, may be empty: so empty lines count here.
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [(i, line) for i, line in enumerate(file, 1) if not line.startswith("#")]
    while lines and not lines[-1][1].strip():
        lines.pop()
    for number, line in lines[::2]:
        with _text_errors(path, number):
            words = line.split(maxsplit=9)
            numbers = np.array([float(word) for word in words[1:8]])
            images.append(PosedImage(words[9].strip(), int(words[8]), _pose(numbers[:4], numbers[4:])))
    return images


def _images_binary(path: Path) -> list[PosedImage]:
    file = _Bytes(path)
    images = []
    for _ in range(file.count(_IMAGE.size + 9)):
        record = file.take(_IMAGE)
        name = file.text()
        file.skip(24 * file.count(24))
        images.append(PosedImage(name, record[8], _pose(np.array(record[1:5]), np.array(record[5:8]))))
    return images


def _pose(
    quaternion: np.ndarray,  # (4,) w x y z, world to camera
    translation: np.ndarray,  # (3,)
) -> np.ndarray:
    # A zero or overflowing quaternion becomes NaN, which `assemble` refuses.
    with np.errstate(all="ignore"):
        w, x, y, z = quaternion / np.linalg.norm(quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ translation
    return pose


def read_points(folder: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Points (m, 3) float32 and colours (m, 3) uint8; None and None if the model has no points3D file."""
    suffix = model_suffix(folder)
    path = folder / f"points3D{suffix}"
    if not path.is_file():
        return None, None
    points, colours = [], []
    if suffix == ".bin":
        file = _Bytes(path)
        for _ in range(file.count(_POINT.size)):
            record = file.take(_POINT)
            file.skip(8 * record[8])
            points.append(record[1:4])
            colours.append(record[4:7])
    else:
        for number, words in _lines(path):
            with _text_errors(path, number):
                points.append([float(word) for word in words[1:4]])
                colours.append([int(word) for word in words[4:7]])
                if len(colours[-1]) != 3 or not all(0 <= c <= 255 for c in colours[-1]):
                    raise ValueError("colours must be three numbers from 0 to 255")
    positions = np.array(points, np.float64).reshape(-1, 3)
    with np.errstate(over="ignore"):
        positions = positions.astype(np.float32)
    finite = np.isfinite(positions).all(axis=1)
    return positions[finite], np.array(colours, np.uint8).reshape(-1, 3)[finite]


def _lines(path: Path):
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                yield number, line.split()


class _text_errors:
    """Turns what a malformed line raises into one error with the line's number."""

    def __init__(self, path: Path, number: int):
        self.where = f"{path}, line {number}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, (ValueError, IndexError, OverflowError)):
            raise UserError(f"{self.where}: malformed ({error}); export the model again") from error
