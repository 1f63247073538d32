"""The fused perceptrons against plain torch, in value and gradient."""

import itertools

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.mlp.mlp import MLP, Mlp, has_bfloat16, resolve_precision
from fieldstone.fields.mlp.mlp_cpu import BLOCK
from fieldstone.fields.mlp.mlp_cpu import mlp as fused
from fieldstone.fields.mlp.mlp_reference import mlp as reference
from fieldstone.fields.mlp.mlp_reference import mlp_bfloat16

SIZES = [(32, 64, 16), (32, 64, 64, 3), (16, 16), (5, 7, 9), (24, 128, 128, 128, 1)]


def _weights(sizes, generator):
    return tuple(torch.randn(o, i, generator=generator) / i**0.5 for i, o in itertools.pairwise(sizes))


def _leaves(tensors):
    return tuple(tensor.clone().requires_grad_() for tensor in tensors)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_fused_equals_reference_in_value_and_gradient(sizes, n):
    generator = torch.Generator().manual_seed(n)
    weights = _weights(sizes, generator)
    x = torch.randn(n, sizes[0], generator=generator)
    dy = torch.randn(n, sizes[-1], generator=generator)
    results = []
    for function in (fused, reference):
        w, inputs = _leaves(weights), x.clone().requires_grad_()
        y = function(inputs, w)
        y.backward(dy)
        results.append([y.detach(), inputs.grad, *[item.grad for item in w]])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5 * max(1.0, float(theirs.abs().max())))


def test_shared_inputs_equal_concatenation():
    generator = torch.Generator().manual_seed(0)
    weights = _weights((32, 64, 64, 3), generator)
    x = torch.randn(500, 16, generator=generator)
    shared = torch.randn(40, 16, generator=generator)
    index = torch.randint(40, (500,), generator=generator, dtype=torch.int32)
    dy = torch.randn(500, 3, generator=generator)
    results = []
    for function in (fused, reference):
        w, inputs = _leaves(weights), x.clone().requires_grad_()
        y = function(inputs, w, shared, index)
        y.backward(dy)
        results.append([y.detach(), inputs.grad, *[item.grad for item in w]])
    torch.testing.assert_close(reference(torch.cat([x, shared[index.long()]], 1), weights), results[1][0])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_feature_major_input_and_row_major_input_agree():
    generator = torch.Generator().manual_seed(0)
    weights = _weights((32, 64, 16), generator)
    x = torch.randn(300, 32, generator=generator)
    assert torch.equal(fused(x, weights), fused(x.t().contiguous().t(), weights))


def test_empty_batch_has_zero_gradients():
    weights = _leaves(_weights((32, 64, 16), torch.Generator().manual_seed(0)))
    y = fused(torch.zeros(0, 32), weights)
    assert y.shape == (0, 16)
    y.sum().backward()
    assert all(torch.equal(weight.grad, torch.zeros_like(weight)) for weight in weights)


def test_reference_gradcheck():
    generator = torch.Generator().manual_seed(0)
    weights = tuple(w.double().requires_grad_() for w in _weights((4, 8, 3), generator))
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *w: reference(x, w), (x, *weights))


def test_bfloat16_is_near_float32_and_differs():
    generator = torch.Generator().manual_seed(0)
    weights = _weights((32, 64, 16), generator)
    x = torch.randn(1000, 32, generator=generator)
    exact, rounded = reference(x, weights), mlp_bfloat16(x, weights)
    error = (rounded - exact).norm() / exact.norm()
    assert rounded.dtype == torch.float32 and 1e-4 < error < 2e-2


def _small_weights(outputs, inputs, generator):
    """At most three entries of +-1 in a row: results stay whole numbers that bfloat16 holds exactly."""
    weight = torch.zeros(outputs, inputs)
    for row in weight:
        columns = torch.randint(inputs, (3,), generator=generator)
        row[columns] = torch.randint(-1, 2, (3,), generator=generator).float()
    return weight


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no AVX-512 BF16")
@pytest.mark.parametrize(
    ("sizes", "shared_inputs"),
    [
        *((sizes, 0) for sizes in SIZES),
        ((32, 64, 64, 3), 16),
        ((5, 7, 9), 2),
        ((24, 128, 1), 3),
        ((6, 10, 3), 3),
    ],
)
@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_bfloat16_kernel_is_exact_on_small_whole_numbers(sizes, shared_inputs, n):
    from fieldstone.fields.mlp.mlp_cpu_bfloat16 import mlp_bfloat16 as kernel

    generator = torch.Generator().manual_seed(n)
    weights = [_small_weights(o, i, generator) for i, o in itertools.pairwise(sizes)]
    x = torch.randint(-2, 3, (n, sizes[0] - shared_inputs), generator=generator).float()
    dy = torch.randint(-1, 2, (n, sizes[-1]), generator=generator).float()
    extra = ()
    if shared_inputs:
        shared = torch.randint(-2, 3, (7, shared_inputs), generator=generator).float()
        extra = (shared, torch.randint(7, (n,), generator=generator, dtype=torch.int32))
    results = []
    for function in (kernel, reference):
        w, inputs = _leaves(weights), x.clone().requires_grad_()
        y = function(inputs, w, *extra)
        y.backward(dy)
        results.append([y.detach(), inputs.grad, *[item.grad for item in w]])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no AVX-512 BF16")
def test_bfloat16_kernel_rounds_as_torch_does():
    from fieldstone.fields.mlp.mlp_cpu_bfloat16 import mlp_bfloat16 as kernel

    generator = torch.Generator().manual_seed(0)
    weights = _weights((32, 64, 64, 3), generator)
    x = torch.randn(1000, 32, generator=generator)
    dy = torch.randn(1000, 3, generator=generator)
    results = []
    for function in (kernel, mlp_bfloat16, reference):
        w, inputs = _leaves(weights), x.clone().requires_grad_()
        y = function(inputs, w)
        y.backward(dy)
        results.append([y.detach(), inputs.grad, *[item.grad for item in w]])
    for ours, theirs, exact in zip(*results, strict=True):
        scale = exact.norm()
        assert (
            1e-4 < (ours - exact).norm() / scale < 0.1
        )  # units near zero are cut differently after rounding
        assert (ours - theirs).norm() / scale < 5e-3


def test_module_parameters_are_float32_and_seeded():
    first = Mlp(32, 64, 2, 3, precision="bfloat16", generator=torch.Generator().manual_seed(1))
    second = Mlp(32, 64, 2, 3, generator=torch.Generator().manual_seed(1))
    assert [tuple(w.shape) for w in first.weights] == [(64, 32), (64, 64), (3, 64)]
    assert all(w.dtype == torch.float32 for w in first.weights)
    assert all(torch.equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))


def test_unknown_precision_and_back_end_are_refused():
    with pytest.raises(UserError, match="float17"):
        resolve_precision("float17")
    assert resolve_precision("float32") == "float32"
    with pytest.raises(UserError, match="unknown back end 'fpga'"):
        MLP.resolve("fpga", "cpu")
