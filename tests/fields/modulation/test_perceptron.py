"""The modulated perceptron: fused kernel against plain torch, equality with the plain one, norms, presets."""

import itertools

import pytest
import torch

from fieldstone.core.errors import UserError
from fieldstone.fields.mlp.mlp import Mlp, has_bfloat16
from fieldstone.fields.modulation import (
    CamMlp,
    CoordinateModulation,
    image_cam,
    mip_nerf_direction_cam,
    t_nerf_time_cam,
)
from fieldstone.fields.modulation.layers_bfloat16 import perceptron as bfloat16_torch
from fieldstone.fields.modulation.layers_cpu import perceptron as fused
from fieldstone.fields.modulation.layers_cpu_bfloat16 import perceptron as bfloat16
from fieldstone.fields.modulation.layers_reference import normalise
from fieldstone.fields.modulation.layers_reference import perceptron as reference
from fieldstone.fields.modulation.presets import sphere_coordinates


def _inputs(sizes, n, biases, generator):
    def random(*shape):
        return torch.randn(*shape, generator=generator)

    weights = tuple(random(o, i) / i**0.5 for i, o in itertools.pairwise(sizes))
    return random(n, sizes[0]), weights, tuple(0.3 * random(o) for o in sizes[1:]) if biases else ()


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("modulated", [True, False])
@pytest.mark.parametrize(
    "sizes, n, groups", [((32, 64, 64, 3), 197, 1), ((5, 9, 12, 16), 96, 3), ((20, 33, 1), 1, 1)]
)
def test_fused_equals_reference_in_value_and_gradient(norm, modulated, sizes, n, groups):
    generator = torch.Generator().manual_seed(n)
    x, weights, biases = _inputs(sizes, n, True, generator)
    rows = (2, -1)[: len(sizes) - 2] if modulated else ()
    packed = 0.5 * torch.randn(n, 4 + 2 * groups, generator=generator) if modulated else None
    dy = torch.randn(n, sizes[-1], generator=generator)
    results = []
    for function in (fused, reference):
        leaves = [t.clone().requires_grad_() for t in (x, *weights, *biases)]
        layers = len(weights)
        scale = packed.clone().requires_grad_() if modulated else None
        y = function(
            leaves[0],
            tuple(leaves[1 : 1 + layers]),
            tuple(leaves[1 + layers :]),
            scale,
            rows,
            norm,
            groups=groups,
        )
        y.backward(dy)
        results.append([y.detach(), *[t.grad for t in leaves], *([scale.grad] if modulated else [])])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=5e-5 * max(1.0, float(theirs.abs().max())))


_KERNEL = pytest.param(
    bfloat16, id="cpu", marks=pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no AVX-512 BF16")
)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("sizes, n", [((51, 64, 64, 64, 16), 197), ((5, 9, 7, 16), 96), ((20, 33, 1), 1)])
@pytest.mark.parametrize("half", [_KERNEL, pytest.param(bfloat16_torch, id="torch")])
def test_bfloat16_equals_the_reference_with_rounded_products(half, norm, sizes, n):
    def rounded(t):
        return t + (t.bfloat16().float() - t).detach()

    def layers_of_rounded(x, weights, biases, packed, rows, norm, shared, index):
        h = torch.cat([x, shared[index.long()]], 1)
        for number, weight in enumerate(weights):
            h = rounded(h) @ rounded(weight).t() + biases[number]
            if number < len(rows):
                row = rows[number]
                h = normalise(h, norm) * (1 + packed[:, row : row + 1]) + packed[:, row + 1 : row + 2]
                h = torch.relu(h)
        return h

    generator = torch.Generator().manual_seed(n)
    x, weights, biases = _inputs(sizes, n, True, generator)
    rows = tuple(range(0, 2 * (len(sizes) - 2), 2))
    packed = 0.5 * torch.randn(n, 2 * len(rows), generator=generator)
    shared = torch.randn(9, 3, generator=generator)
    index = torch.randint(9, (n,), generator=generator, dtype=torch.int32)
    target = torch.randn(n, sizes[-1], generator=generator)
    results = []
    for function in (half, layers_of_rounded):
        leaves = [t.clone().requires_grad_() for t in (x[:, :-3], *weights, *biases, packed)]
        layers = len(weights)
        y = function(
            leaves[0], tuple(leaves[1 : 1 + layers]), tuple(leaves[1 + layers : -1]), leaves[-1], rows, norm,
            shared, index,
        )  # fmt: skip
        (y - 3 * target).square().sum().backward()
        results.append([y.detach(), *[t.grad for t in leaves]])
    for ours, theirs in zip(*results, strict=True):  # ours round gradients between layers, too
        assert float((ours - theirs).norm()) < 0.01 * float(theirs.norm()) + 1e-6


def test_shared_inputs_equal_concatenation():
    generator = torch.Generator().manual_seed(3)
    x, weights, biases = _inputs((32, 16, 3), 150, True, generator)
    own, shared = x[:, :20].contiguous(), torch.randn(9, 12, generator=generator)
    index = torch.randint(9, (150,), generator=generator, dtype=torch.int32)
    results = []
    for function in (fused, reference):
        at = own.clone().requires_grad_()
        y = function(at, weights, biases, None, (), "layer", shared, index)
        y.sum().backward()
        results.append((y.detach(), at.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_without_modulation_it_is_the_plain_perceptron_bit_for_bit(backend):
    generator = torch.Generator().manual_seed(0)
    plain = Mlp(24, 48, 2, 3, backend=backend, generator=generator)
    cam = CamMlp(24, 48, 2, 3, bias=False, backend=backend)
    cam.load_state_dict(plain.state_dict())
    x = torch.randn(333, 24, generator=generator)
    assert torch.equal(plain(x), cam(x))
    with_grids = CamMlp(24, 48, 2, 3, bias=False, backend=backend, modulation=CoordinateModulation(2, (4, 4)))
    with_grids.load_state_dict({**with_grids.state_dict(), **plain.state_dict()})
    assert torch.equal(plain(x), with_grids(x, torch.rand(333, 2)))  # grids start at gamma 1, beta 0
    gradients = []
    for module in (plain, cam):
        module(x).square().sum().backward()
        gradients.append([w.grad for w in module.weights])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_with_biases_it_is_a_stack_of_linear_layers_bit_for_bit():
    cam = CamMlp(7, 20, 2, 4, backend="reference")
    x = torch.randn(50, 7)
    h = x
    for weight, bias in zip(list(cam.weights)[:2], list(cam.biases)[:2]):
        h = torch.relu(h @ weight.t() + bias)
    assert torch.equal(h @ cam.weights[2].t() + cam.biases[2], cam(x))


def test_norms_take_their_statistics_where_they_say():
    h = torch.randn(12, 5) * 3 + 1
    groups = torch.tensor([0] * 4 + [1] * 2 + [3] * 6)  # a ray without samples is allowed
    layer, ray, instance, batch = (
        normalise(h, kind, groups) for kind in ("layer", "ray", "instance", "batch")
    )
    torch.testing.assert_close(layer.mean(1), torch.zeros(12), atol=1e-5, rtol=0)
    for part in (ray[:4], ray[4:6], ray[6:]):
        assert abs(float(part.mean())) < 1e-5 and abs(float(part.var(unbiased=False)) - 1) < 1e-3
    torch.testing.assert_close(instance[:4].mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    expected = torch.nn.functional.group_norm(h[None, :4].transpose(1, 2), 1)[0].t()
    torch.testing.assert_close(ray[:4], expected, atol=1e-5, rtol=1e-4)


def test_coupling_of_samples_is_told_and_true():
    x, at = torch.randn(40, 6), torch.rand(40, 2)
    groups = torch.arange(40) // 10
    for norm in ("none", "layer", "ray", "instance", "batch"):
        cam = CamMlp(6, 8, 2, 3, norm=norm, modulation=CoordinateModulation(2, (3, 3)))
        if norm == "batch":
            cam(x, at)
            cam.eval()
        whole = cam(x, at, groups=groups)
        alone = cam(x[:5], at[:5], groups=groups[:5])
        assert torch.allclose(whole[:5], alone, atol=1e-5) != cam.couples_samples
    cam.train()
    assert cam.couples_samples


def test_channels_and_chosen_layers():
    modulation = CoordinateModulation(2, (5,), channels=8)
    cam = CamMlp(6, 8, 3, 2, modulation=modulation, modulated=(0, 2), norm="instance")
    assert cam.rows == [0, -1, 16]
    x, time, groups = torch.randn(30, 6), torch.rand(3, 1).repeat_interleave(10, 0), torch.arange(30) // 10
    cam(x, time, groups=groups).square().sum().backward()
    # a shift of one channel in layer 1 would be taken away by no norm: every value of both layers is used
    assert (modulation.grids[0].grad.abs().sum(0) > 0).sum() > 24


def test_parameter_groups_are_apart_and_never_empty():
    cam = CamMlp(6, 8, 2, 3, modulation=CoordinateModulation(2, (3, 3)))
    grids, rest = cam.grid_parameters(), cam.mlp_parameters()
    assert grids and rest and not {id(p) for p in grids} & {id(p) for p in rest}
    assert len(grids) + len(rest) == len(list(cam.parameters()))
    with pytest.raises(ValueError, match="no grids"):
        CamMlp(6, 8, 2, 3).grid_parameters()


def test_presets_have_the_published_sizes():
    def size(module):
        return sum(p.numel() for p in module.parameters())

    image, mip, moving = image_cam(), mip_nerf_direction_cam(), t_nerf_time_cam()
    assert (size(image), size(mip), size(moving)) == (269_827, 613_220, 613_271)
    assert size(image.mlp.modulation) == 6_144
    assert size(mip.trunk.modulation) == 480 and size(moving.trunk.modulation) == 80
    assert image(torch.rand(9, 2)).shape == (9, 3)


def test_paper_mode_couples_a_ray_and_refuses_a_density():
    mip = mip_nerf_direction_cam()
    n = 6
    p, v = torch.rand(n, 3), torch.full((n, 3), 0.01)
    d = torch.nn.functional.normalize(torch.randn(1, 3), dim=1).expand(n, 3)
    rays = torch.zeros(n, dtype=torch.int64)
    whole, _ = mip(p, d, variance=v, rays=rays)
    part, _ = mip(p[:3], d[:3], variance=v[:3], rays=rays[:3])
    assert mip.paper_mode and not torch.allclose(whole[:3], part)
    with pytest.raises(UserError, match="mesh"):
        mip.density(p)
    moving = t_nerf_time_cam()
    time = torch.rand(n, 1)
    assert not moving.paper_mode
    torch.testing.assert_close(moving.density(p, time)[:3], moving.density(p[:3], time[:3]))
    torch.testing.assert_close(moving.density(p, time), moving(p, d, time=time)[0])


def test_directions_have_no_seam_and_use_the_whole_sphere():
    up = sphere_coordinates(torch.tensor([[0.0, 0, 1], [0, 0, -1], [1, 0, 0], [0.6, 0, 0.8]]))
    torch.testing.assert_close(up[:3, 1], torch.tensor([1.0, 0.0, 0.5]))
    assert 0.5 < up[3, 1] < 1
    a, b = sphere_coordinates(torch.tensor([[-1.0, 1e-5, 0], [-1.0, -1e-5, 0]]))[:, 0]
    modulation = CoordinateModulation(1, (10,), padding="wrap")
    torch.nn.init.normal_(modulation.grids[0])
    torch.testing.assert_close(modulation(a.view(1, 1)), modulation(b.view(1, 1)), atol=1e-3, rtol=0)


def test_settings_out_of_range_are_refused():
    grids = CoordinateModulation(2, (3, 3))
    for wrong in (
        lambda: CamMlp(6, 8, 2, 3, norm="group"),
        lambda: CamMlp(6, 8, 0, 3),
        lambda: CamMlp(6, 8, 3, 3, modulation=grids),
        lambda: CamMlp(6, 8, 3, 3, modulation=grids, modulated=(0, 3)),
        lambda: CamMlp(6, 8, 2, 3, modulation=CoordinateModulation(2, (3,), channels=5)),
        lambda: CamMlp(6, 8, 2, 3, skip=1),
        lambda: CamMlp(6, 8, 2, 3, norm="batch", backend="cpu")(torch.rand(4, 6)),
    ):
        with pytest.raises(UserError):
            wrong()
