"""A number that a tolerance compares, before it is judged: with its uncertainty, and what noise added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .datum import DatumFrame, datum_frame
from .feature import Feature

__all__ = ["DRAWS", "Finding", "critical", "spread"]

DRAWS = 200
_MOST_CRITICAL = 600


@dataclass
class Finding:
    value: float
    uncertainty: float
    """Standard (k = 1)."""
    bias: float = 0.0
    """By how much noise may have raised the value."""
    bonus: float = 0.0
    """By which material condition widens the tolerance."""
    extras: dict = field(default_factory=dict)


def spread(
    function: Callable[[Feature, DatumFrame | None], float],
    feature: Feature,
    datums: Sequence[Feature],
    value: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> float:
    """Standard uncertainty of `function` (feature, frame), `value` at the estimates, by draws of the feature and of every datum from
    their covariances (GUM supplement 1). Deviations are taken from `value`, so a distance that errors can only enlarge counts in full.
    """
    values = np.empty(draws)
    for i in range(draws):
        moved = [datum.drawn(rng) for datum in datums]
        values[i] = function(feature.drawn(rng), datum_frame(moved) if moved else None)
    return float(np.sqrt(np.mean((values - value) ** 2)))


def critical(deviation: np.ndarray) -> np.ndarray:
    """Indices of the points that can become extremes when a datum moves a little: the outermost of both sides, and some between."""
    if len(deviation) <= _MOST_CRITICAL:
        return np.arange(len(deviation))
    each = _MOST_CRITICAL // 3
    order = np.argsort(deviation)
    return np.concatenate([order[:each], order[-each:], order[:: max(1, len(order) // each)]])
