"""One image file: what its header says, and its pixels.

Formats are told apart by their first bytes, not their suffix. Pillow decodes what has 8 bits and refuses a
truncated file (OpenCV fills the rest of a cut JPEG with grey); OpenCV decodes 16-bit PNG, TIFF and Radiance
HDR; the OpenEXR package decodes EXR, which OpenCV's wheels leave out.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = [
    "EmbeddedImage",
    "EncodedPicture",
    "ImageHeader",
    "Picture",
    "decode",
    "linear_to_srgb",
    "read_header",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr", ".tif", ".tiff", ".hdr", ".webp", ".bmp")

_MAX_PIXELS = 1 << 28  # a header may claim any size; 268 megapixels is above every camera

_RAW = {"PNG16", "TIFF16", "HDR"}  # decoded by OpenCV
_TURNS_BACK = {6: 8, 8: 6}  # the orientation that undoes another; the rest undo themselves


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself, without decoding it."""

    kind: str
    """"EXR", "HDR", "TIFF", "TIFF16" (16 bits or floats), "PNG16" or Pillow's format name."""
    width: int
    """Stored pixels, before any EXIF rotation."""
    height: int
    alpha: bool
    orientation: int = 1
    """EXIF orientation, 1 (as stored) to 8."""

    @property
    def linear(self) -> bool:
        return self.kind in ("EXR", "HDR")

    def upright_size(self) -> tuple[int, int]:
        """Width and height after the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


class Picture(abc.ABC):
    """An image that is no file of its own and stands where a path would: part of a file, or drawn when asked for. `str` names it in errors."""

    @abc.abstractmethod
    def header(self) -> ImageHeader: ...

    @abc.abstractmethod
    def pixels(self) -> np.ndarray:
        """As `decode` gives them."""


class EncodedPicture(Picture):
    """A JPEG or 8-bit PNG whose bytes are got when they are asked for; alpha and EXIF are left out."""

    @abc.abstractmethod
    def encoded(self) -> bytes: ...

    def header(self) -> ImageHeader:
        from PIL import Image

        with _damage(self), Image.open(io.BytesIO(self.encoded())) as image:
            return ImageHeader(str(image.format), image.width, image.height, alpha=False)

    def pixels(self) -> np.ndarray:  # (h, w, 3) uint8
        from PIL import Image

        with _damage(self), Image.open(io.BytesIO(self.encoded())) as image:
            return np.asarray(image.convert("RGB"))


@dataclass(frozen=True)
class EmbeddedImage(EncodedPicture):
    """One among other bytes of a file."""

    path: Path
    offset: int
    """Bytes."""
    length: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def encoded(self) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@contextlib.contextmanager
def _damage(what: object) -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged file into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly anything
        raise UserError(
            f"{what}: the image is damaged or cut short ({_one_line(error)}); copy it again or remove it"
        ) from error


def read_header(path: Path | Picture) -> ImageHeader:
    """The header of `path`. UserError if it is no readable image or claims more than 2^28 pixels."""
    if isinstance(path, Picture):
        return path.header()
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: the image cannot be read ({error})") from error
    return _cached_header(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=16384)
def _cached_header(path: Path, _modified: int, _size: int) -> ImageHeader:
    try:
        with open(path, "rb") as file:
            start = file.read(64)
        header = _parse_header(path, start)
    except UserError:
        raise
    except Exception as error:  # decoders raise nearly anything on a damaged file
        raise UserError(f"{path}: not a readable image ({_one_line(error)})") from error
    if header.width < 1 or header.height < 1 or header.width * header.height > _MAX_PIXELS:
        raise UserError(f"{path}: image of {header.width} x {header.height} pixels; at most 2^28 are read")
    return header


def _parse_header(path: Path, start: bytes) -> ImageHeader:
    if start[:4] == b"\x76\x2f\x31\x01":
        return _exr_header(path)
    if start[:2] == b"#?":
        return _hdr_header(path)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_header(path)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and start[24:25] == b"\x10":
        width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
        return ImageHeader("PNG16", width, height, alpha=start[25] in (4, 6))
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
            # The base class's look-up: that of PNG decodes the whole image in search of a late EXIF chunk.
            orientation = Image.Image.getexif(image).get(0x0112, 1)
            if orientation not in range(1, 9):
                orientation = 1
            return ImageHeader(str(image.format), image.width, image.height, alpha, orientation)


def _exr_header(path: Path) -> ImageHeader:
    from fieldstone.core.lazy import require

    header = require("OpenEXR", purpose="reading .exr").File(str(path), header_only=True).header()
    low, high = header["dataWindow"]
    names = {channel.name for channel in header["channels"]}
    width, height = int(high[0]) - int(low[0]) + 1, int(high[1]) - int(low[1]) + 1
    return ImageHeader("EXR", width, height, alpha="A" in names)


def _hdr_header(path: Path) -> ImageHeader:
    with open(path, "rb") as file:
        lines = file.read(4096).split(b"\n")
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[0][1:] == b"Y" and words[2][1:] == b"X":
            return ImageHeader("HDR", int(words[3]), int(words[1]), alpha=False)
    raise UserError(f"{path}: Radiance HDR without a resolution line of the form -Y height +X width")


def _tiff_header(path: Path) -> ImageHeader:
    import logging

    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        orientation = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
        alpha = page.samplesperpixel in (2, 4)
        kind = "TIFF16" if np.max(page.bitspersample) > 8 else "TIFF"
        return ImageHeader(kind, page.imagewidth, page.imagelength, alpha, orientation)


def decode(path: Path | Picture, upright: bool) -> np.ndarray:
    """Pixels of `path` in sRGB with straight alpha: (h, w, 3 or 4), uint8 for 8-bit files, else float32 in
    [0, 1].

    Grey becomes three equal channels, palettes are looked up. `upright` applies the EXIF orientation;
    otherwise pixels stay as stored. EXR and HDR are linear light: EXR's alpha is un-premultiplied (the
    format stores associated alpha), values are clipped to [0, 1] and encoded with the sRGB curve (IEC
    61966-2-1). UserError naming the file if it is damaged or cut short.
    """
    if isinstance(path, Picture):
        return path.pixels()
    header = read_header(path)
    with _damage(path):
        if header.kind == "EXR":
            pixels = _decode_exr(path)
        elif header.kind in _RAW:
            pixels = _decode_raw(path, header)
        else:
            pixels = _decode_pillow(path)
    if header.kind.startswith("TIFF"):  # both decoders have applied the orientation of a TIFF
        pixels = (
            pixels if upright else turned(pixels, _TURNS_BACK.get(header.orientation, header.orientation))
        )
    elif upright:
        pixels = turned(pixels, header.orientation)
    return np.ascontiguousarray(pixels)


def _decode_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            image.load()
            alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
            if image.mode.startswith(("I", "F")):
                raise UserError(
                    f"{path}: pixels of type {image.mode!r} in a {image.format}; convert it to 8-bit PNG"
                )
            return np.asarray(image.convert("RGBA" if alpha else "RGB"))


def _decode_raw(path: Path, header: ImageHeader) -> np.ndarray:
    import cv2

    # Reading from memory keeps names outside ASCII working on Windows.
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise UserError(
            f"{path}: the {header.kind} image is damaged or cut short; copy it again or remove it"
        )
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    colour, alpha = pixels, None
    if pixels.shape[2] in (2, 4):
        colour, alpha = pixels[..., :-1], pixels[..., -1:]
    colour = colour[..., ::-1] if colour.shape[2] == 3 else np.repeat(colour, 3, axis=2)
    pixels = colour if alpha is None else np.concatenate([colour, alpha], axis=2)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / np.float32(65535)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{path}: pixels of type {pixels.dtype}; convert it to 8- or 16-bit PNG")
    # A float TIFF is linear light only by custom; Radiance HDR is by definition.
    pixels = np.clip(np.nan_to_num(pixels.astype(np.float32)), 0, 1)
    return linear_to_srgb(pixels) if header.linear else pixels


def exr_channels(path: Path) -> dict[str, np.ndarray]:
    """Channel name -> (h, w) float32 of an EXR file, without any conversion."""
    from fieldstone.core.lazy import require

    file = require("OpenEXR", purpose="reading .exr").File(str(path), separate_channels=True)
    channels = {name: channel.pixels.astype(np.float32) for name, channel in file.channels().items()}
    if not channels:
        raise UserError(f"{path}: the EXR image is damaged or cut short; copy it again or remove it")
    return channels


def _decode_exr(path: Path) -> np.ndarray:
    channels = exr_channels(path)
    names = ("R", "G", "B") if {"R", "G", "B"} <= channels.keys() else ("Y",) * 3
    if not set(names) <= channels.keys():
        raise UserError(f"{path}: EXR without R, G, B or Y channels; it has {', '.join(sorted(channels))}")
    colour = np.nan_to_num(np.stack([channels[name] for name in names], axis=-1), posinf=1.0)
    if "A" not in channels:
        return linear_to_srgb(np.clip(colour, 0, 1))
    alpha = np.clip(np.nan_to_num(channels["A"]), 0, 1)[..., None]
    colour = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0)
    return np.concatenate([linear_to_srgb(np.clip(colour, 0, 1)), alpha], axis=-1)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Encodes linear light in [0, 1], any shape, with the sRGB curve (IEC 61966-2-1)."""
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    ).astype(np.float32)


def turned(
    pixels: np.ndarray,  # (h, w, ...)
    orientation: int,  # EXIF, 1 to 8
) -> np.ndarray:
    """The upright view of stored `pixels` (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
