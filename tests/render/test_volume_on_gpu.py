"""Volume rendering on a GPU gives what it gives on the CPU: occupancy, both ways of rendering, losses. Skipped without a GPU."""

import math

import pytest
import torch

from fieldstone.core.backends import chosen
from fieldstone.render.volume.contraction import contract, uncontract
from fieldstone.render.volume.distortion import distortion
from fieldstone.render.volume.occupancy import OccupancyGrid
from fieldstone.render.volume.renderer import VolumeRenderer
from fieldstone.render.volume.stepping import Stepping

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

STEPPINGS = [(Stepping(1 / 256), 1), (Stepping(math.sqrt(3) / 256, 1 / 64, 0.2), 3)]


def ball(positions, known=None, times=None):
    """A hard ball with a smooth rim, whose radius grows with time; features carry the position for the colour."""
    radius = 0.3 if times is None else 0.2 + 0.1 * times[:, 0]
    density = 400 * torch.sigmoid((radius - (positions - 0.5).norm(dim=1)) * 400)
    return density, positions


def look(positions, times=None):
    return ball(positions, times=times)[0], positions.t().contiguous().t()


def colour(directions, features, ray):
    return features.clamp(0, 1) * (0.5 + 0.5 * directions[ray.long()].abs())


def occupancy(cascades, device):
    """The same cells on any device: cell centres decide."""
    grid = OccupancyGrid(32, cascades, device=device)
    centres = torch.full((grid.values.numel(), 3), 0.5)
    index = torch.arange(grid.values.numel())
    near = (grid.cell_positions(index, centres) - 0.5).norm(dim=1) < 0.4
    grid.values.copy_(near.view(grid.values.shape).float())
    grid.mark()
    return grid


def rays(count, device):
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(count, 3, generator=generator) * 1.5 + 0.5
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - origins, dim=1)
    jitter = torch.rand(count, generator=generator)
    return origins.to(device), directions.to(device), jitter.to(device)


@pytest.mark.parametrize(("stepping", "cascades"), STEPPINGS)
@pytest.mark.parametrize("way", ["geometry", "look", "condition"])
def test_training_on_gpu_equals_cpu(way, stepping, cascades):
    results = []
    for device in ("cuda", "cpu"):
        origins, directions, jitter = rays(3000, device)
        origins.requires_grad_()
        renderer = VolumeRenderer(occupancy(cascades, device), stepping, near=0.02, minimum_alpha=1e-3)
        more = {"look": look} if way != "geometry" else {}
        if way == "condition":
            more["condition"] = torch.linspace(0, 1, 3000, device=device)[:, None]
        seen, samples, marched = renderer.train(origins, directions, jitter, ball, colour, **more)
        seen.colour.square().sum().backward()
        assert chosen()["ray marching"] == chosen()["compositing"] == device
        results.append((seen, samples, marched, origins.grad))
    (ours, found, marched, slope), (theirs, expected, _, other) = results
    # the CPU's jumps may pass a sample where steps outgrow the cells of a cascade, and a sample at the edge of a cut-off fall either way
    assert abs(len(found) - len(expected)) <= 0.002 * len(expected)
    assert len(found) > 1000 and marched >= len(found)  # how many are looked at depends on the device's waves
    for name in ("colour", "opacity", "distance"):
        apart = (getattr(ours, name).cpu() - getattr(theirs, name)).abs()
        assert float((apart > 2e-3).float().mean()) < 2e-3, name
    apart = (slope.cpu() - other).norm() / other.norm()
    assert float(apart) < 1e-2
    ray = found.ray.long()
    assert bool((ray.diff() >= 0).all()) and torch.equal(
        torch.bincount(ray, minlength=3000).cumsum(0), found.starts[1:]
    )


@pytest.mark.parametrize(("stepping", "cascades"), STEPPINGS)
def test_rendering_on_gpu_equals_cpu(stepping, cascades):
    results = []
    for device in ("cuda", "cpu"):
        origins, directions, _ = rays(2000, device)
        renderer = VolumeRenderer(occupancy(cascades, device), stepping)
        results.append(renderer.render(origins, directions, ball, colour, normals=True))
    for name in ("colour", "opacity", "distance", "distance_median", "normals"):
        ours, theirs = (getattr(result, name) for result in results)
        apart = (ours.cpu() - theirs).abs()
        # a sample at the edge of a cut-off (half of the light, weight 1e-4) may fall on its other side
        assert float((apart > 2e-3).float().mean()) < 2e-3, name
    assert float(results[0].opacity.max()) > 0.99


def test_training_without_a_hit_gives_zeros():
    grid = OccupancyGrid(16, device="cuda")
    grid.load_state({"values": grid.values.clone(), "cells": torch.zeros_like(grid.cells)})
    origins, directions, jitter = rays(100, "cuda")
    renderer = VolumeRenderer(grid, Stepping(0.01))
    seen, samples, marched = renderer.train(origins, directions, jitter, ball, colour, look)
    assert len(samples) == marched == 0 and not seen.colour.any()
    assert not renderer.render(origins, directions, ball, colour).opacity.any()


def test_occupancy_lives_on_the_gpu():
    grid = OccupancyGrid(32, 2, device="cuda")
    generator = torch.Generator(device="cuda").manual_seed(0)
    share = grid.restrict(lambda p: p[:, 2] > 0.2)
    assert 0.5 < share < 1 and grid.cells.is_cuda
    for each in (1.0, 0.25, 0.25, 0.25):
        looked = grid.update(lambda p: ball(p)[0], 1 / 256, generator, each)
        assert 0 < looked <= grid.values.numel()
    assert 0.005 < grid.share_occupied() < 0.3
    places = torch.rand(2000, 3, generator=generator, device="cuda") * 2 - 0.5
    inside = (places - 0.5).norm(dim=1) < 0.2
    found = grid.occupied(places)
    assert bool(found[inside & (places[:, 2] > 0.25)].all()) and not bool(found[places[:, 2] < 0.1].any())
    other = OccupancyGrid(32, 2)
    other.load_state(grid.state())
    assert torch.equal(other.occupied(places.cpu()), found.cpu())
    assert torch.equal(torch.from_numpy(other.skips()), grid.skip_table().cpu())


def test_contraction_and_distortion_on_gpu_equal_cpu():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 3, generator=generator) * 8
    torch.testing.assert_close(contract(x.cuda()).cpu(), contract(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(uncontract(contract(x.cuda())).cpu(), x, rtol=1e-2, atol=1e-2)
    counts = torch.randint(0, 9, (50,), generator=generator)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    ray = torch.repeat_interleave(torch.arange(50), counts).int()
    weights, middle = torch.rand(2, len(ray), generator=generator)
    middle = middle + ray  # rising within a ray is all that counts
    width = torch.full_like(weights, 0.1)
    results = []
    for device in ("cuda", "cpu"):
        w = weights.to(device).requires_grad_()
        loss = distortion(w, *(part.to(device) for part in (middle, width, ray, starts)))
        loss.sum().backward()
        results.append((loss.detach().cpu(), w.grad.cpu()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
