"""Marching and compositing in Triton against their references: in Triton's interpreter where there is no GPU; and that they compile."""

import math
import os
import subprocess
import sys

import pytest
import torch

from fieldstone.render.volume import compositing_reference, marching_reference
from fieldstone.render.volume.compositing import COMPOSITING
from fieldstone.render.volume.marching import MARCHING
from fieldstone.render.volume.occupancy import OccupancyGrid
from fieldstone.render.volume.stepping import Stepping

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BOUNDED = Stepping(math.sqrt(3) / 128)
CONE = Stepping(math.sqrt(3) / 128, 1 / 24, 0.2)
ENDLESS = Stepping(math.sqrt(3) / 128, 1 / 24)

COMPILE = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from fieldstone.render.volume import compositing_cuda, marching_cuda

TYPES = {
    "rays": "i32", "limit": "i32", "n": "i32", "channels": "i32", "total": "i32", "skip_ptr": "*u8", "first_ptr": "*fp64",
    "constant_ptr": "*fp64", "count_ptr": "*i64", "start_ptr": "*i64", "resume_ptr": "*fp64", "entry_ptr": "*fp64", "step_ptr": "*fp64",
    "ray_ptr": "*i32",
}

def report(kernel, constants, **options):
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "*fp32") for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=constants)
    text = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1, **options}).asm["ptx"]
    words = ("ld.global", "st.global", "fma.rn.f32", "fma.rn.f64", "mul.rn.f64", "ex2.approx", "shfl", "bar.sync")
    print(kernel.__name__, *(word for word in words if word in text))

plain = {"enable_fp_fusion": False}
walk = {"CASCADES": 1, "RESOLUTION": 128, "CONE": False, "BLOCK": 32}
report(marching_cuda._walk_kernel, {**walk, "start_ptr": None}, **plain)
outputs = dict.fromkeys(("count_ptr", "resume_ptr", "entry_ptr"))
report(marching_cuda._walk_kernel, {**walk, **outputs, "CASCADES": 6, "CONE": True}, **plain)
report(marching_cuda._pack_kernel, {"CONE": True, "BLOCK": 256}, **plain)
tile = {"RAYS": 8, "SAMPLES": 16}
report(compositing_cuda._forward_kernel, {**tile, "CHANNELS": 4})
report(compositing_cuda._backward_kernel, tile)
report(compositing_cuda._transmittance_kernel, tile)
report(compositing_cuda._transmittance_kernel, {**tile, "light_ptr": None})
"""


def test_kernels_compile_without_a_gpu(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    script = tmp_path / "compile_kernels.py"  # Triton reads the source of kernels, ours lie in their own file
    script.write_text(COMPILE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 7 and all({"ld.global", "st.global"} <= set(words) for _, *words in lines)
    for name, *words in lines:
        if name in (
            "_walk_kernel",
            "_pack_kernel",
        ):  # float64 products are rounded by themselves, and nobody waits at a barrier
            assert "mul.rn.f64" in words and "bar.sync" not in words
        else:
            assert "shfl" in words and "fma.rn.f32" in words
    assert "fma.rn.f64" not in lines[0]  # where neither exp nor log is


def test_gpus_take_these_back_ends():
    assert MARCHING.resolve("auto", "cuda") == COMPOSITING.resolve("auto", "cuda") == "cuda"


def _rays(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator) * 1.5 + 0.5
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - origins, dim=1)
    # axis-parallel rays, one of them outside the box, one that starts inside; and one without a component
    origins[:4] = torch.tensor([[0.7, 0.3, -9.0], [9.0, 9.0, -9.0], [0.8, 0.5, 0.5], [0.6, 0.4, 1.4]])
    directions[:4] = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.0, -0.8]])
    return origins.to(DEVICE), directions.to(DEVICE), torch.rand(count, generator=generator).to(DEVICE)


def _occupancy(cascades, share=0.15):
    generator = torch.Generator().manual_seed(1)
    grid = OccupancyGrid(16, cascades, device=DEVICE)
    grid.values = (torch.rand(grid.values.shape, generator=generator) < share).float().to(DEVICE)
    grid.values[:, :6] = 0
    grid.mark()
    return grid


@pytest.fixture
def marching(request, monkeypatch):
    """The module, with room for one walk or for none."""
    from fieldstone.render.volume import marching_cuda

    monkeypatch.setattr(
        marching_cuda, "_ROOM", 0 if getattr(request, "param", "") == "two walks" else 1 << 18
    )
    return marching_cuda


@pytest.mark.parametrize(
    ("marching", "stepping", "cascades"),
    [("one walk", BOUNDED, 1), ("two walks", CONE, 3), ("one walk", ENDLESS, 2)],
    indirect=["marching"],
)
def test_marching_equals_reference(marching, stepping, cascades):
    """The same samples. Only exp and log of the lattice may differ, by a last bit of float64, which float32 rarely shows."""
    origins, directions, jitter = _rays(40)  # more than one program
    grid = _occupancy(cascades)
    first = torch.full((40,), -1.0, dtype=torch.float64, device=DEVICE)
    first[30] = torch.inf  # a ray that ended before
    arguments = (origins, directions, grid, stepping, 0.05, jitter, first)
    ours, theirs = (module.march(*arguments, 4096) for module in (marching, marching_reference))
    assert len(theirs) > 100
    assert torch.equal(ours.starts, theirs.starts) and torch.equal(ours.ray, theirs.ray)
    assert ours.starts[30] == ours.starts[31] and not ours.resume.isfinite().any()
    for name in ("distance", "length", "positions"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6)
    assert ours.positions.t().is_contiguous()


@pytest.mark.parametrize("marching", ["one walk", "two walks"], indirect=True)
def test_marching_stops_at_the_limit_and_goes_on_there(marching):
    origins, directions, jitter = _rays(24)
    grid = _occupancy(2, share=0.3)
    first = torch.full((24,), -1.0, dtype=torch.float64, device=DEVICE)
    pieces = []
    for limit in (5, 4096):
        ours, theirs = (
            module.march(origins, directions, grid, BOUNDED, 0.0, jitter, first, limit)
            for module in (marching, marching_reference)
        )
        torch.testing.assert_close(ours.resume, theirs.resume, rtol=1e-12, atol=0)
        assert torch.equal(ours.starts, theirs.starts) and torch.equal(ours.distance, theirs.distance)
        pieces.append(len(ours))
        first = ours.resume
    assert pieces[0] > 0 and pieces[1] > 0 and not first.isfinite().any()


def test_marching_no_rays_and_rays_that_meet_nothing(marching):
    grid = _occupancy(1, share=0.0)
    for count in (0, 5):
        origins, directions, jitter = (part[:count] for part in _rays(5))
        first = torch.full((count,), -1.0, dtype=torch.float64, device=DEVICE)
        found = marching.march(origins, directions, grid, BOUNDED, 0.0, jitter, first, 10)
        assert len(found) == 0 and found.starts.tolist() == [0] * (count + 1)
        assert found.positions.shape == (0, 3)
    with pytest.raises(TypeError, match="float64"):
        marching.march(origins.double(), directions, grid, BOUNDED, 0.0, jitter, first, 10)


def _packed(longest=40, channels=3, rays=21):
    generator = torch.Generator().manual_seed(channels)
    counts = torch.randint(0, longest, (rays,), generator=generator)
    counts[::5] = 0
    starts = torch.zeros(rays + 1, dtype=torch.int64)
    starts[1:] = counts.cumsum(0)
    n = int(starts[-1])
    density = torch.rand(n, generator=generator) * 30
    density[torch.rand(n, generator=generator) < 0.02] = 1e7  # opaque
    density[torch.rand(n, generator=generator) < 0.2] *= 1e-4
    distance, length = torch.rand(n, generator=generator) * 4, torch.rand(n, generator=generator) * 0.1
    colour = torch.rand(n, channels, generator=generator)
    return [part.to(DEVICE) for part in (density, colour, distance, length, starts)]


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_compositing_equals_reference_in_value_and_gradient(channels):
    """Sums run in float32 within a ray: 1e-6 of values that are at most 1, and of gradients at most 1 once divided by lengths."""
    from fieldstone.render.volume import compositing_cuda

    density, colour, distance, length, starts = _packed(channels=channels)
    results = []
    for module in (compositing_cuda, compositing_reference):
        d, c = density.clone().requires_grad_(), colour.clone().requires_grad_()
        out = module.composite(d, c, distance, length, starts)
        sum(
            (torch.sin(torch.arange(o.numel(), device=DEVICE).view(o.shape)) * o).sum() for o in out
        ).backward()
        results.append([*out, d.grad, c.grad])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=2e-5, atol=2e-6)


def test_weights_of_thin_samples_do_not_lose_digits():
    from fieldstone.render.volume import compositing_cuda

    density, length = torch.logspace(-8, 1.5, 60, device=DEVICE), torch.full((60,), 0.1, device=DEVICE)
    starts, nothing = torch.arange(61, device=DEVICE), torch.zeros(60, 1, device=DEVICE)
    weights = compositing_cuda.composite(density, nothing, length, length, starts).weights
    expected = -torch.expm1(-density.double() * length.double()).float()
    torch.testing.assert_close(weights, expected, rtol=3e-6, atol=0)


def test_what_lies_in_front_of_an_opaque_sample_keeps_its_light():
    from fieldstone.render.volume import compositing_cuda

    density = torch.tensor([1.0, 2.0, 1e8, 3.0, 1.0], device=DEVICE)
    length, starts = torch.full((5,), 0.25, device=DEVICE), torch.tensor([0, 5], device=DEVICE)
    reaching, left = compositing_cuda.transmittance(density, length, starts, None)
    torch.testing.assert_close(reaching[:3], torch.exp(-torch.tensor([0.0, 0.25, 0.75], device=DEVICE)))
    assert reaching[3:].tolist() == [0, 0] and left.tolist() == [0]


@pytest.mark.parametrize("initial", [False, True])
def test_transmittance_equals_reference(initial):
    from fieldstone.render.volume import compositing_cuda

    density, _, _, length, starts = _packed()
    rays = len(starts) - 1
    light = torch.linspace(0.1, 1, rays, device=DEVICE) if initial else None
    ours, theirs = (
        module.transmittance(density, length, starts, light)
        for module in (compositing_cuda, compositing_reference)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_compositing_takes_no_samples_and_refuses_other_dtypes():
    from fieldstone.render.volume import compositing_cuda

    empty, starts = torch.zeros(0, device=DEVICE), torch.zeros(4, dtype=torch.int64, device=DEVICE)
    colour = torch.zeros(0, 3, device=DEVICE)
    out = compositing_cuda.composite(empty, colour, empty, empty, starts)
    assert out.colour.shape == (3, 3) and not out.colour.any() and not out.opacity.any()
    assert compositing_cuda.transmittance(empty, empty, starts, None)[1].tolist() == [1, 1, 1]
    assert compositing_cuda.composite(empty, colour, empty, empty, starts[:1]).opacity.shape == (0,)
    with pytest.raises(TypeError, match=r"density torch\.float64"):
        compositing_cuda.composite(empty.double(), colour, empty, empty, starts)
