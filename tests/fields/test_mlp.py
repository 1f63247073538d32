"""The fused perceptrons against plain torch, in value and gradient."""

import itertools

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.mlp.mlp import MLP, Mlp, resolve_precision
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
