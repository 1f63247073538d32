"""Patterns and phase: the code, the kernel against its reference, masks, conventions, noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.tools.measure.structured_light.pattern import Pattern, binary_from_gray, gray_from_binary
from fieldstone.tools.measure.structured_light.phase import (
    NoiseModel,
    decode_phase,
    decode_phase_reference,
    find_convention,
    measure_noise,
)

PATTERNS = [
    Pattern(),
    Pattern(steps=3, bits=4),
    Pattern(steps=5, bits=4, inverse=True),
    Pattern(steps=8, bits=5, complementary=False),
]


def ramp(pattern: Pattern, rng: np.random.Generator, height=64, width=640, noise=0.0, top=4000.0):
    """16-bit images of a slanted plane, and the true phase of each pixel."""
    x = (np.arange(width) + 0.5) / width
    u = 0.03 + 0.9 * x[None] + 0.02 * np.linspace(0, 1, height)[:, None]
    images = 200 + top * pattern.intensities(u)
    images = images + noise * rng.standard_normal(images.shape)
    return np.clip(np.rint(images), 0, 60000).astype(np.uint16), 2 * np.pi * pattern.fringes * u


@given(st.integers(0, (1 << 16) - 1))
def test_gray_code_is_inverted_and_neighbours_differ_in_one_bit(value):
    assert binary_from_gray(gray_from_binary(value)) == value
    assert bin(gray_from_binary(value) ^ gray_from_binary(value + 1)).count("1") == 1


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_the_phase_that_was_projected_is_found(pattern):
    stack, phase = ramp(pattern, np.random.default_rng(1))
    found = decode_phase(stack, pattern, saturation=65535, edge_modulation=0)
    # the first and last half fringe of a code without complement have no second code to tell wraps by
    inside = (phase > 2 * np.pi) & (phase < 2 * np.pi * (pattern.fringes - 1))
    difference = (found.phase - phase)[inside]
    if not pattern.complementary:  # the pixels at a wrap may fall either way
        difference = difference[np.abs(difference) < 3]
        assert len(difference) > 0.95 * inside.sum()
    offset = np.median(difference)
    assert abs(offset) < 1e-3
    assert np.abs(difference - offset).max() < 2e-3


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_kernel_agrees_with_reference(pattern):
    rng = np.random.default_rng(2)
    stack, _ = ramp(pattern, rng, noise=30.0)
    stack[:, 10:20, 100:140] = 210  # dark
    stack[:, 30:34, 50:60] = 60001  # saturated
    stack[:, 40:50, 300:420] = stack[:, 40:50, 300:420] // 4
    for edge in (0.0, 0.5):
        fast = decode_phase(stack, pattern, saturation=60000, edge_modulation=edge)
        slow = decode_phase_reference(stack, pattern, saturation=60000, edge_modulation=edge)
        assert fast.counts == slow.counts
        assert fast.counts["dark"] >= 400 and fast.counts["saturated"] == 40
        assert (fast.counts["edge"] > 0) == (edge > 0)
        np.testing.assert_allclose(fast.phase, slow.phase, atol=1e-9)
        lit = np.isfinite(slow.phase)
        np.testing.assert_allclose(fast.sigma[lit], slow.sigma[lit], rtol=1e-4)
        np.testing.assert_allclose(fast.modulation, slow.modulation, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(fast.mean, slow.mean, rtol=1e-6)


@settings(max_examples=15, deadline=None)
@given(sign=st.sampled_from([1, -1]), zero=st.sampled_from([0, 1, 2, 3]), seed=st.integers(0, 99))
def test_other_makers_conventions_are_found(sign, zero, seed):
    """Phase steps in the other direction, and fringes that begin at another quarter."""
    pattern = Pattern()
    stack, phase = ramp(pattern, np.random.default_rng(seed), noise=20.0)
    order = [(zero + sign * k) % 4 for k in range(4)]
    stack[:4] = stack[order]
    convention = find_convention(stack, pattern)
    assert convention.sign == sign
    assert convention.confidence > 0.6
    found = decode_phase(stack, pattern, saturation=65535)
    assert np.nanmax(np.abs(found.phase - phase)) < 0.2


def test_images_that_are_not_the_pattern_are_refused():
    pattern = Pattern()
    stack, _ = ramp(pattern, np.random.default_rng(0))
    for wrong in (
        stack[[0, 1, 2, 3, 9, 8, 7, 6, 5, 4]],  # Gray images least significant first
        stack[[4, 5, 6, 7, 8, 9, 0, 1, 2, 3]],  # Gray images first
        np.full_like(stack, 500),
    ):
        with pytest.raises(UserError, match="Gray"):
            decode_phase(wrong, pattern, saturation=65535)
    with pytest.raises(UserError, match="4 images cannot be 4 phase steps and a Gray code"):
        Pattern.of_count(4, steps=4)
    with pytest.raises(UserError, match="cannot be 4 phase steps and a Gray code with inverses"):
        Pattern.of_count(11, inverse=True)
    with pytest.raises(UserError, match="2 phase steps"):
        Pattern(steps=2)


@pytest.mark.parametrize("steps", [3, 4, 6])
def test_noise_is_measured_and_sets_the_phase_sigma(steps):
    rng = np.random.default_rng(5)
    pattern = Pattern(steps=steps, bits=4)
    stack, phase = ramp(pattern, rng, height=256, top=180.0, noise=0.0)
    clean = stack.astype(float)
    stack = np.rint(clean + np.sqrt(2.0 + 0.03 * clean) * rng.standard_normal(clean.shape)).astype(np.uint16)
    noise, _ = measure_noise(stack, pattern, 65535)
    assert noise.estimated
    level = clean[:steps].mean()
    assert noise.variance(level) == pytest.approx(2.0 + 1 / 12 + 0.03 * level, rel=0.05)
    found = decode_phase(stack, pattern, saturation=65535)
    pull = ((found.phase - phase) / found.sigma)[np.isfinite(found.phase)]
    assert np.sqrt(np.mean(pull**2)) == pytest.approx(1, abs=0.04)


def test_a_projector_that_is_not_linear_does_not_pass_for_noise():
    rng = np.random.default_rng(6)
    pattern = Pattern(bits=4)
    u = np.tile(np.linspace(0.02, 0.98, 640), (256, 1))
    clean = 20 + 180 * pattern.intensities(u) ** 2.2
    stack = np.rint(clean + 1.5 * rng.standard_normal(clean.shape)).astype(np.uint8)
    noise, harmonic = measure_noise(stack, pattern, 255)
    assert noise.variance(90) == pytest.approx(1.5**2 + 1 / 12, rel=0.06)
    assert harmonic == pytest.approx(0.28, abs=0.03)


def test_a_given_noise_is_used():
    stack, _ = ramp(Pattern(), np.random.default_rng(0))
    a = decode_phase(stack, Pattern(), noise=NoiseModel(100.0, 0.0, True), saturation=65535)
    b = decode_phase(stack, Pattern(), noise=NoiseModel(400.0, 0.0, True), saturation=65535)
    np.testing.assert_allclose(b.sigma, 2 * a.sigma, rtol=1e-5)
