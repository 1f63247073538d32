"""Quantisation: error, exactness, idempotence, gradients straight through."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldstone.core.errors import UserError
from fieldstone.fields.quantisation import dequantise, quantise, straight_through


@given(st.integers(2, 16), st.integers(0, 10_000), st.floats(1e-20, 1e20))
@settings(max_examples=40, deadline=None)
def test_error_is_half_a_step_and_a_second_time_changes_nothing(bits, seed, size):
    w = size * torch.randn(50, generator=torch.Generator().manual_seed(seed))
    symbols, step = quantise(w, bits)
    back = dequantise(symbols, step)
    assert int(symbols.abs().max()) <= 2 ** (bits - 1) - 1
    assert float((back.double() - w.double()).abs().max()) <= 0.5 * step * (1 + 1e-6)
    if bits <= 11:
        again, same = quantise(back, bits)
        assert same == step and torch.equal(again, symbols)


def test_zeros_stay_and_what_is_not_finite_is_refused():
    assert torch.equal(dequantise(*quantise(torch.zeros(3), 8)), torch.zeros(3))
    with pytest.raises(UserError, match="finite"):
        quantise(torch.tensor([1.0, float("nan")]), 8)
    with pytest.raises(UserError, match="bits"):
        straight_through(1)


@given(st.integers(2, 16), st.integers(0, 10_000), st.floats(1e-20, 1e20))
@settings(max_examples=40, deadline=None)
def test_training_sees_what_is_packed(bits, seed, size):
    w = size * torch.randn(50, generator=torch.Generator().manual_seed(seed))
    shown = straight_through(bits)(w)
    torch.testing.assert_close(shown, dequantise(*quantise(w, bits)), rtol=1e-6, atol=1e-6 * size)
    assert torch.equal(straight_through(bits)(0 * w), 0 * w)


def test_straight_through_shows_the_quantised_and_hands_the_gradient_on():
    w = torch.randn(40, requires_grad=True)
    shown = straight_through(6)(w)
    torch.testing.assert_close(shown.detach(), dequantise(*quantise(w, 6)), atol=1e-6, rtol=1e-5)
    dy = torch.randn(40)
    shown.backward(dy)
    assert torch.equal(w.grad, dy)
