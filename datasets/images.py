"""Lazy collections of what belongs to each frame: colours, masks, z_depths."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .image_file import Picture, decode, exr_channels, read_header, turned
from .resample import area_resize, area_resize_mask

__all__ = ["ByteCache", "ImageSource", "Images", "Masks", "ZDepths"]

CACHE_BYTES = 1 << 30


class ByteCache:
    """The most recently used arrays, together at most `limit` bytes. Safe to share between threads."""

    def __init__(self, limit: int = CACHE_BYTES):
        self.limit = limit
        self.bytes = 0
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of `key`, made if it is not held; read-only. One larger than the limit is not kept."""
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        array = make()  # outside the lock: two threads may decode the same file, which is only wasted work
        array.setflags(write=False)
        with self._lock:
            if key not in self._arrays and array.nbytes <= self.limit:
                self._arrays[key] = array
                self.bytes += array.nbytes
                while self.bytes > self.limit:
                    self.bytes -= self._arrays.popitem(last=False)[1].nbytes
        return array


@dataclass(frozen=True)
class ImageSource:
    """A file and how its pixels become those of the frame's camera."""

    path: Path | Picture
    width: int
    """Of the camera, after EXIF turning and downscaling."""
    height: int
    upright: bool = False
    """Whether the EXIF orientation is applied (the camera was calibrated on the turned image)."""


class Images:
    """Colour images, decoded when asked for.

    `images[i]` is (h, w, c) float32 in [0, 1], sRGB, straight alpha; `images.uint8(i)` the same as uint8. c
    is 4 for every image if any file has alpha (`has_alpha`), else 3. Linear files (EXR, HDR) are clipped to
    [0, 1] and encoded as sRGB. Both raise UserError naming a damaged file. At most `cache_bytes` of decoded
    pixels are kept.
    """

    def __init__(self, sources: Sequence[ImageSource], cache_bytes: int = CACHE_BYTES):
        self.sources = tuple(sources)
        self.has_alpha = any(read_header(source.path).alpha for source in self.sources)
        self._cache = ByteCache(cache_bytes)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        pixels = self._stored(_checked(index, len(self)))
        return pixels.astype(np.float32) / np.float32(255) if pixels.dtype == np.uint8 else pixels.copy()

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def uint8(self, index: int) -> np.ndarray:
        """(h, w, c) uint8; read-only where the file itself has 8 bits."""
        pixels = self._stored(_checked(index, len(self)))
        return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)

    def _stored(self, index: int) -> np.ndarray:
        return self._cache.get(index, lambda: self._decode(self.sources[index]))

    def _decode(self, source: ImageSource) -> np.ndarray:
        pixels = area_resize(decode(source.path, source.upright), source.width, source.height)
        if self.has_alpha and pixels.shape[2] == 3:
            opaque = np.full((*pixels.shape[:2], 1), 255 if pixels.dtype == np.uint8 else 1, pixels.dtype)
            pixels = np.concatenate([pixels, opaque], axis=2)
        return np.ascontiguousarray(pixels)


class Masks:
    """Which pixels may be used: `masks[i]` is (h, w) bool. A frame without a mask file is all True.

    A pixel of a mask counts as marked if any of its channels is not zero; `marked_is_used` says which side
    that is (True for nerfstudio and COLMAP, False for instant-ngp's dynamic masks).
    """

    def __init__(
        self,
        sources: Sequence[ImageSource | None],
        sizes: np.ndarray,  # (n, 2) width, height of the cameras
        marked_is_used: bool = True,
        cache_bytes: int = CACHE_BYTES // 4,
    ):
        self.sources = tuple(sources)
        self.sizes = np.asarray(sizes)
        self.marked_is_used = marked_is_used
        self._cache = ByteCache(cache_bytes)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        index = _checked(index, len(self))
        source = self.sources[index]
        if source is None:
            return np.ones((int(self.sizes[index, 1]), int(self.sizes[index, 0])), bool)
        return self._cache.get(index, lambda: self._decode(source))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def _decode(self, source: ImageSource) -> np.ndarray:
        pixels = decode(source.path, source.upright)
        marked = (pixels[..., :3] > 0).any(axis=-1)
        if pixels.shape[2] == 4:
            marked &= pixels[..., 3] > 0
        return area_resize_mask(marked if self.marked_is_used else ~marked, source.width, source.height)


class ZDepths:
    """Measured depth along the optical axis: `z_depths[i]` is (h, w) float32 in source units, 0 where
    unknown.

    Files are 16-bit PNG, EXR (channel Z, else the first), or .npy; a stored value times the frame's unit is
    the z_depth. Depth is resampled to the camera's size by nearest neighbour, because averages across an
    edge are depths of nothing. Not cached: each is used once to build a training set.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource | None],
        sizes: np.ndarray,  # (n, 2) width, height of the cameras
        units: Sequence[float],  # (n,) source units per stored value
    ):
        self.sources = tuple(sources)
        self.sizes = np.asarray(sizes)
        self.units = tuple(units)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        index = _checked(index, len(self))
        source = self.sources[index]
        width, height = (int(side) for side in self.sizes[index])
        if source is None:
            return np.zeros((height, width), np.float32)
        stored = _read_depth(source.path)
        if source.upright:
            stored = turned(stored, read_header(source.path).orientation)
        if stored.shape[0] * stored.shape[1] == 0:
            raise UserError(f"{source.path}: empty depth image")
        rows = ((np.arange(height) + 0.5) * stored.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * stored.shape[1] / width).astype(int)
        z_depth = stored[rows[:, None], columns].astype(np.float32) * np.float32(self.units[index])
        return np.where(np.isfinite(z_depth) & (z_depth > 0), z_depth, np.float32(0))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))


def _read_depth(path: Path | Picture) -> np.ndarray:
    if isinstance(path, Picture):
        return path.pixels()
    try:
        if path.suffix.lower() == ".npy":
            stored = np.load(path, allow_pickle=False)
        elif read_header(path).kind == "EXR":
            channels = exr_channels(path)
            stored = channels["Z"] if "Z" in channels else next(iter(channels.values()))
        else:
            import cv2

            stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    except UserError:
        raise
    except Exception as error:  # numpy and decoders raise nearly anything on a damaged file
        raise UserError(f"{path}: not a readable depth image ({error})") from error
    if stored is not None and stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[..., 0]
    if stored is None or stored.ndim != 2 or stored.dtype.kind not in "fui":
        raise UserError(f"{path}: not a readable depth image; needed: one channel of numbers")
    return stored


def _checked(index: int, count: int) -> int:
    index = int(index)
    if not -count <= index < count:
        raise IndexError(f"frame {index} of {count}")
    return index % count
