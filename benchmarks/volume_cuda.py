"""`python -m benchmarks.volume_cuda`: marching, compositing and the sparse Adam on a GPU, beside plain torch and what the memory allows.

Rays look from outside at a shell; "march" has the wait for the number of samples in it, all else is queued while the GPU sleeps, so that
Python's share does not count. "light pass" is what a training step does before it computes gradients, with a density in closed
form: rays left in place against rays picked out after every wave, Python's share and all waits counted.

The floor is the time the measured copy bandwidth needs for inputs and outputs, each moved once.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from benchmarks.encode_cuda import copy_bandwidth, seconds
from benchmarks.harness import Timing, print_table, write_result
from fieldstone.fields.optim import adam_cuda, adam_reference
from fieldstone.fields.optim.adam import AdamState, bias_corrections
from fieldstone.render.volume import (
    compositing_cuda,
    compositing_reference,
    marching_cuda,
    marching_reference,
    renderer,
)
from fieldstone.render.volume.occupancy import OccupancyGrid
from fieldstone.render.volume.stepping import Stepping

__all__ = ["main"]

RADIUS, HALF = 0.35, 0.03
"""Of the shell, and half its thickness, cube units."""


def shell(cascades: int, device: torch.device) -> OccupancyGrid:
    """Cells of a shell round the centre, and of the next ones outside."""
    grid = OccupancyGrid(128, cascades, device=device)
    index = torch.arange(grid.values.numel(), device=device)
    reach = (grid.cell_positions(index, torch.full((len(index), 3), 0.5, device=device)) - 0.5).norm(dim=1)
    held = ((reach - RADIUS).abs() < HALF) | ((reach - 8 * RADIUS).abs() < 8 * HALF)
    grid.values.copy_(held.view(grid.values.shape).float())
    grid.mark()
    return grid


def rays(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    at = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    origins = 0.5 + 1.2 * at
    directions = torch.nn.functional.normalize(torch.rand(count, 3, generator=generator) - origins, dim=1)
    return origins.to(device), directions.to(device), torch.rand(count, generator=generator).to(device)


def waiting(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds, from an idle GPU to an idle GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def timed(measure: Callable[[], float], rounds: int) -> Timing:
    return Timing(tuple(measure() for _ in range(rounds + 2))[2:])


def marching(count: int, device: torch.device, rounds: int) -> tuple[list[dict], object]:
    found, samples = [], None
    bounded = Stepping(math.sqrt(3) / 1024)
    cone = Stepping(math.sqrt(3) / 1024, 1 / 256, 2.0**5 / 128)
    for name, stepping, cascades in (("bounded", bounded, 1), ("6 cascades", cone, 6)):
        grid = shell(cascades, device)
        origins, directions, jitter = rays(count, device)
        first = torch.full((count,), -1.0, dtype=torch.float64, device=device)
        arguments = (origins, directions, grid, stepping, 0.0, jitter, first, 4096)
        ours, theirs = (module.march(*arguments) for module in (marching_cuda, marching_reference))
        agree = torch.equal(ours.starts, theirs.starts) and torch.allclose(
            ours.distance, theirs.distance, rtol=1e-6
        )
        row = {
            "work": f"march, {name}",
            "rays": count,
            "samples": len(ours),
            "same_samples": agree,
            "bytes": count * (24 + 4 + 8 + 8 + 8) + len(ours) * 24,
        }
        for label, module, times in (
            ("fieldstone", marching_cuda, rounds),
            ("reference", marching_reference, 3),
        ):
            row[label] = timed(
                lambda m=module, a=arguments: waiting(lambda: m.march(*a), device), times
            ).to_json()
        found.append(row)
        samples = samples or ours
    return found, samples


def compositing(samples, device: torch.device, rounds: int) -> list[dict]:
    n, count = len(samples), len(samples.starts) - 1
    generator = torch.Generator().manual_seed(1)
    density = (torch.rand(n, generator=generator) * 100).to(device)
    colour = torch.rand(3, n, generator=generator).to(device).t()
    pulls = [
        torch.randn(shape, generator=generator).to(device) for shape in ((count, 3), (count,), (count,), (n,))
    ]
    rest = (samples.distance, samples.length, samples.starts)
    modules = {"fieldstone": compositing_cuda, "reference": compositing_reference}
    rows = [
        {"work": "transmittance", "bytes": n * 12 + count * 16},
        {"work": "composite", "bytes": n * (4 * 6 + 4) + count * 28},
        {"work": "composite backward", "bytes": n * (4 * 8 + 16) + count * 28},
    ]
    for label, module in modules.items():
        graph: list = []

        def forward(module=module, graph=graph) -> None:
            leaves = density.clone().requires_grad_(), colour.clone().requires_grad_()
            graph[:] = module.composite(*leaves, *rest)

        works = (
            (lambda: None, lambda m=module: m.transmittance(density, samples.length, samples.starts, None)),
            (lambda: None, lambda m=module: m.composite(density, colour, *rest)),
            (forward, lambda g=graph: torch.autograd.backward(g, pulls)),
        )
        for row, (prepare, run) in zip(rows, works, strict=True):
            row |= {"rays": count, "samples": n}
            row[label] = timed(lambda p=prepare, r=run: seconds(p, r, device), rounds).to_json()
    return rows


def adam(entries: int, device: torch.device, rounds: int) -> list[dict]:
    rows = []
    corrections = bias_corrections((0.9, 0.99)).to(device)
    parameter = torch.rand(entries, device=device)
    gradient = torch.empty_like(parameter)
    count = torch.full((entries,), 5000, dtype=torch.int16, device=device)
    state = AdamState(torch.zeros_like(parameter), torch.zeros_like(parameter), count)
    options = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-15, "weight_decay": 0.0, "sparse": True}
    for share in (1.0, 0.5, 0.02):
        chosen = torch.rand(entries // 2, device=device).lt(share).repeat_interleave(2)
        fours = float(chosen.view(-1, 4).any(1).float().mean())
        row = {
            "work": f"adam, {share:g} of rows touched",
            "entries": entries,
            "bytes": int(entries * (4 + 32 * fours)),
        }
        for label, module in (("fieldstone", adam_cuda), ("reference", adam_reference)):
            row[label] = timed(
                lambda m=module, c=chosen: seconds(
                    lambda: gradient.copy_(c),
                    lambda: m.update(parameter, gradient, state, corrections=corrections, **options),
                    device,
                ),
                rounds,
            ).to_json()
        rows.append(row)
    return rows


def light_pass(count: int, device: torch.device, rounds: int) -> dict:
    origins, directions, jitter = rays(count, device)
    volume = renderer.VolumeRenderer(shell(1, device), Stepping(math.sqrt(3) / 1024), minimum_alpha=2e-3)

    def look(positions: Tensor) -> tuple[Tensor, None]:
        return 1000 * torch.sigmoid((RADIUS - (positions - 0.5).norm(dim=1)) * 200), None

    row: dict = {"work": "light pass", "rays": count}
    for label, picks in (("in place", False), ("picking", True)):
        with mock.patch.object(renderer, "_picks", lambda device, picks=picks: picks):
            kept, _, marched = volume._light_pass(origins, directions, jitter, look, None)
            row |= {f"{label} samples": len(kept), f"{label} marched": marched}
            row[label] = timed(
                lambda: waiting(lambda: volume._light_pass(origins, directions, jitter, look, None), device),
                rounds,
            ).to_json()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.volume_cuda", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rays", type=int, default=16, help="log2 of the number of rays (16)")
    parser.add_argument("--entries", type=int, default=24, help="log2 of the entries Adam updates (24)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds, of which the median is taken (11)")
    parser.add_argument(
        "--device", default="cuda", help="cpu, with TRITON_INTERPRET=1, tries the program out"
    )
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/volume_cuda.json)")
    args = parser.parse_args()

    device = torch.device(args.device)
    bandwidth = copy_bandwidth(device, 1 << 30 if device.type == "cuda" else 1 << 24)
    found, samples = marching(1 << args.rays, device, args.rounds)
    found += compositing(samples, device, args.rounds)
    found += adam(1 << args.entries, device, args.rounds)
    for row in found:
        row["floor_ms"] = round(row["bytes"] / bandwidth * 1e3, 4)
    passes = light_pass(1 << args.rays, device, args.rounds)
    write_result(
        "volume_cuda",
        {"copy_bandwidth_gb_s": round(bandwidth / 1e9, 1), "kernels": found, "light_pass": passes},
        out=args.out,
    )
    print_table(
        f"GPU milliseconds, medians of {args.rounds}; copies at {bandwidth / 1e12:.2f} TB/s",
        ["work", "rays", "samples", "fieldstone", "reference", "floor"],
        [
            [
                row["work"], row.get("rays", row.get("entries")), row.get("samples", ""),
                row["fieldstone"]["median_ms"], row["reference"]["median_ms"], row["floor_ms"],
            ]
            for row in found
        ],
    )  # fmt: skip
    print_table(
        "light pass, milliseconds with all waits",
        ["way", "median", "marched", "kept"],
        [
            [way, passes[way]["median_ms"], passes[f"{way} marched"], passes[f"{way} samples"]]
            for way in ("in place", "picking")
        ],
    )


if __name__ == "__main__":
    main()
