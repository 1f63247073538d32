"""The grid look-up: the kernel against plain torch, the meaning of nodes, borders and wraps, factorised grids."""

import math

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.modulation import CoordinateModulation
from fieldstone.fields.modulation.lookup_cpu import interpolate as fused
from fieldstone.fields.modulation.lookup_matrix import MOST_NODES
from fieldstone.fields.modulation.lookup_matrix import interpolate as matrix
from fieldstone.fields.modulation.lookup_reference import interpolate as reference

KERNELS = [fused, matrix]
SHAPES = [((5,), (False,)), ((4,), (True,)), ((10, 3), (True, False)), ((3, 4, 2), (False, True, False))]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("resolution, wrap", SHAPES)
@pytest.mark.parametrize("n", [0, 1, 301])
def test_kernel_equals_reference_in_value_and_gradient(resolution, wrap, n, kernel):
    generator = torch.Generator().manual_seed(n)
    x = torch.rand(n, len(resolution), generator=generator) * 1.6 - 0.3  # also outside [0, 1]
    grid = torch.randn(math.prod(resolution), 6, generator=generator)
    dy = torch.randn(n, 6, generator=generator)
    results = []
    for function in (kernel, reference):
        at, values = x.clone().requires_grad_(), grid.clone().requires_grad_()
        y = function(at, values, resolution, wrap)
        y.backward(dy)
        results.append((y.detach(), at.grad, values.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_large_grid_has_the_same_gradient(in_place):
    generator = torch.Generator().manual_seed(4)
    resolution, wrap = (21, 33, 30), (False, True, False)
    x = torch.rand(3000, 3, generator=generator)
    values, dy = torch.randn(21 * 33 * 30, 4, generator=generator), torch.randn(3000, 4, generator=generator)
    results = []
    for function in (fused, reference):
        grid = values.clone().requires_grad_()
        grid.gradient_in_place = in_place
        for _ in range(2):
            function(x, grid, resolution, wrap).backward(dy)
        results.append(grid.grad)
    torch.testing.assert_close(*results, rtol=1e-4, atol=2e-5)


def test_a_grid_of_many_nodes_is_gathered():
    grid, x = torch.randn(MOST_NODES + 1, 2), torch.rand(9, 1)
    shape = (MOST_NODES + 1,), (False,)
    assert torch.equal(matrix(x, grid, *shape), reference(x, grid, *shape))


@pytest.mark.parametrize("function", [*KERNELS, reference])
def test_what_is_no_number_gives_no_number_and_touches_no_memory(function):
    grid = torch.ones(5, 2)
    far = torch.tensor([[math.nan], [1e30], [-1e30], [math.inf]])
    y = function(far, grid, (5,), (False,))
    assert y[0].isnan().all() and (y[1:3] == 1).all()
    assert function(far, grid, (5,), (True,))[0].isnan().all()


def test_reference_has_true_derivatives():
    x = torch.rand(7, 2, dtype=torch.float64, requires_grad=True)
    grid = torch.rand(12, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: reference(a, b, (4, 3), (True, False)), (x, grid))


def test_axes_come_in_the_order_of_the_coordinates():
    modulation = CoordinateModulation(1, (3, 5))
    with torch.no_grad():  # gamma - 1 is x at a node, beta is y
        nodes = torch.stack(
            torch.meshgrid(torch.linspace(0, 1, 3), torch.linspace(0, 1, 5), indexing="ij"), -1
        )
        modulation.grids[0].copy_(nodes.reshape(-1, 2))
    at = torch.rand(50, 2)
    torch.testing.assert_close(modulation(at), at)
    gamma, beta = modulation.split(modulation(at))
    torch.testing.assert_close(gamma[:, 0, 0], 1 + at[:, 0])
    torch.testing.assert_close(beta[:, 0, 0], at[:, 1])


def test_borders_are_held_and_wraps_are_seamless():
    modulation = CoordinateModulation(1, (4, 3), padding=("wrap", "border"))
    with torch.no_grad():
        modulation.grids[0].normal_()
    left, right = (modulation(torch.tensor([[u, 0.4]])) for u in (1e-6, 1 - 1e-6))
    torch.testing.assert_close(left, right, atol=1e-4, rtol=0)
    inside, outside = (modulation(torch.tensor([[0.3, v]])) for v in (1.0, 7.0))
    torch.testing.assert_close(inside, outside)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("factors, grids, nodes", [("sum", 3, 12 + 20 + 15), ("product", 3, 12 + 20 + 15)])
def test_factorised_grids_have_a_gradient_at_the_start(backend, factors, grids, nodes):
    modulation = CoordinateModulation(2, (4, 3, 5), factors=factors, backend=backend)
    assert len(modulation.grids) == grids and sum(len(grid) for grid in modulation.grids) == nodes
    packed = modulation(torch.rand(64, 3))
    assert (packed == 0).all()
    packed.sum().backward()
    for grid in modulation.grids:  # both scale and shift, in every plane
        assert (grid.grad.abs().sum(0) > 0).all()


def test_settings_out_of_range_are_refused():
    for wrong in (
        lambda: CoordinateModulation(1, ()),
        lambda: CoordinateModulation(1, (2, 2, 2, 2)),
        lambda: CoordinateModulation(1, (1,)),
        lambda: CoordinateModulation(1, (4,), padding="mirror"),
        lambda: CoordinateModulation(1, (4,), factors="sum"),
        lambda: CoordinateModulation(0, (4,)),
        lambda: CoordinateModulation(1, (1 << 13, 1 << 13)),
    ):
        with pytest.raises(UserError):
            wrong()
    with pytest.raises(ValueError, match="coordinates"):
        CoordinateModulation(1, (4,))(torch.rand(3, 2))
