"""The loops of phase matching (Numba)."""

from __future__ import annotations

import math

import numba
import numpy as np

from .geometry import distort, undistort

__all__ = ["lonely_pixels", "match_pixels", "phase_index", "sample", "triangulate"]

_FAST = {"contract", "arcp", "nsz"}  # NaN keeps its meaning


@numba.njit(cache=True, inline="always")
def _right_pixel(lens, back, u, v):
    """Pixel of the right camera that sees the rectified slopes (u, v); `back` = rectification.right."""
    x = back[0, 0] * u + back[1, 0] * v + back[2, 0]
    y = back[0, 1] * u + back[1, 1] * v + back[2, 1]
    z = back[0, 2] * u + back[1, 2] * v + back[2, 2]
    return distort(lens, x / z, y / z)


@numba.njit(cache=True)
def _slope(here, before, after, limit):
    """Change of phase per pixel at a border, from the neighbour that is there; NaN where neither is."""
    if abs(after - here) <= limit:
        return after - here
    if abs(here - before) <= limit:
        return here - before
    return math.nan


@numba.njit(cache=True)
def sample(phase, sigma, px, py, limit):
    """Phase at a place between pixels, NaN off the image.

    Bilinear where the four pixels around are there and differ by no more than `limit` and their noise explain. At a border (of a hole,
    of the part) a valid pixel speaks for its own square: up to half a pixel beyond its centre the phase is continued along its row and
    column. Without that every border would recede by half a pixel, and every hole grow.
    """
    h, w = phase.shape
    if not (px >= 0.0 and py >= 0.0 and px < w - 1 and py < h - 1):
        return math.nan
    x, y = int(px), int(py)
    fx, fy = px - x, py - y
    a, b, c, d = phase[y, x], phase[y, x + 1], phase[y + 1, x], phase[y + 1, x + 1]
    low = min(min(a, b), min(c, d))
    high = max(max(a, b), max(c, d))
    if high - low <= limit + 4.0 * sigma[y, x]:
        value = (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy
        if not math.isnan(value):  # min and max may pass over a NaN
            return value
    x, y = int(px + 0.5), int(py + 0.5)
    here = phase[y, x]
    if math.isnan(here):
        return math.nan
    left = phase[y, x - 1] if x > 0 else math.nan
    right = phase[y, x + 1] if x < w - 1 else math.nan
    along = _slope(here, left, right, limit)
    if math.isnan(along):
        return math.nan
    above = phase[y - 1, x] if y > 0 else math.nan
    below = phase[y + 1, x] if y < h - 1 else math.nan
    down = _slope(here, above, below, limit)
    if math.isnan(down):
        down = 0.0
    return here + along * (px - x) + down * (py - y)


@numba.njit(cache=True, fastmath=_FAST)
def _index_row(phase, lens, back, u0, v, step, columns, scale, limit, first, last):
    first[:] = math.nan
    last[:] = math.nan
    h, w = phase.shape
    for i in range(columns):
        u = u0 + i * step
        px, py = _right_pixel(lens, back, u, v)
        x, y = int(px + 0.5), int(py + 0.5)
        if not (px >= 0.0 and py >= 0.0 and x < w - 1 and y < h):
            continue
        value = phase[y, x]
        if not abs(phase[y, x + 1] - value) <= limit:  # also where either is masked
            continue
        k = int(value * scale)
        if math.isnan(first[k]):
            first[k] = u
        last[k] = u


@numba.njit(cache=True, parallel=True)
def _index_rows(phase, lens, back, grid, rows, columns, scale, limit, first, last):
    for r in numba.prange(rows):
        _index_row(
            phase,
            lens,
            back,
            grid[0],
            grid[1] + r * grid[2],
            grid[2],
            columns,
            scale,
            limit,
            first[r],
            last[r],
        )


def phase_index(
    phase: np.ndarray,  # (h, w) of the right camera
    lens: np.ndarray,  # (16,)
    back: np.ndarray,  # (3, 3) rectification.right
    grid: np.ndarray,  # (5,) of `matching._right_grid`
    phase_range: float,
    bins: int,
    limit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Two (rows, bins) float64: the leftmost and rightmost u of each rectified row where the phase falls into the bin; NaN: none."""
    rows, columns = int(grid[4]), int(grid[3])
    first, last = np.empty((rows, bins + 1)), np.empty((rows, bins + 1))
    _index_rows(phase, lens, back, grid, rows, columns, bins / phase_range, limit, first, last)
    return first, last


@numba.njit(cache=True, fastmath=_FAST)
def _crossing(phase, sigma, lens, back, u, v, target, step, slope, limit, out):
    """Where the phase interpolated along the row v, times the sign of `slope`, first rises through the target near u.

    Walks in steps of a pixel to a bracket, then secant steps that stay inside it. True with out[0] = u; out[1] is the change of phase
    per u over the pixels around, wide enough that noise does not decide it.
    """
    sign = 1.0 if slope > 0 else -1.0
    px, py = _right_pixel(lens, back, u, v)
    here = sign * (sample(phase, sigma, px, py, limit) - target)
    if math.isnan(here):
        return False
    way = -step if here > 0 else step
    a, fa, b, fb = u, here, u, here
    stride = way
    for _ in range(7):
        b = a + stride
        px, py = _right_pixel(lens, back, b, v)
        fb = sign * (sample(phase, sigma, px, py, limit) - target)
        if math.isnan(fb):  # a border: the crossing may lie before it
            if abs(stride) < 0.2 * step:
                break
            stride *= 0.5
            continue
        if (fb > 0) != (here > 0):
            break
        a, fa = b, fb
    if math.isnan(fb) or (fb > 0) == (here > 0):
        return False
    if way < 0:
        a, fa, b, fb = b, fb, a, fa
    low, high = a, b  # fa <= 0 < fb
    middle = a
    for i in range(20):
        middle = (a * fb - b * fa) / (fb - fa)
        px, py = _right_pixel(lens, back, middle, v)
        fm = sign * (sample(phase, sigma, px, py, limit) - target)
        if math.isnan(fm):
            return False
        if fm > 0:
            moved = b - middle
            b, fb = middle, fm
            fa *= 0.5 if i else 1.0  # Illinois: the end that stays loses weight
        else:
            moved = middle - a
            a, fa = middle, fm
            fb *= 0.5 if i else 1.0
        if min(moved, b - a) < 1e-7 * step or abs(fm) < 1e-11:
            break
    out[0] = middle
    # slope over up to 2.5 pixels to either side
    reach, count, total = 2.5 * step, 0.0, 0.0
    px, py = _right_pixel(lens, back, middle + reach, v)
    after = sign * (sample(phase, sigma, px, py, limit) - target)
    px, py = _right_pixel(lens, back, middle - reach, v)
    before = sign * (sample(phase, sigma, px, py, limit) - target)
    if not math.isnan(after):
        count += reach
        total += after
    if not math.isnan(before):
        count += reach
        total -= before
    if count == 0.0:
        px, py = _right_pixel(lens, back, low, v)
        total = -sign * (sample(phase, sigma, px, py, limit) - target)
        px, py = _right_pixel(lens, back, high, v)
        total += sign * (sample(phase, sigma, px, py, limit) - target)
        count = high - low
    out[1] = sign * total / count
    return total > 0.05 * abs(slope) * count / step


@numba.njit(cache=True, fastmath=_FAST)
def _match_row(
    y, phase_l, sigma_l, phase_r, sigma_r, lens_l, lens_r, front, back, grid, first, last, scale, slope, max_slope, low, high,
    disparity, variance, ray, state, gain,
):  # fmt: skip
    rows, bins = first.shape
    step = grid[2]
    limit = abs(slope) * max_slope
    found = np.empty(2)
    width = len(phase_l)
    for x in range(width):
        disparity[x] = math.nan
        variance[x] = math.nan
        target = phase_l[x]
        if math.isnan(target):
            state[x] = 1
            continue
        state[x] = 2
        sx, sy = undistort(lens_l, float(x), float(y))
        dx = front[0, 0] * sx + front[0, 1] * sy + front[0, 2]
        dy = front[1, 0] * sx + front[1, 1] * sy + front[1, 2]
        dz = front[2, 0] * sx + front[2, 1] * sy + front[2, 2]
        u, v = dx / dz, dy / dz
        ray[x, 0] = u
        ray[x, 1] = v
        row = math.floor((v - grid[1]) / step + 0.5)
        k = int(target * scale)
        if row < 0 or row >= rows or k >= bins:
            continue
        solutions = 0
        best, best_slope = 0.0, 0.0
        for reach in range(0, 5):  # bins 0, +1, -1, +2, -2
            other = k + ((reach + 1) // 2) * (1 if reach % 2 else -1)
            if other < 0 or other >= bins or math.isnan(first[row, other]):
                continue
            for end in range(2):
                start = first[row, other] if end == 0 else last[row, other]
                if end == 1 and start - first[row, other] < 3.0 * step:
                    continue
                start += (target - (other + 0.5) / scale) / (slope / step)
                if not _crossing(phase_r, sigma_r, lens_r, back, start, v, target, step, slope, limit, found):
                    continue
                if not (u - found[0] > low and u - found[0] < high):
                    continue
                if solutions == 0:
                    best, best_slope = found[0], found[1]
                    solutions = 1
                elif abs(found[0] - best) > 3.0 * step:
                    solutions = 2
            if solutions:
                break
        if solutions == 0:
            continue
        if solutions == 2:
            state[x] = 4
            continue
        if abs(best_slope) * step > limit:
            state[x] = 3
            continue
        px, py = _right_pixel(lens_r, back, best, v)
        cx, cy = int(px), int(py)
        fx, fy = px - cx, py - cy
        one = sigma_l[x] * sigma_l[x]
        weights = ((1 - fx) * (1 - fx) + fx * fx) * ((1 - fy) * (1 - fy) + fy * fy)
        other_variance = 0.0
        for j in range(2):
            wy = fy if j else 1 - fy
            for i in range(2):
                weight = wy * (fx if i else 1 - fx)
                s = sigma_r[cy + j, cx + i]
                other_variance += weight * weight * s * s
        state[x] = 0
        disparity[x] = u - best
        variance[x] = (one + other_variance) / (best_slope * best_slope)
        gain[x] = (one + other_variance) / (one + other_variance / weights)


@numba.njit(cache=True, parallel=True)
def _match_rows(
    phase_l, sigma_l, phase_r, sigma_r, lens_l, lens_r, front, back, grid, first, last, scale, slope, max_slope, low, high,
    disparity, variance, ray, state, gain,
):  # fmt: skip
    for y in numba.prange(phase_l.shape[0]):
        _match_row(
            y, phase_l[y], sigma_l[y], phase_r, sigma_r, lens_l, lens_r, front, back, grid, first, last, scale, slope, max_slope,
            low, high, disparity[y], variance[y], ray[y], state[y], gain[y],
        )  # fmt: skip


def match_pixels(
    phase_l, sigma_l, phase_r, sigma_r, lens_l, lens_r, front, back, grid, index, phase_range, slope, max_slope, low, high
):  # fmt: skip
    """Disparity in slopes (h, w), its variance, the rectified slopes of each left pixel (h, w, 2), state and gain.

    State: 0 matched, 1 masked, 2 unmatched, 3 steep, 4 ambiguous. Gain: variance of a point over what it adds to a mean.
    """
    shape = phase_l.shape
    first, last = index
    disparity, variance = np.empty(shape), np.empty(shape)
    ray, gain = np.zeros((*shape, 2)), np.ones(shape, np.float32)
    state = np.empty(shape, np.uint8)
    _match_rows(
        phase_l, sigma_l, phase_r, sigma_r, lens_l, lens_r, front, back, grid, first, last, (first.shape[1] - 1) / phase_range,
        slope, max_slope, low, high, disparity, variance, ray, state, gain,
    )  # fmt: skip
    return disparity, variance, ray, state, gain


@numba.njit(cache=True)
def _lonely_row(y, disparity, variance, state, pixel, least, out):
    h, w = disparity.shape
    for x in range(w):
        out[x] = 0
        if state[y, x] != 0:
            continue
        near = 0
        for j in range(max(y - 1, 0), min(y + 2, h)):
            for i in range(max(x - 1, 0), min(x + 2, w)):
                if (i != x or j != y) and state[j, i] == 0:
                    reach = pixel + 4.0 * math.sqrt(variance[y, x] + variance[j, i])
                    near += abs(disparity[j, i] - disparity[y, x]) <= reach
        out[x] = 1 if near < least else 0


@numba.njit(cache=True, parallel=True)
def _lonely_rows(disparity, variance, state, pixel, least, out):
    for y in numba.prange(disparity.shape[0]):
        _lonely_row(y, disparity, variance, state, pixel, least, out[y])


def lonely_pixels(
    disparity: np.ndarray, variance: np.ndarray, state: np.ndarray, pixel: float, least: int
) -> None:
    """Sets state 5 where fewer than `least` of the 8 neighbours lie within a disparity gradient of one (and 4 sigma)."""
    out = np.empty(state.shape, np.uint8)
    _lonely_rows(disparity, variance, state, pixel, least, out)
    state[out == 1] = 5


@numba.njit(cache=True)
def _triangulate_row(disparity, variance, ray, state, front, baseline, points, sigma):
    for x in range(len(disparity)):
        if state[x] != 0:
            points[x, 0] = points[x, 1] = points[x, 2] = sigma[x] = math.nan
            continue
        u, v = ray[x, 0], ray[x, 1]
        z = baseline / disparity[x]
        for axis in range(3):  # the rectified frame's rows are `front`; its transpose leads back
            points[x, axis] = (u * front[0, axis] + v * front[1, axis] + front[2, axis]) * z
        sigma[x] = math.sqrt(u * u + v * v + 1.0) * z * z / baseline * math.sqrt(variance[x])


@numba.njit(cache=True, parallel=True)
def _triangulate_rows(disparity, variance, ray, state, front, baseline, points, sigma):
    for y in numba.prange(disparity.shape[0]):
        _triangulate_row(disparity[y], variance[y], ray[y], state[y], front, baseline, points[y], sigma[y])


def triangulate(
    disparity: np.ndarray,  # (h, w) in slopes
    variance: np.ndarray,  # (h, w) of the disparity
    ray: np.ndarray,  # (h, w, 2) rectified slopes of the left pixels
    state: np.ndarray,  # (h, w) uint8, 0 where matched
    front: np.ndarray,  # (3, 3) rectification.left
    baseline: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Points (h, w, 3) in the left camera's frame and their standard deviation along its ray (h, w); NaN where there is no match.

    z = baseline / disparity, so sigma_z = z^2 / baseline sigma_disparity, and along the ray sqrt(1 + u^2 + v^2) times that.
    """
    points, sigma = np.empty((*state.shape, 3)), np.empty(state.shape)
    _triangulate_rows(disparity, variance, ray, state, front, float(baseline), points, sigma)
    return points, sigma
