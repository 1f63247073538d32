"""What a format's reader hands on: arrays as the file has them, before anything is cleaned or converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["MOST_POINTS", "Raw", "columns"]

MOST_POINTS = 200_000_000
"""A header that promises more is taken for a damaged or hostile file."""


@dataclass
class Raw:
    points: np.ndarray
    """(n, 3) or organised (h, w, 3), any number type."""
    normals: np.ndarray | None = None
    colours: np.ndarray | None = None
    """(n, 3) uint8, or float in [0, 1]."""
    sigma: np.ndarray | None = None
    """(n,) in the points' unit."""
    viewpoint: tuple[float, float, float] | None = None
    """Where the sensor stood, in the points' frame and unit."""
    unit: str | None = None
    """What the file itself says."""
    notes: tuple[str, ...] = ()


def columns(table: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    """The named columns side by side as float64, or None when one is missing."""
    if not all(name in table for name in names):
        return None
    return np.stack([table[name].astype(np.float64) for name in names], axis=1)
