"""`python -m benchmarks.ceilings`: what this machine can do at most, and the floors that follow for a training step.

Three ceilings: float32 multiply-adds (a large matrix product), memory streamed (a copy larger than the caches), and cache lines
fetched at random from tables of a hashed level's size and of the whole grid's. The counts per sample are derived in README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numba import config, get_num_threads, njit, prange

from benchmarks.harness import interleaved, print_table, threads, write_result

__all__ = ["COUNTS", "GRID_BYTES", "main"]

GRID_BYTES = 12_196_240 * 4
"""Table of the paper's grid: 16 levels, F = 2, T = 2^19, 16 to 2048."""

COUNTS = {
    "encode forward": {"lines": 50, "flop": 900, "streamed_bytes": 140},
    "encode backward": {"lines": 50, "flop": 900, "streamed_bytes": 140},
    "heads forward": {"lines": 0, "flop": 18_816, "streamed_bytes": 0},
    "heads backward": {"lines": 0, "flop": 35_584, "streamed_bytes": 0},
}
"""Work a sample, see "Floors" in README.md."""


@njit(parallel=True)
def _random_lines(table, index, sums, workers):
    """Adds up table[index]; the addresses are known ahead, so as many loads are in flight as the core can keep."""
    for worker in prange(workers):
        n = len(index)
        total = np.float32(0)
        for i in range(worker * n // workers, (worker + 1) * n // workers):
            total += table[index[i]]
        sums[worker] = total


def ceilings(rounds: int) -> dict[str, float]:
    """GFLOP/s of a 2048^3 float32 product, GB/s copied (read + written), million random lines/s from 4 MiB and from the grid."""
    side, loads = 2048, 1 << 22
    a, b = torch.rand(side, side), torch.rand(side, side)
    source, target = torch.rand(1 << 26), torch.empty(1 << 26)
    rng, sums = np.random.default_rng(0), np.empty(get_num_threads(), np.float32)
    tables = {"4 MiB": 1 << 22, "whole grid": GRID_BYTES}
    cases = {"product": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}
    for name, size in tables.items():
        table = np.ones(size // 4, np.float32)
        lines = (rng.integers(0, size // 64, loads) * 16).astype(np.int32)
        cases[name] = lambda table=table, lines=lines: _random_lines(table, lines, sums, len(sums))
    seconds = {name: min(timing.seconds) for name, timing in interleaved(cases, rounds=rounds).items()}
    return {
        "gflops": 2 * side**3 / seconds["product"] / 1e9,
        "copy_gb_s": 2 * source.nbytes / seconds["copy"] / 1e9,
        "lines_4mib_m_s": loads / seconds["4 MiB"] / 1e6,
        "lines_grid_m_s": loads / seconds["whole grid"] / 1e6,
    }


def floors(found: dict[str, float], samples: int) -> dict[str, float]:
    """Milliseconds below which a step of `samples` cannot go, work by work: the slowest of its three resources."""
    result = {}
    for name, count in COUNTS.items():
        result[name] = samples * max(
            count["lines"] / (found["lines_4mib_m_s"] * 1e6),
            count["flop"] / (found["gflops"] * 1e9),
            count["streamed_bytes"] / (found["copy_gb_s"] * 1e9),
        ) * 1e3  # fmt: skip
    result["zero the gradient"] = GRID_BYTES / found["copy_gb_s"] / 1e6
    result["Adam, every entry touched"] = 10 * GRID_BYTES / found["copy_gb_s"] / 1e6
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceilings", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=65536, help="samples of a step (65536)")
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/ceilings.json)")
    args = parser.parse_args()
    results: dict[str, object] = {"samples": args.samples}
    for count in sorted({1, config.NUMBA_NUM_THREADS}):
        with threads(count):
            found = ceilings(args.rounds)
        lowest = floors(found, args.samples)
        results[f"{count} threads"] = {"ceilings": found, "floors_ms": lowest}
        print_table(
            f"ceilings, {count} threads (fastest of {args.rounds})", ["what", "value"], list(found.items())
        )
        print_table(f"floors for {args.samples:,} samples", ["work", "ms"], list(lowest.items()))
    write_result("ceilings", results, out=args.out)


if __name__ == "__main__":
    main()
