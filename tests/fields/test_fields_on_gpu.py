"""Fields and their parts on a GPU give what they give on the CPU, in value and gradient. Skipped without a GPU."""

import copy

import pytest
import torch

from fieldstone.fields.activations import sigmoid, truncated_exp
from fieldstone.fields.articulated.deformer import Deformer
from fieldstone.fields.articulated.signed_distance import signed_distance
from fieldstone.fields.cam_radiance import CamRadianceField, CamRadianceSettings
from fieldstone.fields.encodings.frequency import encoding_with_coordinates
from fieldstone.fields.encodings.hash_grid import HashGrid
from fieldstone.fields.encodings.spherical_harmonics import spherical_harmonics
from fieldstone.fields.mlp.mlp import Mlp
from fieldstone.fields.modulation import CamMlp, CoordinateModulation
from fieldstone.fields.radiance import RadianceField, RadianceSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

GPU = "cuda"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def agree(ours, theirs, tolerance=1e-4, what=""):
    """Together, since single entries of sums in another order may be far off by themselves."""
    apart = float((ours.detach().cpu() - theirs.detach()).norm() / theirs.detach().norm().clamp(min=1e-12))
    assert apart < tolerance, f"{what}: {apart}"


def both(module, run, *inputs, tolerance=1e-4):
    """Runs `run(module, *inputs)` on GPU and CPU; compares results, and gradients of parameters and of inputs."""
    results = []
    for device in (GPU, "cpu"):
        moved = copy.deepcopy(module).to(device)
        given = [each.to(device, copy=True) for each in inputs]
        for each in given:
            each.requires_grad_(each.is_floating_point())
        outputs = run(moved, *given)
        assert all(output.device.type == device for output in outputs)
        sum(
            (output * torch.linspace(0.5, 1.5, output.numel(), device=device).view(output.shape)).sum()
            for output in outputs
        ).backward()
        slopes = {name: p.grad for name, p in moved.named_parameters()}
        slopes |= {f"input {i}": each.grad for i, each in enumerate(given) if each.is_floating_point()}
        results.append((outputs, slopes))
    (ours, slopes), (theirs, expected) = results
    for one, other in zip(ours, theirs, strict=True):
        agree(one, other, tolerance, "value")
    for name, slope in expected.items():
        assert (slope is None) == (slopes[name] is None), name
        if slope is not None:
            agree(slopes[name], slope, 10 * tolerance, name)


def directions(count, seed=1):
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=seeded(seed)), dim=1)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_hash_grid(interpolation):
    grid = HashGrid(3, 6, 2, 12, 8, 1.6, interpolation, generator=seeded())
    with torch.no_grad():
        grid.table.mul_(1e4)
    both(grid, lambda module, x: [module(x)], torch.rand(5000, 3, generator=seeded(1)))
    there = HashGrid(3, 6, 2, 12, 8, 1.6, generator=torch.Generator(GPU).manual_seed(0), device=GPU)
    assert there.table.device.type == GPU and float(there.table.detach().std()) > 1e-5


def test_radiance_field():
    field = RadianceField(RadianceSettings(6, 2, 12, finest_resolution=256), generator=seeded())

    def run(module, positions, looking):
        density, features = module.geometry(positions)
        ray = torch.arange(len(positions), device=positions.device, dtype=torch.int32) // 10
        return [density, module.colour(looking.detach(), features, ray)]

    with torch.no_grad():
        field.grid.table.mul_(1e3)
    place = torch.rand(3000, 3, generator=seeded(1))
    results = []
    for device in (GPU, "cpu"):
        moved = copy.deepcopy(field).to(device)
        outputs = run(moved, place.to(device), directions(300).to(device))
        sum(output.sum() for output in outputs).backward()
        looked, _ = moved.look(place.to(device))
        agree(looked, outputs[0].cpu(), 1e-5, "look")
        agree(moved.density(place.to(device)), outputs[0].cpu(), 1e-5, "density")
        results.append((outputs, [p.grad for p in moved.parameters()]))
    for ours, theirs in zip(results[0], results[1], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            agree(one, other, 1e-3)


FIELDS = {
    "direction": {},
    "position sum": {"modulation": "position", "resolution": (6, 5, 4), "factors": "sum", "norm": "layer"},
    "position product": {"modulation": "position", "resolution": (6, 5, 4), "factors": "product"},
    "time": {"modulation": "time", "resolution": (7,), "moving": True, "encoder": "frequency", "channels": 4},
    "none": {"modulation": "none", "encoder": "frequency", "density_layers": 3},
}


@pytest.mark.parametrize("name", FIELDS)
def test_cam_radiance_field(name):
    settings = CamRadianceSettings(levels=6, log2_table_size=12, finest_resolution=128, **FIELDS[name])
    field = CamRadianceField(settings, generator=seeded())
    with torch.no_grad():
        for grid in field.grid_parameters():
            grid.copy_(torch.randn(grid.shape, generator=seeded(2)) * 0.2)
        if field.grid is not None:
            field.grid.table.mul_(1e3)
    place, times = torch.rand(2000, 3, generator=seeded(1)), torch.rand(2000, 1, generator=seeded(3))
    results = []
    for device in (GPU, "cpu"):
        moved = copy.deepcopy(field).to(device)
        more = (times.to(device),) if settings.moving else ()
        _, known = moved.look(place.to(device), *more)
        density, features = moved.geometry(place.to(device), known, *more)
        ray = torch.arange(2000, device=device, dtype=torch.int32) // 10
        colour = moved.colour(directions(200).to(device), features, ray)
        (density.log().sum() + colour.sum()).backward()
        results.append(([density, colour], [p.grad for p in moved.parameters()]))
    for ours, theirs in zip(results[0], results[1], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                agree(one, other, 2e-3)


@pytest.mark.parametrize("padding", ["border", "wrap"])
@pytest.mark.parametrize(("resolution", "factors"), [((9,), "dense"), ((6, 5), "sum"), ((6, 5, 4), "dense")])
def test_coordinate_modulation(resolution, factors, padding):
    grids = CoordinateModulation(3, resolution, channels=2, padding=padding, factors=factors)
    with torch.no_grad():
        for grid in grids.grids:
            grid.copy_(torch.randn(grid.shape, generator=seeded(2)))
    both(grids, lambda module, x: [module(x)], torch.rand(3000, len(resolution), generator=seeded(1)))


@pytest.mark.parametrize("norm", ["none", "layer", "ray", "instance", "batch"])
def test_modulated_perceptron(norm):
    made = CamMlp(
        12, 32, 3, 4, modulation=CoordinateModulation(3, (8, 4)), norm=norm, skip=0, generator=seeded(),
        bias=norm not in ("instance", "batch"),  # which take it off again, so that its gradient is rounding alone
    )  # fmt: skip
    with torch.no_grad():
        for grid in made.grid_parameters():
            grid.copy_(torch.randn(grid.shape, generator=seeded(2)) * 0.2)
    groups = (
        (torch.arange(1000) // 50) if norm in ("ray", "instance") else torch.zeros(1000, dtype=torch.int64)
    )
    given = torch.randn(1000, 12, generator=seeded(1)), torch.rand(1000, 2, generator=seeded(3))
    both(made, lambda module, x, at, groups: [module(x, at, groups=groups)], *given, groups)


def test_small_perceptron_with_shared_inputs():
    net = Mlp(20, 32, 2, 3, generator=seeded())
    shared, index = torch.randn(40, 8, generator=seeded(1)), torch.arange(1000, dtype=torch.int32) // 25
    both(
        net,
        lambda module, x, index: [module(x, shared.to(x.device), index)],
        torch.randn(1000, 12, generator=seeded(2)),
        index,
    )


def test_encodings_and_activations():
    empty = torch.nn.Module()
    both(empty, lambda _, d: [spherical_harmonics(d, 4)], directions(2000))
    both(empty, lambda _, x: [encoding_with_coordinates(x, 8)], torch.rand(2000, 3, generator=seeded(1)))
    both(empty, lambda _, x: [truncated_exp(x), sigmoid(x)], torch.linspace(-18, 5, 2000))


def test_signed_distance_and_posed_space():
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = torch.tensor(
        [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    )
    points = torch.randn(500, 3, generator=seeded(1))
    results = []
    for device in (GPU, "cpu"):
        given = points.to(device).requires_grad_()
        distance = signed_distance(given, corners.to(device), faces.to(device), backend="reference")
        distance.sum().backward()
        results.append((distance, given.grad))
    for one, other in zip(*results, strict=True):
        agree(one, other)
    vertices = directions(400) * 0.05
    moved = torch.eye(4)[None].repeat(2, 1, 1)
    moved[:, :3, 3] = torch.tensor([0.02, 0.0, 0.01])
    weights = torch.rand(400, 2, generator=seeded(3))
    weights = weights / weights.sum(1, keepdim=True)
    results = []
    for device in (GPU, "cpu"):
        body = Deformer(vertices.to(device), weights.to(device))
        low = torch.full((3,), -0.1, device=device)
        space = body.pose(vertices.to(device), moved.to(device), low=low, side=0.2, resolution=32)
        posed = body.to_posed(vertices.to(device), moved.to(device))
        canonical, _, near = space.to_canonical(posed)
        assert bool(near.all())
        results.append((posed, canonical))
    for one, other in zip(*results, strict=True):
        agree(one, other, 1e-3)
    agree(results[0][1], vertices, 1e-2)
