"""A Hough vote for helices in which every point votes with its phase.

The textbook accumulator counts points on the line z = L theta / 2 pi + const of the unrolled surface, bin by bin. Here each point adds its
radial residual as a phasor, V(f, s) = | sum_i e_i exp(-i (2 pi f z_i - s theta_i)) |, so all points of all turns add up in phase only at the
right pitch 1/f, hand sign(s) and number of starts |s|. That is the two-dimensional Fourier transform of the unrolled relief: one FFT
counts every cell of the accumulator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Vote", "best_window", "hough_vote", "relief"]

_ANGLE_BINS = 48
_PERIODS = 2.5  # turns a window must show
_CLIP = 3.0  # robust standard deviations


@dataclass(frozen=True)
class Vote:
    """The highest cell of one accumulator."""

    pitch: float
    """Distance of neighbouring crests along the axis (lead / starts), in the cloud's unit."""
    starts: int
    """Number of starts, negative for a left-handed thread."""
    explained: float
    """Share of the relief's variance that this one sinusoid explains, 0 to 1."""
    ratio: float
    """Height of the peak over the median cell."""
    low: float
    """z where the window begins."""
    high: float
    """z where it ends."""
    by_starts: dict[int, float]
    """The best share at this pitch for every signed number of starts."""


def relief(
    theta: np.ndarray,  # (n,)
    z: np.ndarray,  # (n,)
    r: np.ndarray,  # (n,)
) -> np.ndarray:
    """(n,) radial residuals about a tilted, tapered, eccentric cylinder, clipped at 3 robust standard deviations.

    Clipping keeps a bolt's head, or a neighbour, from outvoting the thread.
    """
    height = z - z.mean()
    height = height / max(float(np.abs(height).max()), 1e-300)
    c, s = np.cos(theta), np.sin(theta)
    columns = np.stack([np.ones_like(c), c, s, height, height * c, height * s], axis=1)
    start = np.median(r)
    bound = _CLIP * 1.4826 * np.median(np.abs(r - start)) + 1e-300
    value = np.clip(r - start, -bound, bound)
    for _ in range(3):
        fit = columns @ np.linalg.lstsq(columns, value, rcond=1e-9)[0]
        rest = r - start - fit
        bound = _CLIP * 1.4826 * np.median(np.abs(rest)) + 1e-300
        rest = np.clip(rest, -bound, bound)
        value = fit + rest
    return rest


def hough_vote(
    theta: np.ndarray,  # (n,) radians
    z: np.ndarray,  # (n,)
    residual: np.ndarray,  # (n,) as `relief` returns them
    pitch_range: tuple[float, float],
    max_starts: int = 4,
) -> Vote | None:
    """The highest cell over pitches in `pitch_range` and starts in +-1..+-`max_starts`; None if no pitch there has 2.5 turns in view."""
    low, high = float(z.min()), float(z.max())
    length = high - low
    finest, coarsest = pitch_range[0], min(pitch_range[1], length / _PERIODS)
    if not length > 0 or not finest < coarsest:
        return None
    bins = int(min(2 ** np.ceil(np.log2(4 * length / finest)), 4096))
    column = np.minimum(((z - low) / length * bins).astype(np.int64), bins - 1)
    row = np.minimum(((theta + np.pi) / (2 * np.pi) * _ANGLE_BINS).astype(np.int64), _ANGLE_BINS - 1)
    image = np.bincount(row * bins + column, residual, _ANGLE_BINS * bins).reshape(_ANGLE_BINS, bins)
    spectrum = np.fft.rfft(image, n=2 * bins, axis=1)
    frequency = np.arange(spectrum.shape[1]) / (2 * length)
    angles = (np.arange(_ANGLE_BINS) + 0.5) * (2 * np.pi / _ANGLE_BINS) - np.pi
    starts = np.array([s for k in range(1, max_starts + 1) for s in (k, -k)])
    power = np.abs(np.exp(1j * np.outer(starts, angles)) @ spectrum) ** 2
    energy = float(residual @ residual)
    if not energy > 0:
        return None
    explained = 2 * power / (energy * len(z))
    allowed = (frequency >= 1 / coarsest) & (frequency <= 1 / finest)
    if not allowed.any():
        return None
    window = explained[:, allowed]
    s, f = np.unravel_index(np.argmax(window), window.shape)
    peak, at = window[s, f], np.flatnonzero(allowed)[f]
    near = explained[:, max(at - 2, 0) : at + 3].max(axis=1)
    return Vote(
        pitch=1 / _vertex(frequency, np.sqrt(explained[s]), at),
        starts=int(starts[s]),
        explained=float(min(peak, 1.0)),
        ratio=float(np.sqrt(peak / max(np.median(window), 1e-300))),
        low=low,
        high=high,
        by_starts={int(k): float(value) for k, value in zip(starts, near)},
    )


def _vertex(frequency: np.ndarray, height: np.ndarray, at: int) -> float:
    """Frequency of the parabola through a peak's cell and its two neighbours."""
    if not 0 < at < len(height) - 1:
        return float(frequency[at])
    left, middle, right = height[at - 1 : at + 2]
    curve = left - 2 * middle + right
    shift = 0.5 * (left - right) / curve if curve < 0 else 0.0
    return float(frequency[at] + np.clip(shift, -0.5, 0.5) * (frequency[1] - frequency[0]))


def best_window(
    theta: np.ndarray,  # (n,)
    z: np.ndarray,  # (n,)
    r: np.ndarray,  # (n,)
    pitch_range: tuple[float, float],
    max_starts: int = 4,
) -> Vote | None:
    """The clearest vote over windows of z: the whole, halves, quarters and eighths, each half overlapping the next.

    A sinusoid explains a thread's relief best where the window holds nothing but thread, so the winner lies inside the threaded
    zone. Longer windows win ties: their votes are held to be as clear as shorter ones' at 0.9 of the share.
    """
    low, high = float(np.min(z)), float(np.max(z))
    best: tuple[float, Vote] | None = None
    for level in range(4):
        width = (high - low) / 2**level
        for step in range(2 ** (level + 1) - 1):
            begin = low + step * width / 2
            inside = (z >= begin) & (z <= begin + width)
            if inside.sum() < 60:
                continue
            t, h = theta[inside], z[inside]
            vote = hough_vote(t, h, relief(t, h, r[inside]), pitch_range, max_starts)
            if vote is not None:
                score = vote.explained * 0.9**level
                if best is None or score > best[0]:
                    best = (score, vote)
    return best[1] if best else None
