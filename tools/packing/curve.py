"""A bell-shaped curve of a few numbers in place of a table of counts: a^|k| b^(k^2), between Laplace's (b = 1) and Gauss's (a = 1).

Learned weights follow such curves closely, and a table of their counts costs as many bytes as a small tensor's symbols do. The curve is
made by multiplications alone, which IEEE 754 rounds in one way, so every machine decodes with the very numbers that were encoded with.
Ours.
"""

from __future__ import annotations

import numpy as np

__all__ = ["curve", "fit"]

_LEAST, _MOST = 1e-30, 1e30
_LOWEST, _HIGHEST = 2.0**-20, 1 + 2.0**-13
"""Least and most of a factor: an even spread asks for a little more than 1."""


def curve(
    low: int,  # the least symbol
    length: int,  # of the alphabet
    centre: int,
    a: float,
    b: float,
) -> np.ndarray:  # (length,) float64, positive, the largest at most 1
    """a^|k| b^(k^2) at k = symbol - centre. `ValueError` for factors that `fit` does not give."""
    if not (0 < a <= _HIGHEST and 0 < b <= _HIGHEST):
        raise ValueError(f"a curve of the factors {a} and {b}")
    farthest = max(abs(low - centre), abs(low + length - 1 - centre))
    heights = np.empty(farthest + 1)
    height, slope = 1.0, a * b
    for k in range(farthest + 1):
        heights[k] = height
        height = min(max(height * slope, _LEAST), _MOST)
        slope *= b * b
    apart = np.abs(np.arange(low, low + length) - centre)
    found = heights[apart]
    return found / found.max()


def fit(
    counts: np.ndarray,  # (length,) of each symbol from `low`
    low: int,
) -> tuple[int, float, float]:
    """Centre, a and b (as float32 keeps them) under which the counts take few bits: the likeliest, by Newton's method."""
    symbols = low + np.arange(len(counts))
    share = counts / counts.sum()
    centre = int(np.rint((share * symbols).sum()))
    if low <= 0 < low + len(counts):
        centre = 0 if abs(centre) <= 1 else centre
    k = np.abs(symbols - centre).astype(np.float64)
    unit = max(np.sqrt((share * k * k).sum()), 0.3)
    features = np.stack([k / unit, np.square(k / unit)])
    wanted = features @ share
    at = np.array([0.0, 0.5])
    for _ in range(50):
        exponent = -at @ features
        model = np.exp(exponent - exponent.max())
        model /= model.sum()
        mean = features @ model
        slope = (features * model) @ features.T - np.outer(mean, mean) + 1e-9 * np.eye(2)
        step = np.linalg.solve(slope, mean - wanted)
        at = at + step * min(1.0, 1.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-7:
            break
    a, b = np.float32(np.exp(-at[0] / unit)), np.float32(np.exp(-at[1] / unit**2))
    return centre, float(np.clip(a, _LOWEST, _HIGHEST)), float(np.clip(b, _LOWEST, _HIGHEST))
