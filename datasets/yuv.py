"""Raw 8-bit video, planes of luma and chroma as they are: YUV4MPEG2 (.y4m) and headerless I420 (.yuv).

A frame is found by its place in the file, so none but the one asked for is in memory. Colours by ITU-R BT.601 (the matrix
of both formats unless they say otherwise), studio range; each chroma sample colours the pixels it was averaged from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["Y4M_MAGIC", "PlanarFile", "open_i420", "open_y4m", "to_rgb"]

Y4M_MAGIC = b"YUV4MPEG2 "

_CHROMA = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "mono": None}
"""How many pixels one chroma sample stands for, across and down."""
_LONGEST_LINE = 512
_MAX_PIXELS = 1 << 26


@dataclass(frozen=True)
class PlanarFile:
    """Where the frames of one file lie."""

    path: Path
    width: int
    height: int
    frames: int
    fps: float | None
    """None: the file does not say."""
    chroma: tuple[int, int] | None
    """Pixels a chroma sample stands for, across and down; None: grey."""
    start: int
    """Byte of the first frame."""
    frame_header: int = 0
    """Bytes before each frame's luma."""
    full_range: bool = False

    @property
    def payload(self) -> int:
        """Bytes of one frame's planes."""
        return _payload(self.width, self.height, self.chroma)

    def frame(self, number: int) -> np.ndarray:  # (h, w, 3) uint8
        """sRGB of one frame. `UserError` if the file has changed or does not hold a frame there."""
        stride = self.frame_header + self.payload
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start + number * stride)
                data = file.read(stride)
        except OSError as error:
            raise UserError(f"{self.path}: the video cannot be read ({error.strerror})") from error
        header = data[: self.frame_header]
        if len(data) != stride or (header and not (header.startswith(b"FRAME") and header.endswith(b"\n"))):
            raise UserError(
                f"{self.path}: frame {number} is not where it should be; the video is damaged, copy it again "
                "or convert it to MP4"
            )
        planes = np.frombuffer(data, np.uint8, offset=self.frame_header)
        luma = planes[: self.width * self.height].reshape(self.height, self.width)
        if self.chroma is None:
            return to_rgb(luma, None, None, full_range=self.full_range)
        shape = -(-self.height // self.chroma[1]), -(-self.width // self.chroma[0])
        blue, red = planes[luma.size :].reshape(2, *shape)
        return to_rgb(luma, blue, red, full_range=self.full_range)


def open_y4m(path: Path) -> PlanarFile:
    """A YUV4MPEG2 file of 8 bits, 4:2:0, 4:2:2, 4:4:4 or grey. `UserError` for others, and for damaged or empty ones."""
    with open(path, "rb") as file:
        head = file.readline(_LONGEST_LINE)
        first = file.readline(_LONGEST_LINE)
    words = head.decode("ascii", "replace").split()
    known = {word[0]: word[1:] for word in words[1:]}
    try:
        width, height = int(known["W"]), int(known["H"])
        rate, _, over = known.get("F", "0:1").partition(":")
        fps = float(Fraction(int(rate), int(over or 1)))
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: damaged: no width, height and rate in {head[:60]!r}") from error
    _check_size(path, width, height)
    colours = known.get("C", "420")
    kind = next((kind for kind in _CHROMA if colours.startswith(kind)), None)
    if kind is None or any(deep in colours[3:] for deep in ("p1", "p9", "alpha")) or colours == "mono16":
        raise UserError(
            f"{path}: colours C{colours}; 8-bit 420, 422, 444 and mono are read: convert it to MP4"
        )
    begin = len(head)
    if not first:
        raise UserError(f"{path}: the video has no frames")
    if not (first.startswith(b"FRAME") and first.endswith(b"\n")):
        raise UserError(f"{path}: damaged: no frame where the first one should begin; copy it again")
    stride = len(first) + _payload(width, height, _CHROMA[kind])
    frames, rest = divmod(path.stat().st_size - begin, stride)
    if rest:
        raise UserError(f"{path}: cut short or damaged: {rest} bytes after frame {frames}; copy it again")
    full = "XCOLORRANGE=FULL" in words
    return PlanarFile(
        path, width, height, frames, fps or None, _CHROMA[kind], begin, len(first), full_range=full
    )


def open_i420(path: Path, width: int, height: int) -> PlanarFile:
    """Frames of luma, blue and red planes, one after the other, chroma at half the size. `UserError` if they do not fill the file."""
    _check_size(path, width, height)
    if width % 2 or height % 2:
        raise UserError(
            f"{path}: --size {width}x{height}: raw I420 frames have an even width and an even height"
        )
    length = path.stat().st_size
    if length == 0:
        raise UserError(f"{path}: the video has no frames: the file is empty")
    frames, rest = divmod(length, _payload(width, height, (2, 2)))
    if rest:
        raise UserError(
            f"{path}: {length} bytes are not a whole number of I420 frames of {width}x{height} "
            f"({_payload(width, height, (2, 2))} bytes each); check --size"
        )
    return PlanarFile(path, width, height, frames, None, (2, 2), 0)


def to_rgb(
    luma: np.ndarray,  # (h, w) uint8
    blue: np.ndarray
    | None,  # uint8, of the luma's size or a half of it in one or both directions; None: grey
    red: np.ndarray | None,
    *,
    full_range: bool = False,  # 0 to 255 instead of 16 to 235 and 16 to 240
) -> np.ndarray:  # (h, w, 3) uint8
    """sRGB by ITU-R BT.601, rounded."""
    height, width = luma.shape
    y = luma.astype(np.float32)
    if not full_range:
        y = (y - 16) * np.float32(255 / 219)
    if blue is None or red is None:
        return _rounded(np.repeat(y[..., None], 3, axis=2))
    scale = np.float32(1.0 if full_range else 255 / 224)
    down, across = -(-height // blue.shape[0]), -(-width // blue.shape[1])

    def chroma(plane: np.ndarray) -> np.ndarray:
        centred = (plane.astype(np.float32) - 128) * scale
        return centred.repeat(down, axis=0).repeat(across, axis=1)[:height, :width]

    cb, cr = chroma(blue), chroma(red)
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2)
    return _rounded(rgb)


def _rounded(rgb: np.ndarray) -> np.ndarray:
    return np.clip(rgb + 0.5, 0, 255.5).astype(np.uint8)


def _payload(width: int, height: int, chroma: tuple[int, int] | None) -> int:
    if chroma is None:
        return width * height
    return width * height + 2 * (-(-width // chroma[0])) * (-(-height // chroma[1]))


def _check_size(path: os.PathLike, width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > _MAX_PIXELS:
        raise UserError(f"{path}: frames of {width} x {height} pixels; 1 to 2^26 are read")
