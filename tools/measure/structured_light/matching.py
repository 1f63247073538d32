"""Left pixels matched to the right image where the absolute phase is the same along the epipolar line, and triangulated.

Nothing is resampled: each left pixel keeps its own phase at its own centre, and the right camera's phase is interpolated at the very
place (through the lens) that the epipolar line passes. Interpolating absolute phase, not grey values, knows no wraps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

from .calibration import StereoCalibration
from .geometry import distort, rectification, undistorted
from .phase import PhaseMap

__all__ = ["Match", "match", "match_reference", "sample_reference", "typical_slope"]


@dataclass(frozen=True)
class Match:
    """For each left pixel what the right camera says of it."""

    points: np.ndarray
    """(h, w, 3) float64 in the left camera's frame and the calibration's unit; NaN where there is no match."""
    sigma: np.ndarray
    """(h, w) float64: standard deviation along the left camera's ray, from the noise of both images."""
    counts: dict
    """Left pixels: valid before, unmatched, steep (the right phase changes too fast there), ambiguous, lonely, range (outside z_range), matched."""
    independence: float
    """Variance of one point over that of the mean of many, times their number: neighbours share right pixels, so means over an area
    vary 1 / independence times as much as independent points of the same sigma would."""


def typical_slope(phase: np.ndarray) -> float:
    """Median change of phase (h, w) per pixel along a row, radians, with its sign. `UserError` where nothing is valid."""
    step = np.diff(phase[::4], axis=1)
    step = step[np.abs(step) < np.pi]
    if not len(step):
        raise UserError(
            "no two neighbouring pixels carry a phase: the images show no pattern, or are too dark"
        )
    return float(np.median(step))


def match(
    left: PhaseMap,
    right: PhaseMap,
    calibration: StereoCalibration,
    *,
    max_slope: float = 4.0,  # times the typical change of phase a pixel, from which a place is taken for an edge
    min_neighbours: int = 3,  # of 8 that must lie within a disparity gradient of one; 0: keep all
    z_range: tuple[float, float] | None = None,  # of the left camera's z, in the calibration's unit
) -> Match:
    """All left pixels at once (Numba). The same as `match_reference`.

    Raises `UserError` where image sizes differ from the calibration's.
    """
    from .matching_cpu import lonely_pixels, match_pixels, phase_index

    _check_size(left, right, calibration)
    frame = rectification(calibration)
    lens_left, lens_right = calibration.left.packed(), calibration.right.packed()
    slope = typical_slope(right.phase)
    grid = _right_grid(calibration, right.phase.shape)
    low, high = _disparity_limits(calibration, left.phase.shape, z_range)
    fringe_range = float(np.nanmax(right.phase)) + 1e-6
    bins = int(min(max(fringe_range / abs(slope) / 1.5, 64), 8192))
    index = phase_index(
        right.phase, lens_right, frame.right, grid, fringe_range, bins, abs(slope) * max_slope
    )
    disparity, variance, ray, state, gain = match_pixels(
        left.phase, left.sigma, right.phase, right.sigma, lens_left, lens_right, frame.left, frame.right, grid, index,
        fringe_range, slope, max_slope, low, high,
    )  # fmt: skip
    if min_neighbours > 0:
        lonely_pixels(disparity, variance, state, 1 / calibration.left.matrix[0, 0], min_neighbours)
    return _assembled(disparity, variance, ray, state, gain, frame, z_range)


def match_reference(
    left: PhaseMap,
    right: PhaseMap,
    calibration: StereoCalibration,
    *,
    max_slope: float = 4.0,
    z_range: tuple[float, float] | None = None,
    pixels: np.ndarray,  # (n, 2) column, row of the left pixels to match
) -> np.ndarray:
    """(n, 3) points, NaN where unmatched or ambiguous: each pixel alone, by walking along its whole epipolar line and bisecting."""
    from scipy.optimize import brentq

    frame = rectification(calibration)
    slope = typical_slope(right.phase)
    u0, _, step, columns, _ = _right_grid(calibration, right.phase.shape)
    low, high = _disparity_limits(calibration, left.phase.shape, z_range)
    slopes = undistorted(calibration, np.asarray(pixels, np.float64))
    lens = calibration.right.packed()
    out = np.full((len(pixels), 3), np.nan)
    for i, (column, row) in enumerate(np.asarray(pixels)):
        target = left.phase[row, column]
        if np.isnan(target):
            continue
        direction = frame.left @ np.array([*slopes[i], 1.0])
        u_left, v = direction[:2] / direction[2]

        def difference(u: float, v: float = v, target: float = target) -> float:
            d = frame.right.T @ np.array([u, v, 1.0])
            x, y = distort.py_func(lens, d[0] / d[2], d[1] / d[2])
            return sample_reference(right.phase, right.sigma, x, y, max_slope * abs(slope)) - target

        us = u0 + step * 0.25 * np.arange(4 * int(columns))
        values = np.array([difference(u) for u in us])
        rising = values * np.sign(slope)
        starts = np.flatnonzero((rising[:-1] <= 0) & (rising[1:] > 0))
        found = [brentq(difference, us[k], us[k + 1], xtol=1e-14) for k in starts]
        found = [u for u in found if low < u_left - u < high]
        if len(found) == 1:
            z = frame.baseline / (u_left - found[0])
            point = frame.left.T @ np.array([u_left * z, v * z, z])
            if z_range is None or z_range[0] <= point[2] <= z_range[1]:
                out[i] = point
    return out


def sample_reference(phase: np.ndarray, sigma: np.ndarray, px: float, py: float, limit: float) -> float:
    """`matching_cpu.sample` from its description: bilinear inside, the nearest pixel continued at a border."""
    h, w = phase.shape
    if not (0 <= px < w - 1 and 0 <= py < h - 1):
        return np.nan
    x, y = int(np.floor(px)), int(np.floor(py))
    cell = phase[y : y + 2, x : x + 2]
    if np.isfinite(cell).all() and np.ptp(cell) <= limit + 4 * sigma[y, x]:
        across = np.array([1 - (px - x), px - x])
        return float(np.array([1 - (py - y), py - y]) @ cell @ across)
    x, y = int(np.floor(px + 0.5)), int(np.floor(py + 0.5))
    padded = np.full((3, 3), np.nan)
    for j in range(max(y - 1, 0), min(y + 2, h)):
        for i in range(max(x - 1, 0), min(x + 2, w)):
            padded[j - y + 1, i - x + 1] = phase[j, i]
    here = padded[1, 1]

    def change(before: float, after: float) -> float:
        steps = [d for d in (after - here, here - before) if abs(d) <= limit]
        return steps[0] if steps else np.nan

    along, down = change(*padded[1, ::2]), change(*padded[::2, 1])
    return float(here + along * (px - x) + (0.0 if np.isnan(down) else down) * (py - y))


def _check_size(left: PhaseMap, right: PhaseMap, calibration: StereoCalibration) -> None:
    if left.phase.shape != right.phase.shape:
        raise UserError(
            f"left images are {_size(left)}, right ones {_size(right)}: both cameras must deliver one size"
        )
    if calibration.size and calibration.size != left.phase.shape[::-1]:
        raise UserError(
            f"images are {_size(left)}, the calibration is for {calibration.size[0]} x {calibration.size[1]}: "
            "give the calibration of this camera mode, or images that were not scaled or cropped"
        )


def _size(phases: PhaseMap) -> str:
    h, w = phases.phase.shape
    return f"{w} x {h}"


def _right_grid(calibration: StereoCalibration, shape: tuple[int, int]) -> np.ndarray:
    """(5,) u0, v0, step, columns, rows: a grid of about one pixel over all that the right camera sees, in the rectified frame."""
    h, w = shape
    edge = np.concatenate(
        [np.stack([np.linspace(0, w - 1, 64), np.full(64, y)], 1) for y in (0.0, h - 1.0)]
        + [np.stack([np.full(64, x), np.linspace(0, h - 1, 64)], 1) for x in (0.0, w - 1.0)]
    )
    slopes = undistorted(calibration, edge, right=True)
    d = np.column_stack([slopes, np.ones(len(slopes))]) @ rectification(calibration).right.T
    uv = d[:, :2] / d[:, 2:]
    if not (d[:, 2] > 0).all():
        raise UserError(
            "calibration: the right camera looks along the baseline; such a pair cannot be rectified"
        )
    step = 1 / calibration.right.matrix[0, 0]
    low, high = uv.min(axis=0), uv.max(axis=0)
    columns, rows = np.ceil((high - low) / step) + 1
    if columns * rows > 40 * h * w:
        raise UserError(
            f"calibration: rectified, the right image would be {columns:.0f} x {rows:.0f} pixels; does it fit these cameras?"
        )
    return np.array([low[0], low[1], step, columns, rows])


def _disparity_limits(
    calibration: StereoCalibration, shape: tuple[int, int], z_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Least and largest disparity of points whose z in the left camera lies in the range, wherever they are in its image."""
    frame = rectification(calibration)
    if z_range is None:
        return frame.baseline * 1e-9, np.inf
    near, far = z_range
    if not 0 < near < far:
        raise UserError(
            f"z range {near:g} to {far:g}: give two distances in front of the cameras, nearer first"
        )
    h, w = shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, w - 1, 9), np.linspace(0, h - 1, 9)))
    slopes = undistorted(calibration, np.column_stack([x, y]))
    depth = (
        np.column_stack([slopes, np.ones(len(slopes))]) @ frame.left[2]
    )  # rectified, over the left camera's z
    return frame.baseline / (far * float(depth.max()) * 1.01), frame.baseline / (
        near * float(depth.min()) * 0.99
    )


def _assembled(disparity, variance, ray, state, gain, frame, z_range) -> Match:
    from .matching_cpu import triangulate

    points, sigma = triangulate(disparity, variance, ray, state, frame.left, frame.baseline)
    if z_range is not None:
        outside = (state == 0) & ~((points[..., 2] >= z_range[0]) & (points[..., 2] <= z_range[1]))
        state[outside], points[outside], sigma[outside] = 6, np.nan, np.nan
    names = ("matched", "masked", "unmatched", "steep", "ambiguous", "lonely", "range")
    found = np.bincount(state.ravel(), minlength=len(names))
    counts = {name: int(found[i]) for i, name in enumerate(names)}
    counts["valid"] = int(state.size - counts.pop("masked"))
    matched = state == 0
    independence = float(gain[matched].mean(dtype=np.float64)) if matched.any() else 1.0
    return Match(points, sigma, counts, independence)
