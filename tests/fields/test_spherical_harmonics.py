"""Spherical harmonics: orthonormal, and in tiny-cuda-nn's order and signs."""

import math

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y
from torch.autograd import gradcheck

from fieldstone.core.errors import UserError
from fieldstone.fields import spherical_harmonics


def directions(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=dtype))


def test_orthonormal_over_the_sphere():
    """Gauss-Legendre along z times equal steps around it is exact for the products, of degree 6 at most."""
    z, along = np.polynomial.legendre.leggauss(8)
    turn = 2 * np.pi * np.arange(16) / 16
    z, turn = (a.ravel() for a in np.meshgrid(z, turn, indexing="ij"))
    area = np.repeat(along, 16) * 2 * np.pi / 16
    ring = np.sqrt(1 - z * z)
    d = torch.from_numpy(np.stack([ring * np.cos(turn), ring * np.sin(turn), z], 1))
    y = spherical_harmonics(d, 4)
    torch.testing.assert_close(
        (y * torch.from_numpy(area)[:, None]).t() @ y, torch.eye(16, dtype=torch.float64)
    )


def test_first_bands_by_hand():
    x, y, z = (d := directions(20)).unbind(1)
    first = spherical_harmonics(d, 2) / math.sqrt(3 / (4 * math.pi))
    torch.testing.assert_close(first, torch.stack([torch.full_like(x, math.sqrt(1 / 3)), -y, z, -x], 1))
    second = spherical_harmonics(d, 3)[:, 4:] / math.sqrt(15 / (4 * math.pi))
    expected = torch.stack([x * y, -y * z, (3 * z * z - 1) / math.sqrt(12), -x * z, (x * x - y * y) / 2], 1)
    torch.testing.assert_close(second, expected)


def test_values_at_the_axes():
    y = spherical_harmonics(torch.eye(3, dtype=torch.float64), 4)
    nonzero = {0: [0, 3, 6, 8, 13, 15], 1: [0, 1, 6, 8, 9, 11], 2: [0, 2, 6, 12]}
    for axis, expected in nonzero.items():
        assert (y[axis].abs() > 1e-12).nonzero().ravel().tolist() == expected
    # the constants of tiny-cuda-nn's common_device.h (sh_enc), signs included
    assert y[0, [3, 13, 15]].tolist() == pytest.approx(
        [-0.48860251190291987, 0.45704579946446572, -0.59004358992664352]
    )
    assert y[1, [1, 9, 11]].tolist() == pytest.approx(
        [-0.48860251190291987, 0.59004358992664352, 0.45704579946446572]
    )
    assert y[2, [2, 6, 12]].tolist() == pytest.approx(
        [0.48860251190291987, 0.63078313050504009, 0.74635266518023078]
    )


def test_all_sixteen_against_scipy():
    """From the complex functions, whose Condon-Shortley phase (-1)^m stays in for m > 0 and m < 0 alike."""
    d = directions(50)
    polar, turn = torch.arccos(d[:, 2]).numpy(), torch.atan2(d[:, 1], d[:, 0]).numpy()
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), polar, turn)
            part = value.imag if order < 0 else value.real
            columns.append(part * (math.sqrt(2) if order else 1.0))
    torch.testing.assert_close(spherical_harmonics(d, 4), torch.from_numpy(np.stack(columns, 1)))


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_lower_degrees_are_the_start_of_higher_ones(degree):
    d = directions(5, torch.float32)
    y = spherical_harmonics(d, degree)
    assert y.shape == (5, degree**2) and y.dtype == torch.float32
    assert torch.equal(y, spherical_harmonics(d, 4)[:, : degree**2])


def test_gradient():
    assert gradcheck(spherical_harmonics, (directions(4).requires_grad_(),))
    assert spherical_harmonics(torch.zeros(0, 3)).shape == (0, 16)


def test_refusals():
    with pytest.raises(UserError, match="degree must be 1, 2, 3 or 4, got 5"):
        spherical_harmonics(directions(2), 5)
    with pytest.raises(ValueError, match=r"expected directions \(n, 3\), got \(2, 4\)"):
        spherical_harmonics(torch.zeros(2, 4))
