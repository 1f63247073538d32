"""The frequency encoding, entry by entry."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from fieldstone.core.errors import UserError
from fieldstone.fields import frequency_encoding
from fieldstone.fields.encodings.frequency import encoding_with_coordinates


def test_every_entry_is_where_tiny_cuda_nn_puts_it():
    x = torch.tensor([[0.1, -0.7], [0.5, 1.0]], dtype=torch.float64)
    y = frequency_encoding(x, 3)
    assert y.shape == (2, 12)
    for i in range(2):
        for j in range(12):
            coordinate, octave, cosine = j // 6, j // 2 % 3, j % 2
            angle = 2**octave * math.pi * float(x[i, coordinate]) + cosine * math.pi / 2
            assert float(y[i, j]) == pytest.approx(math.sin(angle), abs=1e-14)


def test_high_octaves_keep_their_precision():
    """x = k / 2^20 is exact in float32, so octave 20 must give sin = 0 and cos = +-1 exactly enough."""
    x = torch.arange(1, 8, dtype=torch.float32)[:, None] / 2**20
    y = frequency_encoding(x, 21)[:, -2:]
    sign = torch.tensor([-1.0, 1, -1, 1, -1, 1, -1])
    torch.testing.assert_close(y, torch.stack([torch.zeros(7), sign], 1), rtol=0, atol=1e-6)


def test_gradient():
    x = torch.tensor([[0.1, -0.7, 0.4]], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda v: frequency_encoding(v, 4), (x,))


def test_refusals():
    with pytest.raises(UserError, match="octaves must be a whole number from 1 to 30, got 0"):
        frequency_encoding(torch.zeros(1, 2), 0)
    with pytest.raises(ValueError, match=r"expected coordinates \(n, D\), got \(2,\)"):
        frequency_encoding(torch.zeros(2), 3)


@pytest.mark.parametrize("n, octaves", [(0, 3), (1, 1), (523, 10), (70, 20)])
def test_kernel_equals_reference_in_value_and_gradient(n, octaves):
    generator = torch.Generator().manual_seed(n)
    x = torch.rand(n, 3, generator=generator) * 4 - 2
    dy = torch.randn(n, 3 * (1 + 2 * octaves), generator=generator) / 2.0**octaves
    results = []
    for backend in ("cpu", "reference"):
        at = x.clone().requires_grad_()
        y = encoding_with_coordinates(at, octaves, backend)
        y.backward(dy)
        results.append((y.detach(), at.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)
    if n:
        assert torch.equal(results[0][0][:, :3], x)
