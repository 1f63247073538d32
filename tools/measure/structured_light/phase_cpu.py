"""The phase of each pixel in one pass over the images (Numba)."""

from __future__ import annotations

import math

import numba
import numpy as np

__all__ = ["edge_mask", "phase_pixels"]


@numba.njit(cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
def _row(
    images, cos, sin, steps, bits, complementary, inverse, sign, offset, floor, gain, least, saturation,
    phase, sigma, modulation, mean, state,
):  # fmt: skip
    width = images.shape[1]
    gray_bits = bits + (1 if complementary else 0)
    fringes = 1 << bits
    for x in range(width):
        total, real, imaginary, top = 0.0, 0.0, 0.0, 0.0
        for k in range(steps):
            value = float(images[k, x])
            total += value
            real += cos[k] * value
            imaginary += sin[k] * value
            top = max(top, value)
        a = total / steps
        b = math.sqrt(real * real + imaginary * imaginary)
        mean[x] = a
        modulation[x] = b
        spread = 0.0
        for k in range(steps):
            through = imaginary * cos[k] - real * sin[k]
            spread += through * through * (floor + gain * float(images[k, x]))
        sigma[x] = math.sqrt(spread) / max(b, 1e-6) ** 2
        code, bit = 0, 0
        for i in range(gray_bits):
            if inverse:
                first = float(images[steps + 2 * i, x])
                second = float(images[steps + 2 * i + 1, x])
                top = max(top, first, second)
                bit ^= 1 if first > second else 0
            else:
                first = float(images[steps + i, x])
                top = max(top, first)
                bit ^= 1 if first > a else 0
            code = (code << 1) | bit  # a binary digit is the exclusive or of the Gray digits so far
        if top >= saturation:
            state[x] = 2
            phase[x] = math.nan
            continue
        if not b >= least:
            state[x] = 1
            phase[x] = math.nan
            continue
        wrapped = sign * math.atan2(imaginary, real) + offset
        if wrapped > math.pi:
            wrapped -= 2 * math.pi
        elif wrapped <= -math.pi:
            wrapped += 2 * math.pi
        fringe = code
        if complementary:
            fringe = code >> 1
            if wrapped <= -math.pi / 2:
                fringe = (code + 1) >> 1
            elif wrapped >= math.pi / 2:
                fringe = ((code + 1) >> 1) - 1
        if fringe < 0 or fringe >= fringes:
            state[x] = 3
            phase[x] = math.nan
            continue
        state[x] = 0
        phase[x] = 2 * math.pi * fringe + wrapped + math.pi


@numba.njit(cache=True, parallel=True)
def _rows(
    stack, cos, sin, steps, bits, complementary, inverse, sign, offset, floor, gain, least, saturation,
    phase, sigma, modulation, mean, state,
):  # fmt: skip
    for y in numba.prange(stack.shape[1]):
        _row(
            stack[:, y], cos, sin, steps, bits, complementary, inverse, sign, offset, floor, gain, least, saturation,
            phase[y], sigma[y], modulation[y], mean[y], state[y],
        )  # fmt: skip


def phase_pixels(
    stack: np.ndarray,  # (images, h, w)
    cos: np.ndarray,  # (steps,) weights of B cos phase
    sin: np.ndarray,
    steps: int,
    bits: int,
    complementary: bool,
    inverse: bool,
    sign: int,
    offset: float,
    floor: float,
    gain: float,
    least: float,
    saturation: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Phase (NaN where masked), its sigma, modulation, mean, and a state: 0 valid, 1 dark, 2 saturated, 3 no such fringe."""
    shape = stack.shape[1:]
    phase = np.empty(shape, np.float64)
    sigma, modulation, mean = (np.empty(shape, np.float32) for _ in range(3))
    state = np.empty(shape, np.uint8)
    _rows(
        stack, cos, sin, steps, bits, complementary, inverse, float(sign), float(offset), floor, gain, least, saturation,
        phase, sigma, modulation, mean, state,
    )  # fmt: skip
    return phase, sigma, modulation, mean, state


def edge_mask(
    phase: np.ndarray,  # (h, w), set to NaN at edges
    modulation: np.ndarray,  # (h, w) float32
    state: np.ndarray,  # (h, w) uint8, set to 4 at edges
    part: float,
) -> None:
    """Masks pixels with less than `part` of the largest median-filtered (3 x 3) modulation in the 5 x 5 pixels around them."""
    import cv2

    usable = cv2.medianBlur(
        np.where(state == 0, modulation, np.float32(0)), 3
    )  # a single glint is no surface
    brightest = cv2.dilate(usable, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    edge = (state == 0) & (modulation < np.float32(part) * brightest)
    state[edge] = 4
    phase[edge] = np.nan
