"""Arrays turned into pictures, and pictures into bytes."""

from __future__ import annotations

import io

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["OUTPUTS", "composite", "encode", "named_colour", "output_picture", "shrink", "to_uint8"]

OUTPUTS = ("colour", "z_depth", "opacity", "normals")
"""What a rendered view can be shown as."""

# Control points of a perceptually ordered ramp from near (bright) to far (dark).
_RAMP = np.array(
    [
        [252, 253, 191],
        [254, 176, 120],
        [241, 96, 93],
        [183, 55, 121],
        [114, 31, 129],
        [44, 17, 95],
        [0, 0, 4],
    ],
    np.float32,
)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """(h, w, ...) float in [0, 1] to uint8, rounded; values outside are clipped."""
    return (np.clip(np.asarray(picture, np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)


def named_colour(background: str | tuple | None) -> np.ndarray:
    """(3,) float32 sRGB of "white", "black" or an (r, g, b) in [0, 1]; None is black."""
    if background is None or background == "black":
        return np.zeros(3, np.float32)
    if background == "white":
        return np.ones(3, np.float32)
    colour = np.asarray(background if not isinstance(background, str) else [], np.float32)
    if colour.shape != (3,) or not np.isfinite(colour).all():
        raise UserError(f"background {background!r}: give white, black or three numbers from 0 to 1")
    return colour


def composite(image: np.ndarray, background: str | tuple | None) -> np.ndarray:
    """(h, w, 3) sRGB from an image (h, w, 3 or 4) float32 with straight alpha, laid over `background` in
    sRGB.

    sRGB and not linear light, because that is what the benchmarks with transparent images do.
    """
    if image.shape[2] == 3:
        return image
    alpha = image[..., 3:]
    return image[..., :3] * alpha + named_colour(background) * (1 - alpha)


def output_picture(view: dict, output: str, near: float, far: float) -> np.ndarray:
    """(h, w, 3) uint8 of one output of `SceneModel.render_view`; `near` and `far` (source units) bound the
    depth colours.
    """
    if output not in OUTPUTS:
        raise UserError(f"unknown output {output!r}; there are {', '.join(OUTPUTS)}")
    value = view[output].detach().cpu().numpy()
    if output == "colour":
        return to_uint8(value)
    if output == "opacity":
        return to_uint8(np.repeat(value[..., None], 3, axis=2))
    if output == "normals":
        seen = (np.abs(value).sum(-1, keepdims=True) > 0).astype(np.float32)
        return to_uint8((value + 1) / 2 * seen)
    share = np.clip((value - near) / max(far - near, 1e-9), 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(share.astype(int), len(_RAMP) - 2)
    mix = (share - low)[..., None]
    ramp = _RAMP[low] * (1 - mix) + _RAMP[low + 1] * mix
    return (ramp * (value > 0)[..., None] + 0.5).astype(np.uint8)


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """uint8 (h, w, 3) scaled down by area so that no side is over `longest` pixels; never enlarged."""
    import cv2

    height, width = picture.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return picture
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def encode(picture: np.ndarray, format: str = "png", quality: int = 88) -> bytes:
    """The bytes of a uint8 (h, w, 3) picture as "png" or "jpeg"."""
    from PIL import Image

    buffer = io.BytesIO()
    options = {"quality": quality, "subsampling": 0} if format == "jpeg" else {"compress_level": 6}
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format=format, **options)
    return buffer.getvalue()
