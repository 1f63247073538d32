"""From the images of one camera to its absolute phase, modulation and noise, pixel by pixel.

I_k = A + B cos(phase - 2 pi k / N): the least-squares solution is A = mean I, B exp(i phase) = (2 / N) sum I_k exp(2 pi i k / N).
Camera noise sigma_I makes a phase noise of sqrt(2 / N) sigma_I / B; where it differs between the images (photons),
its square is sum (d phase / d I_k)^2 sigma_I,k^2. What the N images have left after A, B and phase is the noise
itself (N > 3), so it is measured, not assumed, as a straight line in the brightness (read noise plus photon noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

from .pattern import Pattern, binary_from_gray

__all__ = [
    "Convention",
    "NoiseModel",
    "PhaseMap",
    "decode_phase",
    "decode_phase_reference",
    "find_convention",
    "measure_noise",
]

_NOISE_PIXELS = 40_000
_ROUNDING = 1 / 12  # variance of rounding to whole grey values
_RESULTANT = 0.35  # of 2 / pi: a half fringe's phases, if the images are what the pattern says
_SUCCESSIVE = 0.5  # share of the code's changes that are by one; the rest are the part's own edges


@dataclass(frozen=True)
class Convention:
    """How a projector's phase relates to its Gray code; makers differ in sign and zero."""

    sign: int
    """+1 where the wrapped phase grows with the Gray number."""
    offset: float
    """Radians to add, after the sign, so that fringes begin at -pi."""
    confidence: float
    """Agreement of phase and code in [0, 1]: 2 / pi is perfect."""


@dataclass(frozen=True)
class NoiseModel:
    """Variance of a pixel's grey value: `floor + gain * value`, grey values squared."""

    floor: float
    gain: float
    estimated: bool
    """False where it was given, or had to be assumed."""

    def variance(self, value: np.ndarray | float) -> np.ndarray | float:
        return self.floor + self.gain * value


@dataclass(frozen=True)
class PhaseMap:
    """What one camera saw."""

    phase: np.ndarray
    """(h, w) float64: absolute phase in radians, 0 to 2 pi fringes; NaN where masked."""
    sigma: np.ndarray
    """(h, w) float32: standard deviation of the phase, radians."""
    modulation: np.ndarray
    """(h, w) float32: B, grey values."""
    mean: np.ndarray
    """(h, w) float32: A, grey values."""
    noise: NoiseModel
    ripple: float
    """Radians: amplitude of the phase error that the fringes' second harmonic (projector gamma) explains; 0 if not known."""
    counts: dict
    """Pixels: total, dark (low modulation), saturated, edge (partly covered), code (outside the Gray code), valid."""


def find_convention(
    stack: np.ndarray,  # (images, h, w)
    pattern: Pattern,
    rows: int = 48,  # image rows looked at, evenly spread
) -> Convention:
    """Sign and zero of the phase against the Gray code, from the images themselves.

    Phases of the first halves of the fringes must centre on -pi/2 and those of the second halves on +pi/2, and phase and code
    must grow in the same direction. Raises `UserError` where they do not: the images are not the pattern, or out of order.
    """
    h = stack.shape[1]
    chosen = np.unique(np.linspace(0, h - 1, min(rows, h)).astype(int))
    images = stack[:, chosen].astype(np.float64)
    mean, real, imaginary = _sums(images, pattern)
    modulation = np.hypot(real, imaginary)
    bright = modulation > max(2.0, 0.25 * float(np.percentile(modulation, 90)))
    code = _code(images, pattern, mean)
    unit = np.where(bright, real + 1j * imaginary, 0) / np.maximum(modulation, 1e-9)
    vote = _direction(unit, code, bright)
    sign = 1 if vote >= 0 else -1
    successive = _successive(code, bright)
    if sign < 0:
        unit = np.conj(unit)
    if pattern.complementary:
        half = code & 1
        first, second = unit[bright & (half == 0)], unit[bright & (half == 1)]
        if not len(first) or not len(second):
            raise UserError(
                f"the Gray images show no stripes ({int(bright.sum())} lit pixels looked at): are the files in order, "
                f"{pattern.steps} phase steps first?"
            )
        resultant = (second.mean() - first.mean()) / 2
        confidence = float(abs(resultant))
        offset = float(np.pi / 2 - np.angle(resultant))
    else:  # the wrap must fall where the code changes
        jump = np.abs(np.diff(code, axis=1)) == 1
        at_edge = (unit[:, 1:] * jump * bright[:, 1:])[jump & bright[:, 1:]]
        if not len(at_edge):
            raise UserError("the Gray images show no stripes: are the files in order, phase steps first?")
        confidence = float(abs(at_edge.mean())) * 2 / np.pi
        offset = float(np.pi - np.angle(at_edge.mean()))
    if confidence < _RESULTANT or abs(vote) < 0.2 or successive < _SUCCESSIVE:
        raise UserError(
            f"phase images and Gray code do not belong together (agreement {confidence:.2f} of 0.64, direction {vote:+.2f} of 1, "
            f"{successive:.0%} of neighbouring stripes have successive numbers): "
            f"expected {pattern.steps} phase steps, then {pattern.gray_bits} Gray images"
            f"{' each with its inverse' if pattern.inverse else ''}, most significant first; check order and --steps"
        )
    quarter = np.pi / 2  # a convention is a matter of sine or cosine: what is left over is noise and albedo
    snapped = round(offset / quarter) * quarter
    if abs(offset - snapped) < 0.25:
        offset = snapped
    return Convention(sign, float(np.angle(np.exp(1j * offset))), confidence)


def _direction(unit: np.ndarray, code: np.ndarray, bright: np.ndarray) -> float:
    """In [-1, 1]: does the wrapped phase grow where the code does? Fine fringes show it over two pixels, coarse ones over eight."""
    best = 0.0
    for reach in (2, 8):
        step = np.angle(unit[:, reach:] * np.conj(unit[:, :-reach]))
        change = code[:, reach:] - code[:, :-reach]
        both = (bright[:, reach:] & bright[:, :-reach]) & (np.abs(change) == 1)
        vote = float(np.sign(step[both] * change[both]).mean()) if both.any() else 0.0
        best = vote if abs(vote) > abs(best) else best
    return best


def _successive(code: np.ndarray, bright: np.ndarray) -> float:
    """Share of the code's changes from pixel to pixel that are by one. The last bit's parity does not notice Gray images in another
    order; this does: only with the finest image last do neighbouring stripes have neighbouring numbers.
    """
    change = np.abs(np.diff(code, axis=1))[bright[:, 1:] & bright[:, :-1]]
    changed = int((change > 0).sum())
    return float((change == 1).sum() / changed) if changed else 0.0


def measure_noise(
    stack: np.ndarray,  # (images, h, w)
    pattern: Pattern,
    saturation: float,
    stride: int = 3,
) -> tuple[NoiseModel, float]:
    """The noise of the grey values, and the ripple (radians) that the fringes' second harmonic would leave in the phase.

    From four steps on, what the images have left after A, B and phase is split into the part that follows the phase's harmonics
    (the projector's response is not straight; `_visible_harmonics`) and the rest, whose variance is fitted against brightness. With three
    steps nothing is left over; the noise then comes from the mean image's Laplacian (Immerkaer, "Fast noise variance estimation", CVIU 64, 1996).
    """
    images = stack[: pattern.steps, ::stride, ::stride].astype(np.float64)
    _, real, imaginary = _sums(images, pattern)
    n = pattern.steps
    unsaturated = (images < saturation).all(axis=0)
    modulation = np.hypot(real, imaginary)
    bright = unsaturated & (modulation > max(4.0, 0.25 * float(np.percentile(modulation, 90))))
    chosen = np.flatnonzero(bright)
    if len(chosen) < 100:
        return NoiseModel(1.0, 0.0, False), 0.0
    chosen = chosen[:: max(1, len(chosen) // _NOISE_PIXELS)]
    grey = images.reshape(n, -1)[:, chosen]
    if n == 3:
        response = _second_differences(stack[:n].astype(np.float64).mean(axis=0))[::stride, ::stride].ravel()[
            chosen
        ]
        squares = (
            n * response**2 / 36
        )  # the kernel's weights have a norm of 6; a mean of n has 1 / n of the variance
        floor, gain = _noise_line(squares, np.ones(len(chosen)), grey.mean(axis=0), 1)
        return NoiseModel(floor, gain, True), 0.0
    b, phase = modulation.ravel()[chosen], np.arctan2(imaginary, real).ravel()[chosen]
    angles = 2 * np.pi * np.arange(n)[:, None] / n
    orders = _visible_harmonics(n)
    basis = np.stack([_residual(b * wave(m * (phase - angles))) for m in orders for wave in (np.cos, np.sin)])
    rest = _residual(grey)
    fitted = np.linalg.lstsq(
        np.einsum("ikp,jkp->ij", basis, basis), np.einsum("ikp,kp->i", basis, rest), rcond=None
    )[0]
    rest = rest - np.einsum("i,ikp->kp", fitted, basis)
    # what each grey value's noise adds to the rest, directly and through the phase that the harmonics were placed by
    gain_of = np.zeros_like(grey)
    for k in range(n):
        along, across = np.cos(phase - angles[k]), np.sin(phase - angles[k])
        unit = np.zeros((n, len(chosen)))
        unit[k] = 1
        for m, (h_cos, h_sin) in zip(orders, fitted.reshape(-1, 2)):
            d_cos = 2 / n * (np.cos(m * phase) * along + m * np.sin(m * phase) * across)
            d_sin = 2 / n * (np.sin(m * phase) * along - m * np.cos(m * phase) * across)
            unit -= (h_cos * np.cos(m * angles) - h_sin * np.sin(m * angles)) * d_cos
            unit -= (h_cos * np.sin(m * angles) + h_sin * np.cos(m * angles)) * d_sin
        gain_of[k] = (_residual(unit) ** 2).sum(axis=0)
    harmonic = fitted[:2]
    floor, gain = _noise_line((rest**2).sum(axis=0), gain_of.sum(axis=0), (gain_of * grey).sum(axis=0), n - 3)
    return NoiseModel(floor, gain, True), float(np.hypot(*harmonic))


def _visible_harmonics(steps: int) -> list[int]:
    """Orders of cos m (phase - angle) that leave something after A, B and phase, the second first.

    Second and third are a bent response's own. N - 2 and N + 2 come of the error that harmonics N - 1 and N + 1 make in the
    phase itself, of period 2 pi / N (Zuo et al. 2018, section 5), on which the second harmonic is then placed.
    """
    orders = [2, 3, steps - 2, steps + 2]
    return [
        m
        for i, m in enumerate(orders)
        if m % steps not in (0, 1, steps - 1) and m not in orders[:i] and m > 1
    ]


def _second_differences(image: np.ndarray) -> np.ndarray:
    """Response of [[1, -2, 1], [-2, 4, -2], [1, -2, 1]], which sees neither slopes nor curvature along either axis."""
    padded = np.pad(image, 1, mode="reflect")
    rows = padded[:-2] - 2 * padded[1:-1] + padded[2:]
    return rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]


def _noise_line(
    squares: np.ndarray, of_floor: np.ndarray, of_gain: np.ndarray, freedom: int
) -> tuple[float, float]:
    """Floor (at least the 1 / 12 of rounding to whole grey values) and gain, not negative, with
    E squares = floor of_floor + gain of_gain.

    Squares over nine times what is expected (moving edges, glints) are left out, and what that takes from a normal variable's mean
    square is given back. Grey values are whole numbers, so medians of squares would jump; truncated means do not. Where all pixels are
    about as bright, floor and gain cannot be told apart: a gain within two standard errors of zero is taken to be zero.
    """
    from scipy.stats import chi2

    shrink = chi2.cdf(9 * freedom, freedom + 2) / chi2.cdf(9 * freedom, freedom)
    floor, gain = max(float(squares.mean() / of_floor.mean()), _ROUNDING), 0.0
    for _ in range(12):
        expected = floor * of_floor + gain * of_gain
        kept = squares <= 9 * expected
        f, g = of_floor[kept] / expected[kept], of_gain[kept] / expected[kept]
        y = squares[kept] / expected[kept] / shrink - _ROUNDING * f
        ff, fg, gg, fy, gy = f @ f, f @ g, g @ g, f @ y, g @ y
        determinant = ff * gg - fg * fg
        before, gain = (floor, gain), 0.0
        if determinant > 1e-9 * ff * gg:
            gain = (ff * gy - fg * fy) / determinant
            if gain < 2 * np.sqrt(2 / freedom * ff / determinant):  # chi-square: variance 2 / freedom each
                gain = 0.0
        above = (fy - gain * fg) / ff
        if above < 0 and gain > 0:
            above, gain = 0.0, gy / gg
        floor = _ROUNDING + max(above, 0.0)
        if abs(floor - before[0]) + abs(gain - before[1]) * of_gain.mean() < 1e-5 * floor:
            break
    return float(floor), float(gain)


def decode_phase(
    stack: np.ndarray,  # (images, h, w) uint8 or uint16
    pattern: Pattern,
    *,
    convention: Convention | None = None,
    noise: NoiseModel | None = None,
    min_modulation: float
    | None = None,  # grey values; None: 5 times the noise, at least 2 per cent of the range used
    saturation: float
    | None = None,  # grey value from which a pixel is not believed; None: the type's largest
    edge_modulation: float = 0.5,  # part of the neighbourhood's modulation below which a pixel is taken to be half off an edge; 0: off
) -> PhaseMap:
    """Absolute phase, its standard deviation and masks. Deterministic; the same as `decode_phase_reference`.

    A pixel whose footprint is half on the part and half on something dark has half the modulation, so with `edge_modulation` 0.5 an
    edge lies, on average, where the part's does. Raises `UserError` for images that are not the pattern.
    """
    from .phase_cpu import edge_mask, phase_pixels

    stack, saturation, noise, ripple, convention, least = _settings(
        stack, pattern, convention, noise, min_modulation, saturation
    )
    cos, sin = _weights(pattern)
    phase, sigma, modulation, mean, state = phase_pixels(
        stack, cos, sin, pattern.steps, pattern.bits, pattern.complementary, pattern.inverse, convention.sign,
        convention.offset, noise.floor, noise.gain, least, saturation,
    )  # fmt: skip
    if edge_modulation > 0:
        edge_mask(phase, modulation, state, edge_modulation)
    return PhaseMap(phase, sigma, modulation, mean, noise, ripple, _counts(state))


def decode_phase_reference(
    stack: np.ndarray,
    pattern: Pattern,
    *,
    convention: Convention | None = None,
    noise: NoiseModel | None = None,
    min_modulation: float | None = None,
    saturation: float | None = None,
    edge_modulation: float = 0.5,
) -> PhaseMap:
    """`decode_phase` in plain array operations, one line a formula."""
    stack, saturation, noise, ripple, convention, least = _settings(
        stack, pattern, convention, noise, min_modulation, saturation
    )
    images = stack.astype(np.float64)
    mean, real, imaginary = _sums(images, pattern)
    modulation = np.hypot(real, imaginary)
    wrapped = np.angle(np.exp(1j * (convention.sign * np.arctan2(imaginary, real) + convention.offset)))
    code = _code(images, pattern, mean)
    fringe = code.copy()
    if pattern.complementary:
        fringe = code >> 1
        shifted = (code + 1) >> 1
        fringe = np.where(wrapped <= -np.pi / 2, shifted, fringe)
        fringe = np.where(wrapped >= np.pi / 2, shifted - 1, fringe)
    phase = 2 * np.pi * fringe + wrapped + np.pi
    state = np.zeros(mean.shape, np.uint8)
    state[(fringe < 0) | (fringe >= pattern.fringes)] = 3
    state[modulation < least] = 1
    state[(images >= saturation).any(axis=0)] = 2
    cos, sin = _weights(pattern)
    through = (
        imaginary * cos[:, None, None] - real * sin[:, None, None]
    )  # d phase / d I_k, times modulation squared
    variance = (through**2 * noise.variance(images[: pattern.steps])).sum(axis=0)
    sigma = np.sqrt(variance) / np.maximum(modulation, 1e-6) ** 2
    phase[state > 0] = np.nan
    if edge_modulation > 0:
        usable = np.where(state == 0, modulation, 0).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view
        median = np.median(windows(np.pad(usable, 1, mode="edge"), (3, 3)), axis=(2, 3))
        brightest = windows(np.pad(median, 2), (5, 5)).max(axis=(2, 3))
        edge = (state == 0) & (usable < np.float32(edge_modulation) * brightest)
        state[edge] = 4
        phase[edge] = np.nan
    return PhaseMap(
        phase,
        sigma.astype(np.float32),
        modulation.astype(np.float32),
        mean.astype(np.float32),
        noise,
        ripple,
        _counts(state),
    )


def _settings(stack, pattern, convention, noise, min_modulation, saturation):
    stack = np.ascontiguousarray(stack)
    if stack.ndim != 3 or len(stack) != pattern.images or stack.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"images of shape {stack.shape} and type {stack.dtype}: {pattern.images} images (h, w) of uint8 or uint16 are needed"
        )
    if saturation is None:
        saturation = _saturation(stack)
    ripple = 0.0
    if noise is None:
        noise, ripple = measure_noise(stack, pattern, saturation)
    if convention is None:
        convention = find_convention(stack, pattern)
    if min_modulation is None:
        span = float(np.percentile(stack[: pattern.steps, ::8, ::8], 99))
        min_modulation = max(5 * float(np.sqrt(noise.variance(span / 4))), 0.02 * span)
    return stack, float(saturation), noise, ripple, convention, float(min_modulation)


def _saturation(stack: np.ndarray) -> float:
    """The largest value of the type, or of its 10, 12 or 14 bits where a 16-bit file holds no more."""
    if stack.dtype == np.uint8:
        return 255.0
    top = int(stack[:, ::4, ::4].max())
    for bits in (10, 12, 14):
        if top < 1 << bits:
            return float((1 << bits) - 1)
    return 65535.0


def _weights(pattern: Pattern) -> tuple[np.ndarray, np.ndarray]:
    angles = np.array([pattern.phase_step(k) for k in range(pattern.steps)])
    return 2 / pattern.steps * np.cos(angles), 2 / pattern.steps * np.sin(angles)


def _sums(images: np.ndarray, pattern: Pattern) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B cos phase, B sin phase."""
    cos, sin = _weights(pattern)
    steps = images[: pattern.steps]
    return steps.mean(axis=0), np.einsum("k,k...->...", cos, steps), np.einsum("k,k...->...", sin, steps)


def _code(images: np.ndarray, pattern: Pattern, mean: np.ndarray) -> np.ndarray:
    """The number that the Gray images show."""
    gray = np.zeros(mean.shape, np.int64)
    for bit in range(pattern.gray_bits):
        if pattern.inverse:
            row = pattern.steps + 2 * bit
            on = images[row] > images[row + 1]
        else:
            on = images[pattern.steps + bit] > mean
        gray = (gray << 1) | on
    return binary_from_gray(gray)


def _residual(values: np.ndarray) -> np.ndarray:
    """What is left of (n, p) image values after their own A, B and phase."""
    n = len(values)
    angles = 2 * np.pi * np.arange(n) / n
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    return (
        values
        - values.mean(axis=0)
        - 2 / n * cos * (cos * values).sum(axis=0)
        - 2 / n * sin * (sin * values).sum(axis=0)
    )


def _counts(state: np.ndarray) -> dict:
    names = ("valid", "dark", "saturated", "code", "edge")
    found = np.bincount(state.ravel(), minlength=len(names))
    return {"total": int(state.size), **{name: int(found[i]) for i, name in enumerate(names)}}
