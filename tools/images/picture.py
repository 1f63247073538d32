"""One picture to be learned: its file, its depth, and its pixels as the field sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...datasets.image_file import decode, exr_channels, read_header
from ..pictures import composite
from .tone import compress

__all__ = ["DEPTHS", "Picture", "open_picture", "restore_picture"]

DEPTHS = ("8", "16", "hdr")
"""8 and 16 bits are sRGB in [0, 1]; hdr is linear light without an upper bound."""


@dataclass
class Picture:
    """What a method of images learns; the pixels are read when first asked for."""

    name: str
    path: Path
    width: int
    height: int
    depth: str
    """One of `DEPTHS`."""
    background: str | None = None
    """What an alpha channel is laid over."""
    peak: float = 1.0
    """Largest radiance of an hdr picture, else 1."""
    splits: dict[str, int] = field(default_factory=dict)

    @cached_property
    def pixels(self) -> np.ndarray:
        """(h, w, 3) float32: sRGB in [0, 1], or linear light for hdr."""
        pixels = _pixels(self.path, self.depth, self.background)
        if pixels.shape[:2] != (self.height, self.width):
            raise UserError(
                f"{self.path}: {pixels.shape[1]} x {pixels.shape[0]} pixels; the run was trained on "
                f"{self.width} x {self.height}"
            )
        return pixels

    @cached_property
    def target(self) -> np.ndarray:
        """(h, w, 3) float32 in [0, 1]: what the field is to give, under the tone curve for hdr."""
        return compress(self.pixels, self.peak) if self.depth == "hdr" else self.pixels

    def to_json(self) -> dict:
        """All but path and pixels, as plain data."""
        return {key: getattr(self, key) for key in ("name", "width", "height", "depth", "background", "peak")}

    def summary(self) -> list[str]:
        kind = "linear light" if self.depth == "hdr" else f"{self.depth} bits"
        return [f"{self.name}: {self.width} x {self.height} pixels, {kind}"]


def open_picture(path: str | os.PathLike, background: str | None = None) -> Picture:
    """The picture in a file; alpha and palettes are refused unless a background says what they lie on."""
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise UserError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; give one image file")
    header = read_header(path)
    odd = "an alpha channel" if header.alpha else "a palette" if _has_palette(path, header.kind) else None
    if odd is not None and background is None:
        raise UserError(
            f"{path}: the image has {odd}; an image field holds red, green and blue: give --background white "
            "or black, or convert it to RGB"
        )
    depth = "hdr" if header.linear else "16" if header.kind in ("PNG16", "TIFF16") else "8"
    pixels = _pixels(path, depth, background)
    if min(pixels.shape[:2]) < 2:
        raise UserError(
            f"{path}: {pixels.shape[1]} x {pixels.shape[0]} pixels; both sides must be at least 2"
        )
    peak = float(pixels.max()) if depth == "hdr" else 1.0
    if peak <= 0:
        raise UserError(f"{path}: the image is black everywhere; there is nothing to learn")
    picture = Picture(path.name, path, pixels.shape[1], pixels.shape[0], depth, background, peak)
    picture.pixels = pixels
    return picture


def restore_picture(record: dict, folder: Path, data: dict) -> Picture:
    """A picture from `to_json`'s record; its file is looked for only when pixels are read."""
    try:
        place = Path(os.path.normpath(Path(folder) / str(data["path"])))
        return Picture(
            str(record["name"]), place, int(record["width"]), int(record["height"]), _known(record["depth"]),
            record["background"], float(record["peak"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / 'capture.json'}: damaged ({error!r})") from error


def _known(depth: str) -> str:
    if depth not in DEPTHS:
        raise ValueError(f"unknown depth {depth!r}")
    return depth


def _has_palette(path: Path, kind: str) -> bool:
    if kind in ("EXR", "HDR", "TIFF16", "PNG16"):
        return False
    from PIL import Image

    with Image.open(path) as image:
        return image.mode in ("P", "PA")


def _pixels(path: Path, depth: str, background: str | None) -> np.ndarray:
    if not path.is_file():
        raise UserError(f"{path}: the image of the run is not there; say where it is now with --data")
    pixels = _linear(path) if depth == "hdr" else decode(path, upright=True)
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(composite(pixels, background), np.float32)


def _linear(path: Path) -> np.ndarray:
    """(h, w, 3 or 4) linear light of EXR or Radiance HDR, not clipped above; what is no number or negative becomes 0."""
    if read_header(path).kind == "HDR":
        import cv2

        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3:
            raise UserError(f"{path}: the HDR image is damaged or cut short; copy it again or remove it")
        pixels = pixels[..., ::-1]
    else:
        try:
            channels = exr_channels(path)
        except UserError:
            raise
        except Exception as error:  # the decoder raises nearly anything on a damaged file
            raise UserError(f"{path}: the image is damaged or cut short ({error})") from error
        names = ("R", "G", "B") if {"R", "G", "B"} <= channels.keys() else ("Y",) * 3
        if not set(names) <= channels.keys():
            raise UserError(
                f"{path}: EXR without R, G, B or Y channels; it has {', '.join(sorted(channels))}"
            )
        pixels = np.stack([channels[name] for name in names], axis=-1)
        if "A" in channels:  # associated: colours are premultiplied
            alpha = np.clip(np.nan_to_num(channels["A"]), 0, 1)[..., None]
            colour = np.divide(pixels, alpha, out=np.zeros_like(pixels), where=alpha > 0)
            pixels = np.concatenate([colour, alpha], axis=-1)
    return np.maximum(np.nan_to_num(pixels.astype(np.float32), posinf=65504.0), 0)
