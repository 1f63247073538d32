"""One training step: samples a second, and where the time goes.

    python -m benchmarks.train_step [--capture lego400] [--warm 400] [--steps 100]

A method is trained for `warm` steps first, so that the occupancy grid is what it is for most of a run; then each part of
`steps` steps is timed. "Trained" samples have a forward and a backward pass; "marched" ones were looked at by a forward pass of
the density, and left out because they lie behind a surface.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

from .captures import CAPTURES, locate
from .harness import peak_memory_mb, print_table, write_result


def measure(name: str, warm: int, steps: int, settings: dict) -> dict[str, object]:
    import numba
    import torch

    import fieldstone as fs
    from fieldstone.datasets.synthetic import bundled_capture
    from fieldstone.fields.optim.adam import GridAdam
    from fieldstone.tools.training.hash_grid import HashGridMethod
    from fieldstone.tools.training.methods import optimiser_groups

    place = locate(name)
    if place is None:
        return {"skipped": "the data is not on this machine"}
    path, downscale = place
    capture = bundled_capture() if path is None else fs.open_capture(path, downscale=downscale)
    method = HashGridMethod(capture, settings, seed=0, device="cpu")
    optimiser = GridAdam(optimiser_groups(method.groups()))
    parts: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    each = []
    for step in range(warm + steps):
        if step == warm:
            parts.clear()
            counts.clear()
        marks = [time.perf_counter()]
        method.before_step(step, 0.2)
        marks.append(time.perf_counter())
        batch = method.batch(step)
        marks.append(time.perf_counter())
        loss, stats = method.loss(batch)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimiser.step(1.0)
        marks.append(time.perf_counter())
        for part, begin, end in zip(
            ("occupancy", "pixels and rays", "forward", "backward", "optimiser"),
            marks,
            marks[1:],
            strict=False,
        ):
            parts[part] += end - begin
        for key in ("rays", "samples", "marched"):
            counts[key] += stats[key]
        if step >= warm:
            each.append((marks[-1] - marks[0], stats["samples"]))
    seconds = sum(parts.values())
    rates = sorted(samples / taken for taken, samples in each)
    return {
        "samples_per_second": round(counts["samples"] / seconds),
        "median_step_samples_per_second": round(rates[len(rates) // 2]),
        "marched_per_second": round(counts["marched"] / seconds),
        "rays_per_second": round(counts["rays"] / seconds),
        "milliseconds_a_step": round(1e3 * seconds / steps, 2),
        "samples_a_step": round(counts["samples"] / steps),
        "share": {part: round(taken / seconds, 4) for part, taken in parts.items()},
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
        "settings": method.settings,
        "peak_memory_mb": round(peak_memory_mb()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capture", choices=list(CAPTURES), action="append")
    parser.add_argument("--warm", type=int, default=400)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    names = arguments.capture or ["bundled", "lego400", "fox"]
    results = {name: measure(name, arguments.warm, arguments.steps, {}) for name in names}
    rows = [
        [
            name,
            result["samples_per_second"] / 1e6,
            result["marched_per_second"] / 1e6,
            result["rays_per_second"] / 1e3,
            result["milliseconds_a_step"],
            " ".join(f"{part} {share:.0%}" for part, share in result["share"].items()),
        ]
        for name, result in results.items()
        if "skipped" not in result
    ]
    print_table(
        "training step", ["capture", "M samples/s", "M marched/s", "k rays/s", "ms/step", "split"], rows
    )
    write_result("train_step", results)


if __name__ == "__main__":
    main()
