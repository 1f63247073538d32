"""How close a picture is to the truth: PSNR, SSIM, LPIPS, and a picture of the error.

Pictures are (h, w, 3) sRGB in [0, 1], numpy arrays or tensors on any device; values outside are clipped,
because that is what a screen would show. Computed in float64, nothing is differentiable.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from fieldstone.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LPIPS_NETWORK", "error_map", "lpips_or_none", "psnr", "ssim"]

LPIPS_NETWORK = "vgg"
"""Which network's features LPIPS compares: VGG-16's, as the NeRF papers do. Say so beside the number."""

_RADIUS = 5
_SIGMA = 1.5


def psnr(
    prediction: np.ndarray | Tensor,  # (h, w, 3)
    target: np.ndarray | Tensor,  # (h, w, 3)
    mask: np.ndarray | Tensor | None = None,  # (h, w) bool, True = counts
) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10 of the mean squared error; infinite for equal pictures."""
    prediction, target = _pair(prediction, target)
    square = (prediction - target) ** 2
    if mask is not None:
        square = square[_mask(mask, square.shape[:2])]
    error = float(square.mean())
    return math.inf if error == 0 else -10.0 * math.log10(error)


def ssim(
    prediction: np.ndarray | Tensor,  # (h, w, 3), both sides at least 11
    target: np.ndarray | Tensor,  # (h, w, 3)
    mask: np.ndarray | Tensor | None = None,  # (h, w) bool, True = counts
) -> float:
    """Structural similarity, at most 1: the mean over the three channels and over the pixels whose window
    fits.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE TIP 13 (2004), equation 13: Gaussian window 11 x 11, sigma 1.5, K1 0.01, K2 0.03, here
    with data range 1. Equal to scikit-image's with gaussian_weights=True and use_sample_covariance=False.
    """
    prediction, target = _pair(prediction, target)
    height, width = prediction.shape[:2]
    if min(height, width) < 2 * _RADIUS + 1:
        raise UserError(f"ssim: pictures of {width} x {height} pixels are smaller than its window of 11 x 11")
    moments = (prediction, target, prediction**2, target**2, prediction * target)
    mean_a, mean_b, square_a, square_b, product = (_windowed(moment) for moment in moments)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    if mask is not None:
        inner = (slice(_RADIUS, height - _RADIUS), slice(_RADIUS, width - _RADIUS))
        similarity = similarity[_mask(_mask(mask, (height, width))[inner], similarity.shape[:2])]
    return float(similarity.mean())


def lpips_or_none(prediction: np.ndarray | Tensor, target: np.ndarray | Tensor) -> float | None:
    """Learned perceptual distance (Zhang et al. 2018) with `LPIPS_NETWORK`, or None where `lpips` is not
    installed.

    Pictures are mapped to [-1, 1] as the package asks. Its weights are fetched by the package on first use.
    """
    prediction, target = _pair(prediction, target)
    if importlib.util.find_spec("lpips") is None:
        return None
    import torch

    with torch.no_grad():
        pictures = [
            torch.from_numpy(2.0 * picture - 1.0).float().permute(2, 0, 1)[None]
            for picture in (prediction, target)
        ]
        return float(_lpips_network()(*pictures))


def error_map(prediction: np.ndarray | Tensor, target: np.ndarray | Tensor) -> np.ndarray:
    """The error as a picture (h, w, 3) uint8: black 0, through violet and orange, to pale yellow at 0.25 and
    above.

    The error of a pixel is the root mean square over its channels; a fixed scale makes pictures comparable.
    """
    prediction, target = _pair(prediction, target)
    error = np.sqrt(((prediction - target) ** 2).mean(-1))
    share = np.clip(error / 0.25, 0.0, 1.0) ** 0.6  # lifts the small errors, which are most of them
    place = share * (len(_HEAT) - 1)
    lower = np.minimum(place.astype(int), len(_HEAT) - 2)
    colour = _HEAT[lower] + (place - lower)[..., None] * (_HEAT[lower + 1] - _HEAT[lower])
    return np.rint(colour).astype(np.uint8)


# Lightness grows evenly along these, so that the map also reads in grey.
_HEAT = np.array(
    [(0, 0, 0), (38, 17, 78), (101, 24, 112), (168, 44, 100), (226, 84, 62), (250, 155, 56), (252, 246, 190)],
    float,
)


def _array(picture: np.ndarray | Tensor) -> np.ndarray:
    detach = getattr(picture, "detach", None)
    return np.asarray(picture if detach is None else detach().cpu().numpy())


def _pair(prediction: np.ndarray | Tensor, target: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
    a, b = _array(prediction), _array(target)
    if a.shape != b.shape or a.ndim != 3 or a.shape[2] != 3 or a.size == 0:
        raise UserError(f"metrics compare two pictures of one shape (h, w, 3); got {a.shape} and {b.shape}")
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        raise UserError(f"metrics take pictures as floats in [0, 1]; got {a.dtype} and {b.dtype}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    for name, picture in (("prediction", a), ("target", b)):
        if not np.isfinite(picture).all():
            raise UserError(
                f"metrics: the {name} holds {int((~np.isfinite(picture)).sum())} values that are not finite"
            )
    return np.clip(a, 0.0, 1.0), np.clip(b, 0.0, 1.0)


def _mask(mask: np.ndarray | Tensor, shape: tuple[int, ...]) -> np.ndarray:
    mask = _array(mask)
    if mask.dtype != bool or mask.shape != shape:
        raise UserError(
            f"metrics: the mask must be bool of shape {shape}; got {mask.dtype} of shape {mask.shape}"
        )
    if not mask.any():
        raise UserError("metrics: the mask leaves no pixel to compare")
    return mask


def _windowed(picture: np.ndarray) -> np.ndarray:
    """Gaussian-weighted mean over the window of each pixel whose window fits: (h - 10, w - 10, 3)."""
    from scipy.ndimage import correlate1d

    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        picture = correlate1d(picture, weights, axis=axis)
    return picture[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


@lru_cache(maxsize=1)
def _lpips_network():
    import lpips

    return lpips.LPIPS(net=LPIPS_NETWORK, verbose=False).eval()
