"""Every back end of the hash grid against tiny-cuda-nn's definition and against the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from fieldstone.core.errors import UserError
from fieldstone.fields import GridLevels, HashGrid
from fieldstone.fields.encodings import hash_reference
from fieldstone.fields.encodings.hash_grid import HASH_GRID

CASES = json.loads((Path(__file__).parent / "fixtures" / "tcnn_grid.json").read_text(encoding="utf-8"))
SHAPES = [(4, 1), (3, 2), (2, 4), (2, 8)]
"""Dimensions and features: all of each, not all pairs, since the cpu back end compiles each pair for many seconds.

Tests of one pair take (3, 2) or (2, 4), for the same reason."""
INTERPOLATIONS = ["linear", "smoothstep"]


def made_weights(count):
    """The rule of fixtures/make_tcnn_grid.py."""
    numbers = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    return torch.from_numpy((numbers.astype(np.float64) / 2**32 - 0.5).astype(np.float32))


def inside_cells(x, levels):
    """The points of x that stay away from cell borders, where rounding may choose the other cell's derivative."""
    position = x.double()[:, None, :] * torch.from_numpy(levels.scale.copy())[:, None].double() + 0.5
    return x[((position - position.round()).abs() > 1e-3).all(2).all(1)]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['dims']}d-{c['features']}f-{c['interpolation']}")
def test_a_tiny_cuda_nn_weight_vector_means_the_same(grid_backend, case):
    names = ("dims", "levels", "features", "log2_table_size", "base_resolution", "per_level_scale")
    levels = GridLevels(**{name: case[name] for name in names})
    assert levels.parameters == case["parameters"]
    assert levels.resolution.tolist() == case["resolutions"]
    expected = torch.tensor(case["outputs"])
    numbers = np.arange(expected.numel(), dtype=np.uint64)
    dy = torch.from_numpy((numbers * 40503 % 2**16 / 2**16 - 0.5).astype(np.float32)).view_as(expected)
    x, table = torch.tensor(case["points"]), made_weights(levels.parameters)
    y, _, dx = grid_backend.run(x, table, levels, case["interpolation"], dy)
    torch.testing.assert_close(
        y, expected, rtol=0, atol=2e-6 * 2048
    )  # a float32 step of x, times the finest scale
    expected_dx = torch.tensor(case["input_gradients"])
    torch.testing.assert_close(dx, expected_dx, rtol=1e-3, atol=1e-3 * float(expected_dx.abs().max()))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("dims", "features"), SHAPES)
def test_value_and_both_gradients_equal_the_reference(grid_backend, dims, features, interpolation):
    generator = torch.Generator().manual_seed(dims * 10 + features)
    levels = GridLevels(dims, 4, features, 8 if dims == 2 else 10, 5, 1.7)
    assert set(levels.hashed) == {True, False}
    x = inside_cells(torch.rand(80, dims, generator=generator) * 1.4 - 0.2, levels)
    assert len(x) > 64  # more than one block of the kernels
    table = torch.rand(levels.parameters, generator=generator) - 0.5
    dy = torch.randn(len(x), levels.levels * features, generator=generator)
    results = grid_backend.run(x, table, levels, interpolation, dy)
    inputs, weights = x.double().requires_grad_(), table.double().requires_grad_()
    y = hash_reference.encode(inputs, weights, levels, interpolation)
    y.backward(dy.double())
    for ours, exact in zip(results, (y.detach(), weights.grad, inputs.grad), strict=True):
        assert ours.shape == exact.shape
        atol = 1e-5 * max(1.0, float(exact.abs().max()))
        torch.testing.assert_close(ours.double(), exact, rtol=0, atol=atol)


def test_corner_cases_by_hand(grid_backend):
    """A 2-D level of 4 x 4 vertices, scale 3, row r holding the value r four times: x = 0 lies half a cell in."""
    levels = GridLevels(2, 1, 4, 4, 4, 1.0)
    assert (levels.scale.tolist(), levels.entries.tolist(), levels.hashed.tolist()) == ([3.0], [16], [False])
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5], [-0.5, 0.5], [1.5, 0.5]])
    rows = [
        [0, 1, 4, 5],
        [3, 4, 7, 8],  # vertex 4 along x is not there: the row-major index runs on into the next row
        [12, 13, 0, 1],  # and vertex 4 along y wraps to the start of the level
        [15, 0, 3, 4],
        [10, 11, 14, 15],  # 3 * 0.5 + 0.5 = 2 exactly: all weight on the lower corner
        [7, 8, 11, 12],  # x position -1: one row back, and 2 along y
        [13, 14, 1, 2],  # x position 5: one row and one vertex on
    ]
    quarter, lower = [0.25] * 4, [1.0, 0, 0, 0]
    shares = [quarter, quarter, quarter, quarter, lower, lower, lower]
    expected = torch.tensor(
        [[sum(r * s for r, s in zip(*pair, strict=True))] for pair in zip(rows, shares, strict=True)]
    )
    table = torch.arange(16.0).repeat_interleave(4)
    torch.testing.assert_close(grid_backend.run(x, table, levels), expected.expand(7, 4))
    dy = torch.zeros(7, 4)
    dy[3, 2] = 1
    _, dtable, dx = grid_backend.run(x, table, levels, "linear", dy)
    torch.testing.assert_close(dtable.view(16, 4)[[15, 0, 3, 4], 2], torch.full((4,), 0.25))
    assert dtable.count_nonzero() == 4
    # by x: scale * mean over y of right minus left; by y likewise
    torch.testing.assert_close(
        dx[3], torch.tensor([3 * ((0 - 15) + (4 - 3)) / 2, 3 * ((3 - 15) + (4 - 0)) / 2])
    )
    assert dx[[0, 1, 2, 4, 5, 6]].count_nonzero() == 0


def test_hashed_rows_by_hand(grid_backend):
    """One 3-D level of 33^3 vertices in 2^14 rows; the points lie on vertices, so that each reads one row."""
    levels = GridLevels(3, 1, 2, 14, 33, 1.0)
    assert levels.hashed.tolist() == [True] and levels.scale.tolist() == [32.0]
    vertices = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (7, 13, 29), (32, 32, 32), (-1, 2, -5)]
    rows = [
        ((x % 2**32) ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)) % 2**14 for x, y, z in vertices
    ]
    x = (torch.tensor(vertices) - 0.5) / 32
    y = grid_backend.run(x, torch.arange(2.0**15), levels)
    assert y.tolist() == [[2 * row, 2 * row + 1] for row in rows]


def test_no_points(grid_backend):
    levels = GridLevels(3, 2, 2, 8, 4, 2.0)
    y, dtable, dx = grid_backend.run(
        torch.zeros(0, 3), torch.zeros(levels.parameters), levels, "linear", torch.zeros(0, 4)
    )
    assert y.shape == (0, 4) and dx.shape == (0, 3) and dtable.count_nonzero() == 0


def test_only_what_needs_a_gradient_gets_one(grid_backend):
    levels = GridLevels(3, 2, 2, 8, 4, 2.0)
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).to(grid_backend.device)
    table = torch.ones(levels.parameters, device=grid_backend.device, requires_grad=True)
    grid_backend.encode(x, table, levels, "linear").sum().backward()
    assert x.grad is None
    torch.testing.assert_close(
        table.grad.sum().cpu(), torch.tensor(5.0 * 2 * 2)
    )  # weights of a point sum to one
    x.requires_grad_()
    grid_backend.encode(x, table.detach(), levels, "linear").sum().backward()
    torch.testing.assert_close(x.grad.cpu(), torch.zeros(5, 3), atol=1e-5, rtol=0)  # a constant table


def test_fast_back_ends_refuse_second_derivatives_and_other_dtypes(grid_backend):
    if grid_backend.name not in ("cpu", "cuda"):
        pytest.skip("differentiable more than once")
    levels = GridLevels(3, 2, 2, 8, 4, 2.0)
    x = torch.rand(5, 3, device=grid_backend.device, requires_grad=True)
    table = torch.rand(levels.parameters, device=grid_backend.device)
    y = grid_backend.encode(x, table, levels, "linear")
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
    with pytest.raises(TypeError, match="reference"):
        grid_backend.encode(x.double(), table, levels, "linear")


def test_gradient_in_place_adds_to_the_buffer_that_is_there(grid_backend):
    if grid_backend.name not in ("cpu", "cuda"):
        pytest.skip("leaves the gradient to autograd")
    levels = GridLevels(3, 3, 2, 8, 4, 2.0)
    x = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)).to(grid_backend.device)
    plain = torch.zeros(levels.parameters, device=grid_backend.device, requires_grad=True)
    grid_backend.encode(x, plain, levels, "linear").sum().backward()
    table = torch.nn.Parameter(torch.zeros_like(plain))
    table.gradient_in_place = True
    grid_backend.encode(x, table, levels, "linear").sum().backward()
    buffer = table.grad
    torch.testing.assert_close(buffer, plain.grad)
    grid_backend.encode(x, table, levels, "linear").sum().backward()
    assert table.grad is buffer
    torch.testing.assert_close(buffer, 2 * plain.grad)


@given(data=st.data())
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_configuration_equals_the_reference(grid_backend, data):
    dims, features = data.draw(st.sampled_from(SHAPES))
    levels = GridLevels(
        dims,
        data.draw(st.integers(1, 4)),
        features,
        data.draw(st.integers(3, 11)),
        data.draw(st.integers(1, 24)),
        data.draw(st.floats(1, 3)),
    )
    interpolation = data.draw(st.sampled_from(INTERPOLATIONS))
    seed = data.draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(7, dims, generator=generator) * 3 - 1
    table = torch.rand(levels.parameters, generator=generator) - 0.5
    exact = hash_reference.encode(x.double(), table.double(), levels, interpolation)
    ours = grid_backend.run(x, table, levels, interpolation)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=3e-4)  # values do not jump at cell borders


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("dims", "features"), [(2, 2), (3, 1), (4, 2)])
def test_reference_is_twice_differentiable(dims, features, interpolation):
    generator = torch.Generator().manual_seed(dims)
    levels = GridLevels(dims, 2, features, 4, 2, 2.6)
    assert levels.hashed.tolist() == [False, True]
    x = inside_cells(torch.rand(5, dims, generator=generator, dtype=torch.float64), levels)[
        :2
    ].requires_grad_()
    assert len(x) == 2
    table = torch.rand(levels.parameters, generator=generator, dtype=torch.float64, requires_grad=True)

    def function(x, table):
        return hash_reference.encode(x, table, levels, interpolation)

    assert gradcheck(function, (x, table))
    assert gradgradcheck(function, (x, table))


def test_smoothstep_has_no_slope_at_cell_borders_and_linear_has():
    levels = GridLevels(2, 1, 1, 4, 4, 1.0)
    table = torch.rand(16, generator=torch.Generator().manual_seed(0))
    for interpolation, still in (("smoothstep", True), ("linear", False)):
        x = torch.tensor([[0.5, 0.5]], requires_grad=True)  # position 2 along both axes
        hash_reference.encode(x, table, levels, interpolation).backward()
        assert (x.grad.abs().max() == 0) == still


def test_module_holds_one_table_in_a_small_range():
    grid = HashGrid(levels=4, log2_table_size=10, generator=torch.Generator().manual_seed(3))
    again = HashGrid(levels=4, log2_table_size=10, generator=torch.Generator().manual_seed(3))
    assert [name for name, _ in grid.named_parameters()] == ["table"]
    assert grid.table.shape == (grid.levels.parameters,) and grid.table.dtype == torch.float32
    assert torch.equal(grid.table, again.table)
    assert 0.9e-4 < grid.table.abs().max() <= 1e-4 and grid.table.mean().abs() < 1e-5
    assert grid.output_size == 8 and grid(torch.rand(5, 3)).shape == (5, 8)


def test_weights_move_between_back_ends_and_files_unchanged(tmp_path):
    from safetensors.torch import load_file, save_file

    fast = HashGrid(levels=4, log2_table_size=10, backend="cpu", generator=torch.Generator().manual_seed(1))
    save_file(fast.state_dict(), tmp_path / "grid.safetensors")
    plain = HashGrid(levels=4, log2_table_size=10, backend="reference")
    plain.load_state_dict(load_file(tmp_path / "grid.safetensors"))
    assert torch.equal(fast.table, plain.table)
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(fast(x), plain(x), rtol=0, atol=1e-9)
    plain.load_state_dict({"table": made_weights(plain.levels.parameters)})
    assert plain(x).abs().max() > 0.1


def test_auto_prefers_fast_back_ends_and_never_tinycudann(monkeypatch):
    assert HASH_GRID.names() == ["cuda", "cpu", "reference", "tcnn"]
    assert HASH_GRID.resolve("auto", "cpu") == "cpu"
    assert HASH_GRID.available("cuda")[-1] in ("reference", "tcnn")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert HASH_GRID.resolve("auto", "cuda") == "reference"
    with pytest.raises(UserError, match="tinycudann is not installed"):
        HASH_GRID.resolve("tcnn", "cuda")


def test_module_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="unknown interpolation 'cubic'; there are linear, smoothstep"):
        HashGrid(interpolation="cubic", levels=1, log2_table_size=4)
    with pytest.raises(UserError, match="unknown back end 'vulkan'; there are auto, cuda, cpu"):
        HashGrid(backend="vulkan", levels=1, log2_table_size=4)
    with pytest.raises(UserError, match="'cuda' runs on cuda, not on cpu"):
        HashGrid(backend="cuda", levels=1, log2_table_size=4)(torch.rand(1, 3))
    with pytest.raises(ValueError, match=r"expected points \(n, 3\), got \(5, 2\)"):
        HashGrid(levels=1, log2_table_size=4)(torch.rand(5, 2))
