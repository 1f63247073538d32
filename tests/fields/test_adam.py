"""The fused sparse Adam against its reference, torch's Adam, and tiny-cuda-nn's rule for untouched entries."""

import itertools

import pytest
import torch

from fieldstone.fields.optim.adam import GridAdam, bias_corrections
from fieldstone.fields.optim.schedule import learning_rate_factor

BACKENDS = ["cpu", "reference", "foreach"]


def _parameter(n=5000, seed=0):
    return torch.nn.Parameter(torch.randn(n, generator=torch.Generator().manual_seed(seed)))


def _sparse_gradient(n, step, share=0.3):
    generator = torch.Generator().manual_seed(100 + step)
    gradient = torch.randn(n, generator=generator) * 1e-6
    rows = torch.rand(n // 50, generator=generator) < share
    return gradient * rows.repeat_interleave(50)


@pytest.mark.parametrize("sparse", [True, False])
def test_fused_equals_reference(sparse):
    parameters = [_parameter() for _ in BACKENDS]
    optimisers = [
        GridAdam([{"params": [p], "lr": 1e-2, "sparse": sparse, "weight_decay": 1e-3}], backend=backend)
        for p, backend in zip(parameters, BACKENDS, strict=True)
    ]
    for step in range(20):
        for parameter, optimiser in zip(parameters, optimisers, strict=True):
            parameter.grad = _sparse_gradient(len(parameter), step)
            optimiser.step(0.5)
    size = {"0.first": 1e-6, "0.second": 1e-12, "0.count": 0}  # of gradients, and of their squares
    for number in (0, 2):
        torch.testing.assert_close(parameters[number], parameters[1], rtol=1e-5, atol=1e-6)
        for name, value in optimisers[number].state().items():
            torch.testing.assert_close(value, optimisers[1].state()[name], rtol=1e-5, atol=1e-4 * size[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_dense_group_equals_torch_adam(backend):
    ours, theirs = _parameter(), _parameter()
    optimiser = GridAdam([{"params": [ours], "lr": 1e-2}], eps=1e-8, backend=backend)
    oracle = torch.optim.Adam([theirs], lr=1e-2, betas=(0.9, 0.99), eps=1e-8)
    for step in range(30):
        gradient = torch.randn(len(ours), generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimiser.step()
        oracle.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_untouched_entries_keep_value_moments_and_count(backend):
    parameter = _parameter(64)
    optimiser = GridAdam([{"params": [parameter], "lr": 0.1, "sparse": True}], backend=backend)
    parameter.grad = torch.ones(64)
    optimiser.step()
    before, state = parameter.detach().clone(), {k: v.clone() for k, v in optimiser.state().items()}
    parameter.grad = torch.zeros(64)
    parameter.grad[3] = 1.0
    optimiser.step()
    changed = torch.nonzero(parameter.detach() != before)[:, 0].tolist()
    assert changed == [3]
    assert optimiser.state()["0.count"].tolist() == [1, 1, 1, 2] + [1] * 60
    for name in ("0.first", "0.second"):
        assert torch.nonzero(optimiser.state()[name] != state[name])[:, 0].tolist() == [3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_touch_late_in_a_run_is_debiased_as_a_first_step(backend):
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = GridAdam([{"params": [parameter], "lr": 0.1, "sparse": True}], backend=backend)
    for _ in range(50):
        parameter.grad = torch.tensor([1.0, 0.0])
        optimiser.step()
    assert parameter[1] == 0
    parameter.grad = torch.tensor([0.0, 3.0])
    optimiser.step()
    # a debiased first step of Adam has length lr whatever the gradient's size
    assert parameter[1].item() == pytest.approx(-0.1, rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_step_zeroes_gradients_in_place_and_state_round_trips(backend):
    parameter = _parameter(100)
    optimiser = GridAdam([{"params": [parameter], "lr": 0.1, "sparse": True}], backend=backend)
    parameter.grad = torch.randn(100, generator=torch.Generator().manual_seed(0))
    buffer = parameter.grad
    optimiser.step()
    assert parameter.grad is buffer and not buffer.any()
    other = GridAdam([{"params": [_parameter(100)], "lr": 0.1, "sparse": True}], backend=backend)
    other.load_state(optimiser.state())
    assert all(torch.equal(a, other.state()[name]) for name, a in optimiser.state().items())
    with pytest.raises(ValueError, match=r"0\.first"):
        other.load_state({})


def test_bias_corrections_reach_one():
    table = bias_corrections((0.9, 0.99))
    assert table[1].tolist() == pytest.approx([10.0, 100.0], rel=1e-6)
    assert table[-1].tolist() == [1.0, 1.0]


def test_empty_group_and_wild_betas_are_refused():
    with pytest.raises(ValueError, match="'grid' is empty"):
        GridAdam([{"name": "grid", "params": [], "lr": 0.1}])
    with pytest.raises(ValueError, match="betas"):
        GridAdam([{"params": [_parameter(4)], "lr": 0.1}], betas=(0.9, 1.0))


def test_schedule_warms_up_holds_and_decays():
    factors = [learning_rate_factor(step / 1000, step) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 30) and factors[150] == 1.0
    assert factors[1000] == pytest.approx(0.03)
    assert all(a >= b for a, b in itertools.pairwise(factors[250:]))


def test_dense_parameters_updated_together_go_on_from_a_saved_state():
    def gradients(step):
        generator = torch.Generator().manual_seed(step)
        return [torch.randn(size, generator=generator) for size in (7, 30)]

    def made(backend):
        parameters = [_parameter(7), _parameter(30)]
        return parameters, GridAdam([{"params": parameters, "lr": 0.01}], backend=backend)

    def step(parameters, optimiser, number):
        for parameter, gradient in zip(parameters, gradients(number), strict=True):
            parameter.grad = gradient
        optimiser.step()

    whole, other = made("foreach"), made("reference")
    for number in range(12):
        step(*whole, number)
        step(*other, number)
        if number == 5:
            halves = made("foreach")
            halves[1].load_state(whole[1].state())
            with torch.no_grad():
                for target, source in zip(halves[0], whole[0], strict=True):
                    target.copy_(source)
        elif number > 5:
            step(*halves, number)
    for ours, again, reference in zip(whole[0], halves[0], other[0], strict=True):
        assert torch.equal(ours, again)
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)
    assert whole[1].state()["1.count"].tolist() == [12] * 30
