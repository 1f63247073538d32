"""How far a thread reaches along its axis."""

from __future__ import annotations

import numpy as np

from .thread_axis import unroll
from .thread_surface import HelicalSurface

__all__ = ["threaded_zone"]

_FITTING = 0.7  # share of a slice's points that must lie on the surface


def threaded_zone(
    points: np.ndarray,  # (n, 3)
    surface: HelicalSurface,
    core: tuple[float, float],  # z of a part that is surely threaded
) -> tuple[float, float, np.ndarray]:
    """(low, high) of z, and (n,) bool of the points in it whose radius may be the thread's.

    Grows from the core in slices of half a pitch, as long as most points of a slice within the thread's radii lie on the fitted
    surface; a plain shank, a head, a chamfer and a run-out do not. Slices without points are passed over, two pitches of
    them at most.
    """
    theta, z, r = unroll(points, surface.point, surface.direction)
    value, slope = surface.profile(surface.phase(theta, z))
    gradient = np.sqrt(1 + slope**2 * (surface.frequency**2 + (surface.starts / np.maximum(r, 1e-300)) ** 2))
    shape, _ = surface.profile(np.linspace(0, 2 * np.pi, 361))
    least, most = float(shape.min()), float(shape.max())
    margin = 0.25 * (most - least)
    band = (r > least - margin) & (r < most + margin)
    near = np.abs(r - value) / gradient < max(4 * surface.sigma, 0.1 * surface.amplitude())
    width = surface.pitch / 2
    first = float(z.min())
    slices = int((z.max() - first) / width) + 1
    index = np.minimum(((z - first) / width).astype(np.int64), slices - 1)
    count = np.bincount(index[band], minlength=slices)
    fitting = np.bincount(index[band & near], minlength=slices)
    begin = int(np.clip((core[0] - first) / width, 0, slices - 1))
    end = int(np.clip((core[1] - first) / width, 0, slices - 1))
    low = _grow(count, fitting, (begin + end) // 2, -1)
    high = _grow(count, fitting, (begin + end) // 2, +1)
    inside = band & (index >= low) & (index <= high)
    return first + low * width, min(first + (high + 1) * width, float(z.max())), inside


def _grow(count: np.ndarray, fitting: np.ndarray, start: int, step: int) -> int:
    """The last good slice from `start` in one direction."""
    last, at, missed = start, start, 0
    while 0 <= at + step < len(count) and missed < 4:
        at += step
        if count[at] < 3:
            missed += 1
        elif fitting[at] >= _FITTING * count[at]:
            last, missed = at, 0
        else:
            break
    return last
