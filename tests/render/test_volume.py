"""Marching, compositing and the volume renderer: each kernel against its reference, and against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch

from fieldstone.render.volume.compositing import composite, transmittance
from fieldstone.render.volume.contraction import contract, uncontract
from fieldstone.render.volume.distortion import distortion
from fieldstone.render.volume.marching import march
from fieldstone.render.volume.occupancy import OccupancyGrid
from fieldstone.render.volume.renderer import VolumeRenderer
from fieldstone.render.volume.stepping import Stepping

BOUNDED = Stepping(math.sqrt(3) / 512)
CONE = Stepping(math.sqrt(3) / 512, 1 / 128, 0.2)


def _rays(count, seed=0, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * spread + 0.5
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - origins, dim=1)
    return origins, directions, torch.rand(count, generator=generator)


def _occupancy(cascades, share=0.02, resolution=32):
    generator = torch.Generator().manual_seed(1)
    grid = OccupancyGrid(resolution, cascades)
    grid.values = (torch.rand(grid.values.shape, generator=generator) < share).float()
    grid.values[:, : resolution // 2] = 0
    grid.mark()
    return grid


@pytest.mark.parametrize(("stepping", "cascades"), [(BOUNDED, 1), (CONE, 4)])
def test_marching_equals_reference(stepping, cascades):
    origins, directions, jitter = _rays(300)
    # axis-parallel rays, one of them outside the box, one that starts inside
    origins[:3] = torch.tensor([[0.7, 0.3, -9.0], [9.0, 9.0, -9.0], [0.8, 0.5, 0.5]])
    directions[:3] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    grid = _occupancy(cascades)
    fast, slow = (
        march(origins, directions, grid, stepping, near=0.05, jitter=jitter, backend=name)
        for name in ("cpu", "reference")
    )
    assert len(fast) > 500 and torch.equal(fast.starts, slow.starts) and torch.equal(fast.ray, slow.ray)
    for name in ("distance", "length", "positions"):
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), rtol=1e-6, atol=1e-6)
    assert bool(grid.occupied(fast.positions).float().mean() > 0.95) or cascades > 1


def test_jumps_stop_where_steps_outgrow_the_cells():
    """There a coarser cascade is looked at, which may be occupied where the finer one is empty."""
    generator = torch.Generator().manual_seed(2)
    grid = OccupancyGrid(16, 5)
    grid.values = (torch.rand(grid.values.shape, generator=generator) < 0.04).float()
    grid.mark()
    origins, directions = torch.rand(400, 3, generator=generator), torch.randn(400, 3, generator=generator)
    directions = torch.nn.functional.normalize(directions, dim=1)
    fast, slow = (
        march(origins, directions, grid, Stepping(0.01, 0.1, 0.5), backend=name)
        for name in ("cpu", "reference")
    )
    assert len(slow) > 500 and torch.equal(fast.starts, slow.starts)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_marching_in_pieces_gives_the_same_samples(backend):
    origins, directions, jitter = _rays(200)
    grid = _occupancy(3)
    options = {"near": 0.0, "jitter": jitter, "backend": backend}
    whole = march(origins, directions, grid, CONE, **options)
    pieces, first = [], None
    while True:
        part = march(origins, directions, grid, CONE, first=first, limit=7, **options)
        pieces += list(zip(part.ray.tolist(), part.distance.tolist(), strict=True))
        first = part.resume
        if not torch.isfinite(first).any():
            break
    assert sorted(pieces) == sorted(zip(whole.ray.tolist(), whole.distance.tolist(), strict=True))
    half = march(origins[100:], directions[100:], grid, CONE, near=0.0, jitter=jitter[100:], backend=backend)
    assert torch.equal(half.distance, whole.distance[whole.starts[100] :])


def test_full_grid_samples_the_whole_chord():
    grid = OccupancyGrid(16)
    origins, directions = torch.tensor([[0.5, 0.5, -1.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    samples = march(origins, directions, grid, Stepping(0.01))
    assert len(samples) == 100
    assert samples.length.sum().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("stepping", [BOUNDED, CONE, Stepping(0.01, 0.01)])
def test_step_space_is_monotone_and_inverted(stepping):
    t = torch.linspace(0, 60, 5000, dtype=torch.float64)
    s = stepping.to_steps(t)
    assert bool((s[1:] > s[:-1]).all())
    torch.testing.assert_close(stepping.to_distance(s), t, rtol=1e-10, atol=1e-10)


def _packed(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 12, (60,), generator=generator)
    counts[::7] = 0
    starts = torch.zeros(61, dtype=torch.int64)
    starts[1:] = counts.cumsum(0)
    n = int(starts[-1])
    values = [torch.rand(n, generator=generator, dtype=dtype) for _ in range(3)]
    colour = torch.rand(n, 3, generator=generator, dtype=dtype)
    return values[0] * 30, colour, values[1] * 4, values[2] * 0.1, starts


def test_compositing_equals_reference_in_value_and_gradient():
    density, colour, distance, length, starts = _packed()
    results = []
    for backend in ("cpu", "reference"):
        d, c = density.clone().requires_grad_(), colour.clone().requires_grad_()
        out = composite(d, c, distance, length, starts, backend=backend)
        sum((torch.sin(torch.arange(o.numel()).view(o.shape)) * o).sum() for o in out).backward()
        results.append([*out, d.grad, c.grad])
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


def test_reference_compositing_gradcheck():
    density, colour, distance, length, starts = _packed(dtype=torch.float64)
    keep = int(starts[8])
    arguments = (density[:keep].requires_grad_(), colour[:keep].requires_grad_())
    assert torch.autograd.gradcheck(
        lambda d, c: composite(d, c, distance[:keep], length[:keep], starts[:9], backend="reference"),
        arguments,
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_homogeneous_medium_has_its_closed_form(backend):
    n, density, step = 200, 3.0, 0.005
    distance = (torch.arange(n) + 0.5) * step
    starts = torch.tensor([0, n])
    out = composite(
        torch.full((n,), density),
        torch.full((n, 3), 0.25),
        distance,
        torch.full((n,), step),
        starts,
        backend=backend,
    )
    opacity = 1 - math.exp(-density * n * step)
    assert out.opacity.item() == pytest.approx(opacity, rel=1e-5)
    assert out.colour[0].tolist() == pytest.approx([0.25 * opacity] * 3, rel=1e-5)
    reaching, left = transmittance(torch.full((n,), density), torch.full((n,), step), starts, backend=backend)
    assert left.item() == pytest.approx(1 - opacity, rel=1e-4)
    torch.testing.assert_close(reaching, torch.exp(-density * (distance - step / 2)), rtol=1e-4, atol=1e-6)


def test_distortion_equals_the_double_sum():
    density, _, distance, length, starts = _packed()
    counts = starts[1:] - starts[:-1]
    ray = torch.repeat_interleave(torch.arange(len(counts)), counts)
    middle = torch.cat([torch.sort(distance[a:b]).values for a, b in itertools.pairwise(starts)])
    weights = density / 30
    expected = torch.zeros(len(counts))
    for k, (a, b) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        w, m = weights[a:b], middle[a:b]
        expected[k] = (w[:, None] * w * (m[:, None] - m).abs()).sum() + (w**2 * length[a:b]).sum() / 3
    torch.testing.assert_close(
        distortion(weights, middle, length, ray, starts), expected, rtol=1e-4, atol=1e-5
    )


def test_contraction_is_inverted_and_stays_inside():
    x = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8
    squeezed = contract(x)
    assert bool(((squeezed > 0) & (squeezed < 1)).all())
    torch.testing.assert_close(uncontract(squeezed), x, rtol=1e-9, atol=1e-9)
    inside = torch.rand(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(contract(inside), inside / 2 + 0.25)


def _ball(positions, known=None):
    """A hard ball of radius 0.3 with a smooth rim; features carry the position for the colour."""
    density = 400 * torch.sigmoid((0.3 - (positions - 0.5).norm(dim=1)) * 400)
    return density, positions


def _ball_grid():
    """Looked at several times, as in training: a cell is judged by a jittered point, and rims are missed at first."""
    grid = OccupancyGrid(32)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        grid.update(lambda p: _ball(p)[0], 1 / 512, generator)
    return grid


def _position_colour(directions, features, ray):
    return features.clamp(0, 1)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_rendered_ball_has_its_distance_normal_and_colour(backend):
    grid = _ball_grid()
    assert 0.02 < grid.share_occupied() < 0.3
    renderer = VolumeRenderer(grid, Stepping(1 / 512), backend=backend)
    offset = torch.linspace(-0.2, 0.2, 9)
    origins = torch.stack([0.5 + offset, torch.full((9,), 0.5), torch.full((9,), -1.0)], 1)
    directions = torch.tensor([[0.0, 0.0, 1.0]]).expand(9, 3)
    out = renderer.render(origins, directions, _ball, _position_colour, normals=True)
    surface = 1.5 - torch.sqrt(0.09 - offset**2)
    assert bool((out.opacity > 0.999).all())
    torch.testing.assert_close(out.distance_median, surface, rtol=0, atol=0.01)
    torch.testing.assert_close(out.distance, surface, rtol=0, atol=0.01)
    hit = origins + surface[:, None] * directions
    torch.testing.assert_close(out.normals, (hit - 0.5) / 0.3, rtol=0, atol=0.05)
    torch.testing.assert_close(out.colour, hit, rtol=0, atol=0.02)


def test_rendering_does_not_depend_on_chunks_or_waves():
    grid = _ball_grid()
    renderer = VolumeRenderer(grid, Stepping(1 / 512))
    origins, directions, _ = _rays(400)
    whole = renderer.render(origins, directions, _ball, _position_colour)
    parts = [
        renderer.render(origins[i : i + 37], directions[i : i + 37], _ball, _position_colour, wave=5)
        for i in range(0, 400, 37)
    ]
    assert float(whole.opacity.max()) > 0.9 and float(whole.opacity.min()) == 0
    for name in ("colour", "opacity", "distance_median"):
        joined = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(joined, getattr(whole, name), rtol=0, atol=2e-4)


def test_rendering_without_picking_rays_equals_the_one_that_picks(monkeypatch):
    renderer = VolumeRenderer(_ball_grid(), Stepping(1 / 512))
    origins, directions, _ = _rays(200)
    results = []
    for picks in (True, False):
        monkeypatch.setattr("fieldstone.render.volume.renderer._picks", lambda device, picks=picks: picks)
        results.append(renderer.render(origins, directions, _ball, _position_colour, normals=True))
    assert float(results[0].opacity.max()) > 0.9
    for name, value in vars(results[0]).items():
        torch.testing.assert_close(getattr(results[1], name), value, rtol=1e-6, atol=1e-6)


def test_training_composite_equals_rendering_and_reaches_origins():
    grid = _ball_grid()
    renderer = VolumeRenderer(grid, Stepping(1 / 512))
    origins, directions, _ = _rays(200)
    rendered = renderer.render(origins, directions, _ball, _position_colour, minimum_weight=0)
    origins.requires_grad_()
    jitter = torch.full((200,), 0.5)
    seen, samples, marched = renderer.train(origins, directions, jitter, _ball, _position_colour)
    torch.testing.assert_close(seen.colour, rendered.colour, rtol=0, atol=2e-3)
    assert 0 < len(samples) < marched  # early stop left samples behind the surface out
    seen.colour.sum().backward()
    assert float(origins.grad.abs().max()) > 0


def test_rays_that_meet_nothing_give_zero():
    grid = OccupancyGrid(16)
    grid.values.zero_()
    grid.cells.zero_()
    grid.load_state({"values": grid.values, "cells": grid.cells})
    renderer = VolumeRenderer(grid, Stepping(0.01))
    origins, directions, jitter = _rays(5)
    out = renderer.render(origins, directions, _ball, _position_colour)
    assert not out.opacity.any() and not out.distance.any()
    seen, samples, marched = renderer.train(origins, directions, jitter, _ball, _position_colour)
    assert len(samples) == marched == 0 and not seen.colour.any()


def test_occupancy_forgets_what_decays_and_keeps_what_is_seen():
    grid = OccupancyGrid(16, decay=0.5)
    generator = torch.Generator().manual_seed(0)
    grid.update(lambda p: torch.full((len(p),), 10.0), 0.01, generator)
    assert grid.share_occupied() == 1.0
    for _ in range(6):
        grid.update(lambda p: torch.where(p[:, 0] < 0.5, 10.0, 0.0), 0.01, generator)
    assert bool(grid.cells[0, :8].all()) and not bool(grid.cells[0, 8:].any())
    assert (grid.skips()[0, :8] == 0).all() and (grid.skips()[0, 8:] > 0).all()


def test_jumps_are_the_largest_aligned_empty_cubes():
    generator = torch.Generator().manual_seed(0)
    grid = OccupancyGrid(32, 2)
    grid.cells.copy_(torch.rand(2, 32, 32, 32, generator=generator) < 0.002)
    grid.load_state({"values": grid.values, "cells": grid.cells.clone()})
    cells, found = grid.cells.numpy(), grid.skips()
    expected = np.where(cells, 0, 1)
    for number in (2, 3, 4):  # cubes of 2, 4 and 8 cells; 8 is a quarter of the grid
        side = 2 ** (number - 1)
        for cascade, i, j, k in itertools.product(range(2), *[range(0, 32, side)] * 3):
            cube = (cascade, *(slice(a, a + side) for a in (i, j, k)))
            if not cells[cube].any():
                expected[cube] = number
    assert np.array_equal(found, expected)


def test_unseen_cells_are_closed_for_good():
    grid = OccupancyGrid(16, 2)
    share = grid.restrict(lambda p: p[:, 2] > 0.6)
    grid.update(lambda p: torch.full((len(p),), 100.0), 0.01, torch.Generator().manual_seed(0))
    assert 0.3 < share < 0.7
    assert not bool(grid.occupied(torch.tensor([[0.5, 0.5, 0.2]]))[0])
    assert bool(grid.occupied(torch.tensor([[0.5, 0.5, 0.9]]))[0])
    assert not bool(grid.occupied(torch.tensor([[0.5, 0.5, 9.0]]))[0])


def test_places_of_waves_agree_with_torch_and_pack_by_ray():
    from fieldstone.render.volume.columns_cpu import places
    from fieldstone.render.volume.renderer import _places

    generator = torch.Generator().manual_seed(0)
    waves = [torch.randint(50, (n,), generator=generator).sort().values for n in (200, 70, 0, 3)]
    for (starts, found), (other_starts, other) in [(places(waves, 50), _places(waves, 50))]:
        assert torch.equal(starts, other_starts)
        assert all(torch.equal(a, b) for a, b in zip(found, other, strict=True))
    ray = torch.empty(273, dtype=torch.int64)
    wave = torch.empty(273, dtype=torch.int64)
    for number, (rays, place) in enumerate(zip(waves, found, strict=True)):
        ray[place], wave[place] = rays, number
    assert torch.equal(ray, ray.sort().values)
    assert all((wave[a:b].diff() >= 0).all() for a, b in zip(starts[:-1].tolist(), starts[1:].tolist()))


@pytest.mark.parametrize("way", ["geometry", "look", "condition"])
def test_light_pass_without_picking_rays_equals_the_one_that_picks(way):
    renderer = VolumeRenderer(_ball_grid(), Stepping(1 / 512), minimum_alpha=1e-3)
    origins, directions, jitter = _rays(300)
    condition = torch.linspace(0.5, 1, 300)[:, None] if way == "condition" else None

    def look(positions, *more):
        density = _ball(positions)[0] * (more[0][:, 0] if more else 1)
        return density, None if way == "geometry" else torch.cat([positions, positions.square()], 1)

    arguments = (origins, directions, jitter, look, condition)
    one, known, marched = renderer._light_pass_in_place(*arguments)
    other, expected, _ = renderer._light_pass(*arguments)
    assert 100 < len(one) < marched
    assert all(torch.equal(getattr(one, name), value) for name, value in vars(other).items())
    assert (known is None and expected is None) if way == "geometry" else torch.equal(known, expected)
    assert one.positions.t().is_contiguous()
    empty = renderer._light_pass_in_place(origins, -directions, jitter, look, condition)
    assert len(empty[0]) == empty[2] == 0 and empty[0].positions.shape == (0, 3) and not empty[0].starts.any()
