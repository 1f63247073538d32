"""A learned image shown: any size, any part of it, written in 8 bits, 16 bits or as EXR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_path, atomic_write_bytes
from fieldstone.core.lazy import require

from ...datasets.image_file import linear_to_srgb
from ..pictures import encode, to_uint8
from .tone import expand

__all__ = ["ImageScene", "check_image_target", "write_picture"]

_CHUNK = 1 << 16
_MOST_PIXELS = 1 << 28
_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr")


class ImageScene:
    """An image field with the picture it was trained on."""

    def __init__(self, field, picture, device: str) -> None:
        self.field, self.picture, self.device = field, picture, device

    @torch.no_grad()
    def values(
        self,
        width: int | None = None,  # of the whole image in pixels; None: as trained
        height: int | None = None,  # one of both keeps the proportions
        crop: tuple[int, int, int, int]
        | None = None,  # x, y, width, height of the part shown, in those pixels
    ) -> np.ndarray:  # (h, w, 3) float32 in [0, 1], under the tone curve for hdr
        """What the field gives at pixel centres. `UserError` for a size or part that is none."""
        width, height = self._size(width, height)
        left, top, wide, high = crop if crop is not None else (0, 0, width, height)
        if wide < 1 or high < 1 or left < 0 or top < 0 or left + wide > width or top + high > height:
            raise UserError(
                f"--crop {left},{top},{wide},{high}: must lie within the {width} x {height} pixels of the image"
            )
        x = (torch.arange(left, left + wide, dtype=torch.float64) + 0.5) / width
        y = (torch.arange(top, top + high, dtype=torch.float64) + 0.5) / height
        out = np.empty((high * wide, 3), np.float32)
        for start in range(0, len(out), _CHUNK):
            index = torch.arange(start, min(start + _CHUNK, len(out)))
            places = torch.stack([x[index % wide], y[index // wide]], dim=1).float().to(self.device)
            out[start : start + _CHUNK] = self.field(places).cpu().numpy()
        return out.reshape(high, wide, 3)

    def pixels(self, *arguments, **options) -> np.ndarray:
        """As `values`: sRGB in [0, 1], or linear light for hdr."""
        values = self.values(*arguments, **options)
        return expand(values, self.picture.peak) if self.picture.depth == "hdr" else values

    def _size(self, width: int | None, height: int | None) -> tuple[int, int]:
        own = self.picture
        if width is None and height is None:
            return own.width, own.height
        if width is None:
            width = max(1, round(own.width * height / own.height))
        if height is None:
            height = max(1, round(own.height * width / own.width))
        if width * height > _MOST_PIXELS:
            raise UserError(f"{width} x {height} pixels; at most 2^28 are rendered")
        return width, height


def check_image_target(path: Path) -> None:
    """`UserError` unless `write_picture` knows the suffix."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f"{path}: cannot write {path.suffix!r}; give a name that ends in {', '.join(_SUFFIXES)}"
        )
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")


def write_picture(path: Path, pixels: np.ndarray, *, hdr: bool, bits: int = 8) -> None:
    """Writes (h, w, 3) sRGB, or linear light with `hdr`: as EXR (always linear, half floats), PNG of 8 or 16 bits, or JPEG."""
    check_image_target(path)
    suffix = path.suffix.lower()
    if suffix == ".exr":
        exr = require("OpenEXR", purpose="writing .exr")
        linear = pixels if hdr else srgb_to_linear(pixels)
        with atomic_path(path) as temporary:
            header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
            exr.File(header, {"RGB": np.clip(linear, 0, 65504).astype(np.float16)}).write(str(temporary))
        return
    shown = linear_to_srgb(np.clip(pixels, 0, 1)) if hdr else np.clip(pixels, 0, 1)
    if bits == 16:
        import cv2

        if suffix != ".png":
            raise UserError(f"{path}: 16 bits are written as .png or .exr")
        done, data = cv2.imencode(".png", np.rint(shown[..., ::-1] * 65535).astype(np.uint16))
        if not done:
            raise UserError(f"{path}: cannot be encoded")
        atomic_write_bytes(path, data.tobytes())
        return
    atomic_write_bytes(path, encode(to_uint8(shown), "png" if suffix == ".png" else "jpeg", quality=95))


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    """The sRGB curve undone (IEC 61966-2-1), values in [0, 1]."""
    value = np.asarray(value, np.float32)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)
