"""`python -m benchmarks.encode`: the hash grid against nerfstudio's and Dr.Jit's, and how its cost grows.

All toolkits run in this process, in turn, on the same points; each gets its inputs in the memory order it works in.
"fieldstone" returns a fresh gradient, as every torch module; "fieldstone, in place" adds into one that stays, as our
training loop does, with its zeroing counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import interleaved, print_table, threads, write_result
from benchmarks.peers import Cases, NotInstalled, drjit_cases, drjit_values, nerfstudio_cases
from fieldstone.fields import HashGrid

__all__ = ["main"]

NGP = {"dims": 3, "levels": 16, "features": 2, "log2_table_size": 19, "base_resolution": 16}
FINEST = 2048
"""Vertices along an axis of the finest level, as in instant-ngp's paper."""


def ngp_grid(backend: str = "auto", **changes: int) -> HashGrid:
    """The paper's grid with some of its sizes changed; its growth from level to level stays. Values uniform in +-1."""
    sizes = NGP | changes
    # rounded as tiny-cuda-nn and we keep it, so that Dr.Jit, which computes scales in float64, starts from the same
    growth = float(np.float32((FINEST / NGP["base_resolution"]) ** (1 / (NGP["levels"] - 1))))
    grid = HashGrid(
        **sizes, per_level_scale=growth, backend=backend, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        grid.table *= 1e4  # the initial +-1e-4 would hide differences between toolkits
    return grid


def points(n: int, order: str = "iid") -> np.ndarray:
    """(n, 3) float32 in [0, 1]: "iid" uniform, or "rays", 128 samples after another along each of many lines."""
    rng = np.random.default_rng(1)
    if order == "iid":
        return rng.random((n, 3), dtype=np.float32)
    starts, ends = rng.random((2, (n + 127) // 128, 1, 3), dtype=np.float32)
    along = np.linspace(0, 1, 128, dtype=np.float32)[None, :, None]
    return np.ascontiguousarray((starts + (ends - starts) * along).reshape(-1, 3)[:n])


def fieldstone_cases(
    grid: HashGrid, positions: np.ndarray, gradient: np.ndarray, *, in_place: bool = False
) -> Cases:
    """Our encoding. Positions and gradient are feature-major in memory, as our renderer and perceptrons leave them."""
    x = torch.from_numpy(np.ascontiguousarray(positions.T)).t()
    dy = torch.from_numpy(np.ascontiguousarray(gradient.T)).t()
    x_grad = x.clone(memory_format=torch.preserve_format).requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            grid(x)

    def backward(at: torch.Tensor) -> None:
        x_grad.grad = None
        grid.table.gradient_in_place = in_place
        if in_place and grid.table.grad is not None:
            grid.table.grad.zero_()
        else:
            grid.table.grad = None
        grid(at).backward(dy)

    name = "fieldstone, in place" if in_place else "fieldstone"
    return Cases(name, forward, lambda: backward(x), lambda: backward(x_grad))


def compare(n: int, rounds: int) -> dict[str, object]:
    """Every toolkit that is installed, on `n` uniform points; ratios are of the medians."""
    positions, grid = points(n), ngp_grid()
    gradient = np.random.default_rng(2).standard_normal((n, grid.output_size), dtype=np.float32)
    # two grids of ours: a gradient that stays and one that is dropped each round must not meet in one parameter
    present = [
        fieldstone_cases(grid, positions, gradient),
        fieldstone_cases(ngp_grid(), positions, gradient, in_place=True),
    ]
    missing = []
    for build in (nerfstudio_cases, drjit_cases):
        try:
            present.append(build(grid, positions, gradient))
        except NotInstalled as why:
            missing.append(str(why))
            print(why)
    result: dict[str, object] = {"points": n, "grid": NGP | {"finest": FINEST}, "not_installed": missing}
    rows = []
    for work in ("forward", "forward_backward", "with_positions"):
        timings = interleaved({cases.name: getattr(cases, work) for cases in present}, rounds=rounds)
        medians = {name: timing.median for name, timing in timings.items()}
        result[work] = {name: timing.to_json() for name, timing in timings.items()}
        result[f"{work}_ratio"] = {
            ours: {name: round(value / medians[ours], 3) for name, value in medians.items() if name != ours}
            for ours in ("fieldstone", "fieldstone, in place")
        }
        rows += [
            [
                work,
                name,
                value * 1e3,
                n / value / 1e6,
                value / medians["fieldstone"],
                value / medians["fieldstone, in place"],
            ]
            for name, value in medians.items()
        ]
    print_table(
        f"hash grid, L16 F2 T2^19, {n:,} uniform points (medians of {rounds} interleaved rounds)",
        ["work", "toolkit", "ms", "Mpoints/s", "/ fieldstone", "/ in place"],
        rows,
    )
    return result


def agreement(n: int) -> dict[str, object]:
    """Largest differences between our value and others' with the same weights, which are uniform in +-1."""
    positions, grid = points(n), ngp_grid()
    with torch.no_grad():
        ours = grid(torch.from_numpy(positions)).numpy()
        reference = ngp_grid("reference")(torch.from_numpy(positions)).numpy()
    found = {"points": n, "reference": float(np.abs(ours - reference).max())}
    try:
        found["Dr.Jit"] = float(np.abs(ours - drjit_values(grid, positions)).max())
    except NotInstalled as why:
        found["Dr.Jit"] = str(why)
    found["nerfstudio"] = "another definition: every level hashed, no half-cell offset"
    print_table(
        f"largest difference from the chosen back end over {n:,} points, weights in +-1",
        ["what", "difference"],
        [[key, value] for key, value in found.items() if key != "points"],
    )
    return found


def scaling(n: int, rounds: int, largest: int, cores: int) -> dict[str, object]:
    """Our forward and forward+backward (in place) against one size at a time, the others as in the paper."""

    def measure(label: object, grid: HashGrid, count: int, order: str = "iid") -> dict[str, object]:
        gradient = np.random.default_rng(2).standard_normal((count, grid.output_size), dtype=np.float32)
        cases = fieldstone_cases(grid, points(count, order), gradient, in_place=True)
        timings = interleaved(
            {
                "forward": cases.forward,
                "forward_backward": cases.forward_backward,
                "with_positions": cases.with_positions,
            },
            rounds=rounds,
            seconds=20,
        )
        return {"value": label, "points": count} | {
            name: timing.to_json() for name, timing in timings.items()
        }

    grid = ngp_grid()
    tables = {
        "samples": [measure(1 << k, grid, 1 << k) for k in range(12, largest + 1)],
        "levels": [measure(count, ngp_grid(levels=count), n) for count in (1, 2, 4, 8, 12, 16, 20, 24)],
        "log2_table_size": [measure(size, ngp_grid(log2_table_size=size), n) for size in range(15, 22)],
        "features": [measure(count, ngp_grid(features=count), n) for count in (1, 2, 4, 8)],
        "order": [measure(order, grid, n, order) for order in ("iid", "rays")],
        "threads": [],
    }
    for count in range(1, cores + 1):
        with threads(count):
            tables["threads"].append(measure(count, grid, n))
    for title, rows in tables.items():
        print_table(
            f"fieldstone, cost against {title}",
            [title, "forward ms", "forward+backward ms", "with positions ms", "ns a point, f+b"],
            [
                [row["value"]]
                + [row[work]["median_ms"] for work in ("forward", "forward_backward", "with_positions")]
                + [row["forward_backward"]["median_ms"] * 1e6 / row["points"]]
                for row in rows
            ],
        )
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encode", description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=65536, help="points of the comparison (65536)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds, of which the median is taken (11)")
    parser.add_argument(
        "--largest", type=int, default=20, help="log2 of the most points in the scaling table (20)"
    )
    parser.add_argument("--threads", type=int, help="threads for all toolkits (all cores)")
    parser.add_argument("--no-scaling", action="store_true", help="only the comparison")
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/encode.json)")
    args = parser.parse_args()

    import numba

    count = args.threads or numba.config.NUMBA_NUM_THREADS
    results: dict[str, object] = {"threads": count}
    with threads(count):
        results["agreement"] = agreement(args.points)
        results["comparison"] = compare(args.points, args.rounds)
        if not args.no_scaling:
            results["scaling"] = scaling(args.points, max(3, args.rounds // 2), args.largest, count)
    write_result("encode", results, out=args.out)


if __name__ == "__main__":
    main()
