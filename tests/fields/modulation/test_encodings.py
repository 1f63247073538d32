"""Random Fourier features and the integrated encoding against their formulas."""

import math

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.encodings.integrated import integrated_encoding
from fieldstone.fields.encodings.random_fourier import RandomFourier


def test_random_fourier_has_the_asked_spread_and_travels_with_the_state():
    first = RandomFourier(2, 4000, 10.0, generator=torch.Generator().manual_seed(1))
    assert abs(float(first.matrix.std()) / 10 - 1) < 0.05 and first.output_size == 8000
    second = RandomFourier(2, 4000, 10.0, generator=torch.Generator().manual_seed(2))
    second.load_state_dict(first.state_dict())
    x = torch.rand(5, 2)
    assert torch.equal(first(x), second(x))
    angle = 2 * math.pi * (x[3] @ first.matrix[17])
    torch.testing.assert_close(first(x)[3, 17], angle.sin())
    torch.testing.assert_close(first(x)[3, 4017], angle.cos())
    with pytest.raises(UserError, match="sigma"):
        RandomFourier(2, 4, 0.0)


def test_integrated_encoding_is_the_mean_over_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.tensor([[0.3, -0.2]]), torch.tensor([[0.04, 0.01]])
    drawn = mean + variance.sqrt() * torch.randn(200_000, 2, generator=generator)
    expected = integrated_encoding(drawn, torch.zeros_like(drawn), 4).mean(0)
    torch.testing.assert_close(integrated_encoding(mean, variance, 4)[0], expected, atol=5e-3, rtol=0)
    assert integrated_encoding(mean, variance, 16).shape == (1, 64)
    with pytest.raises(UserError, match="octaves"):
        integrated_encoding(mean, variance, 0)
