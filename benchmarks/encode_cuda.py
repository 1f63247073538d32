"""`python -m benchmarks.encode_cuda`: the hash grid on a GPU, beside tiny-cuda-nn's own and beside what the memory allows.

Works: "value"; "table gradient" and "input gradient", the backward pass alone; "step", values and both gradients.
Cases run in turn on the same points, each in the memory order it works in. Times are the GPU's, between two events: the work
is queued while the GPU still sleeps, so that Python's share, which a training step hides or not, does not count.

tinycudann's rows appear where it can be imported (its own Encoding module, the cast of the table to half included). The floor
is the time the measured copy bandwidth needs for points, outputs and the touched rows of the table, each moved once.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.encode import ngp_grid, points
from benchmarks.harness import Timing, print_table, write_result
from fieldstone.fields import GridLevels
from fieldstone.fields.encodings import hash_cuda, hash_reference
from fieldstone.fields.encodings.hash_tcnn import configuration

__all__ = ["main"]

WORKS = ("value", "table gradient", "input gradient", "step")
SLEEP = 1_000_000
"""GPU cycles, over half a millisecond: longer than Python takes to queue a forward and backward pass."""


@dataclass(frozen=True)
class Toolkit:
    name: str
    encode: Callable[[Tensor], Tensor]
    """(n, 3) to (n, levels * features)."""
    table: Tensor
    """The leaf its encoding reads."""
    feature_major: bool
    """The memory order in which it takes the gradient by its output."""


def toolkits(levels: GridLevels, table: Tensor, beside: list[str]) -> tuple[list[Toolkit], str | None]:
    """Ours, those named MODULE:FUNCTION, and tinycudann's two; and why the latter are missing, if they are."""
    encoders = {"fieldstone": hash_cuda.encode}
    for name in beside:
        module, _, function = name.partition(":")
        encoders[function] = getattr(importlib.import_module(module), function)
    found = []
    for name, encode in encoders.items():
        leaf = table.clone().requires_grad_()
        found.append(Toolkit(name, partial(encode, table=leaf, levels=levels), leaf, feature_major=True))
    try:
        import tinycudann
    except (ImportError, OSError) as why:  # OSError: it is there, but not for this machine
        return found, f"{type(why).__name__}: {why}"
    for dtype in (torch.float32, torch.float16):
        module = tinycudann.Encoding(levels.dims, configuration(levels), dtype=dtype)
        with torch.no_grad():
            module.params.copy_(table)
        name = f"tinycudann {str(dtype).removeprefix('torch.')}"
        found.append(Toolkit(name, module, module.params, feature_major=False))
    return found, None


def reference(levels: GridLevels, table: Tensor) -> Toolkit:
    leaf = table.clone().requires_grad_()
    return Toolkit("reference", partial(hash_reference.encode, table=leaf, levels=levels), leaf, False)


def passes(toolkit: Toolkit, x: Tensor, dy: Tensor) -> dict[str, tuple[Callable, Callable]]:
    """Of every work, what comes before it and what is timed."""
    leaf, table = x.clone().requires_grad_(), toolkit.table
    graph: list[Tensor] = []
    with torch.no_grad():
        dtype = toolkit.encode(x[:256]).dtype
    dy = dy.to(dtype).t().contiguous().t() if toolkit.feature_major else dy.to(dtype)

    def prepare(at: Tensor, *, of_table: bool, forward: bool = True) -> None:
        leaf.grad = table.grad = None
        table.requires_grad_(of_table)
        graph[:] = [toolkit.encode(at)] if forward else []

    def value() -> None:
        with torch.no_grad():
            toolkit.encode(x)

    return {
        "value": (lambda: None, value),
        "table gradient": (lambda: prepare(x, of_table=True), lambda: graph[0].backward(dy)),
        "input gradient": (lambda: prepare(leaf, of_table=False), lambda: graph[0].backward(dy)),
        "step": (
            lambda: prepare(leaf, of_table=True, forward=False),
            lambda: toolkit.encode(leaf).backward(dy),
        ),
    }


def seconds(prepare: Callable, run: Callable, device: torch.device) -> float:
    prepare()
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(SLEEP)
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes read and written a second by a copy of `size` bytes within the device's memory."""
    source, to = torch.rand(2, size // 4, device=device)
    taken = [seconds(lambda: None, lambda: to.copy_(source), device) for _ in range(9)]
    return 2 * size / sorted(taken)[4]


def floor_bytes(n: int, levels: GridLevels, rows: int) -> dict[str, int]:
    """What each work must move: points and outputs once, touched rows once; a table's gradient is zeroed, then read and written."""
    ends = 4 * n * (levels.dims + levels.levels * levels.features)
    row = 4 * levels.features * rows
    works = {
        "value": ends + row,
        "table gradient": ends + 4 * levels.parameters + 2 * row,
        "input gradient": ends + row + 4 * n * levels.dims,
    }
    return works | {"step": sum(works.values())}


def poison(device: torch.device) -> None:
    """Leaves NaN in the memory that following results will lie in, so that an entry not written shows."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.full((1 << 29,), torch.nan, device=device)


def everything(toolkit: Toolkit, x: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """Value, table gradient and input gradient, in float64."""
    leaf, table = x.clone().requires_grad_(), toolkit.table
    table.grad = None
    poison(x.device)
    y = toolkit.encode(leaf)
    y.backward(dy.to(y))
    result = tuple(t.detach().double() for t in (y, table.grad, leaf.grad))
    table.grad = None
    return result


def tinycudann_scales(levels: GridLevels, device: torch.device) -> GridLevels:
    """The levels with the scales tiny-cuda-nn's kernels compute: exp2 by the GPU's instruction, then one fused multiply-add."""
    growth = float(np.float32(np.log2(np.float32(levels.per_level_scale))))
    exponent = torch.arange(levels.levels, dtype=torch.float32, device=device) * growth
    scale = (torch.exp2(exponent).double() * levels.base_resolution - 1).float()
    changed = copy.copy(levels)
    object.__setattr__(changed, "scale", scale.cpu().numpy())
    return changed


def parity(n: int, size: int, beside: list[str], device: torch.device) -> dict[str, object]:
    """Relative differences ||a - b|| / ||b|| of value, table gradient and input gradient; table uniform in +-1."""
    grid = ngp_grid(log2_table_size=size)
    table, levels = grid.table.detach().to(device), grid.levels
    x = torch.from_numpy(points(n)).to(device)
    dy = torch.randn(n, grid.output_size, generator=torch.Generator().manual_seed(3)).to(device)
    found, _ = toolkits(levels, table, beside)
    results = {toolkit.name: everything(toolkit, x, dy) for toolkit in [*found, reference(levels, table)]}
    scales = tinycudann_scales(levels, device)
    results["reference, tinycudann's scales"] = everything(reference(scales, table), x, dy)
    pairs = [(toolkit.name, "reference") for toolkit in found]
    if "tinycudann float32" in results:
        pairs += [("fieldstone", "tinycudann float32")]
        pairs += [("tinycudann float32", "reference, tinycudann's scales")]
    differences = {
        f"{a} against {b}": {
            what: float((p - q).norm() / q.norm())
            for what, p, q in zip(("value", "table gradient", "input gradient"), results[a], results[b])
        }
        for a, b in pairs
    }
    steps = np.abs(scales.scale.view(np.int32) - levels.scale.view(np.int32))
    print_table(
        f"||a - b|| / ||b||, T = 2^{size}, {n:,} uniform points",
        ["a against b", "value", "table gradient", "input gradient"],
        [[pair, *(f"{v:.1e}" for v in values.values())] for pair, values in differences.items()],
    )
    return {
        "points": n,
        "log2_table_size": size,
        "scales_differ_by_float32_steps": steps.tolist(),
        "relative": differences,
    }


def measure(
    size: int, order: str, n: int, rounds: int, beside: list[str], bandwidth: float, device: torch.device
) -> dict[str, object]:
    """Every toolkit and work on one size of problem."""
    grid = ngp_grid(log2_table_size=size)
    table, levels = grid.table.detach().to(device), grid.levels
    x = torch.from_numpy(points(n, order)).to(device)
    dy = torch.randn(n, grid.output_size, generator=torch.Generator().manual_seed(3)).to(device)
    found, missing = toolkits(levels, table, beside)
    ones = table.clone().requires_grad_()
    hash_cuda.encode(x, ones, levels).sum().backward()
    rows = int(ones.grad.count_nonzero()) // levels.features
    floors = {work: moved / bandwidth for work, moved in floor_bytes(n, levels, rows).items()}
    result = {
        "log2_table_size": size,
        "order": order,
        "points": n,
        "rows_touched": rows,
        "rows": levels.size,
        "floor_ms": {work: round(value * 1e3, 4) for work, value in floors.items()},
        "not_installed": missing,
    }
    taken: dict[tuple[str, str], list[float]] = {}
    some = {toolkit.name: passes(toolkit, x, dy) for toolkit in found}
    if order == "iid" and size < 20 and n <= 1 << 18:  # slow and large; once shows how slow
        some["reference"] = passes(reference(levels, table), x, dy)
    for round_ in range(-2, rounds):
        for name, works in some.items():
            if name == "reference" and round_ >= 3:
                continue
            for work in WORKS:
                value = seconds(*works[work], device)
                if round_ >= 0:
                    taken.setdefault((name, work), []).append(value)
    for name in some:
        result[name] = {work: Timing(tuple(taken[name, work])).to_json() for work in WORKS}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.encode_cuda", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--points", type=int, nargs="+", default=[16, 18, 20], help="log2 of the numbers of points (16 18 20)"
    )
    parser.add_argument(
        "--tables", type=int, nargs="+", default=[19, 22], help="log2 of a level's most rows (19 22)"
    )
    parser.add_argument("--rounds", type=int, default=11, help="rounds, of which the median is taken (11)")
    parser.add_argument(
        "--beside",
        nargs="*",
        default=[],
        metavar="MODULE:FUNCTION",
        help="other encoders to time, called as ours",
    )
    parser.add_argument(
        "--device", default="cuda", help="cpu, with TRITON_INTERPRET=1, tries the program out"
    )
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/encode_cuda.json)")
    args = parser.parse_args()

    device = torch.device(args.device)
    bandwidth = copy_bandwidth(device, 1 << 30 if device.type == "cuda" else 1 << 24)
    small = min(1 << 16, 1 << min(args.points))
    agreement = [parity(small, size, args.beside, device) for size in args.tables]
    timings = [
        measure(size, order, 1 << k, args.rounds, args.beside, bandwidth, device)
        for size in args.tables
        for order in ("iid", "rays")
        for k in args.points
    ]
    write_result(
        "encode_cuda",
        {"copy_bandwidth_gb_s": round(bandwidth / 1e9, 1), "agreement": agreement, "timings": timings},
        out=args.out,
    )
    names = [name for name, value in timings[0].items() if isinstance(value, dict) and "value" in value]
    names = [name for name in names if name != "floor_ms"]
    missing = timings[0]["not_installed"]
    print_table(
        f"L16 F2, GPU milliseconds, medians of {args.rounds}; copies at {bandwidth / 1e12:.2f} TB/s"
        + (f"; no tinycudann ({missing})" if missing else ""),
        ["T, order, points, work", *names, "floor"],
        [
            [f"2^{row['log2_table_size']} {row['order']} {row['points']} {work}"]
            + [row[name][work]["median_ms"] if name in row else "" for name in names]
            + [row["floor_ms"][work]]
            for row in timings
            for work in WORKS
        ],
    )


if __name__ == "__main__":
    main()
