"""Recolouring: the affine map of linear RGB after which things are seen in another colour, with the shading they had."""

from __future__ import annotations

import numpy as np
import torch

from .placed import linear_from_srgb

__all__ = ["LUMINANCE", "toward_colour"]

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
"""Of linear RGB with sRGB's primaries (ITU-R BT.709)."""
MOST_GAIN = 12.0
"""Relief of something nearly black is not raised by more than this: it would be noise."""


def toward_colour(
    mean: np.ndarray,  # (3,) linear RGB in which the selection is rendered now
    colour: list[float],  # (3,) sRGB in [0, 1]
    strength: float = 1.0,
) -> np.ndarray:  # (3, 4)
    """c -> (1 - s) c + s (t g w.c + t (1 - g w.m)), with w luminance, m the mean, t the colour in linear light, g = 1 / w.m.

    The mean comes to (1 - s) m + s t, exactly but for clipping; luminance relative to the mean, that is shading and drawing, stays as it
    was, up to a gain; hue is replaced. A map of what the head answers, and not a search for features that make it answer otherwise: head
    and hash grid are shared by all primitives, so features alone reach few colours, move opacity along, and would need training.
    """
    mean = np.asarray(mean, np.float64)
    target = linear_from_srgb(torch.tensor(colour, dtype=torch.float64)).numpy()
    luminance = float(LUMINANCE @ mean)
    # relief of the new colour relative to that of the old, at most: g t may be large where the old is dark
    gain = min(1 / max(luminance, 1e-6), MOST_GAIN / max(float(target.max()), 1e-6))
    affine = np.zeros((3, 4))
    affine[:, :3] = (1 - strength) * np.eye(3) + strength * gain * np.outer(target, LUMINANCE)
    affine[:, 3] = strength * target * (1 - gain * luminance)
    return affine
