"""`python -m benchmarks.train_step_cuda`: a training step of a scene on a GPU: what it takes, what the GPU works, what waits.

A step takes the longest of three: the GPU's work, Python's queueing of it, and the waits in which the host asks for a count. Steps are
timed without a profiler first; then as many are profiled, for launches, waits and the GPU's busy time a step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import fieldstone as fs
from benchmarks.captures import CAPTURES, locate
from benchmarks.harness import print_table, write_result
from fieldstone.core.backends import chosen
from fieldstone.datasets.synthetic import bundled_capture
from fieldstone.fields.optim.adam import GridAdam
from fieldstone.tools.training.methods import method_class, optimiser_groups

__all__ = ["main"]

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def measure(
    capture, method: str, device: str, warm: int, steps: int, settings: dict, profiled: bool
) -> dict[str, object]:
    trained = method_class(method)(capture, settings, seed=0, device=device)
    optimiser = GridAdam(optimiser_groups(trained.groups()))
    totals = dict.fromkeys(("rays", "samples", "marched"), 0.0)

    def step(number: int) -> None:
        trained.before_step(number, 0.2)
        loss, stats = trained.loss(trained.batch(number))
        loss.backward()
        float(loss.detach())  # what the loop reads of a step
        optimiser.step(1.0)
        for name in totals:
            totals[name] += float(stats.get(name, 0))

    for number in range(warm):
        step(number)
    wait(device)
    totals.update(dict.fromkeys(totals, 0.0))
    began = time.perf_counter()
    for number in range(warm, warm + steps):
        step(number)
    wait(device)
    seconds = time.perf_counter() - began
    result = {
        "settings": settings,
        "milliseconds_a_step": round(1e3 * seconds / steps, 3),
        **{f"{name}_a_step": round(total / steps) for name, total in totals.items()},
        "samples_per_second": round(totals["samples"] / seconds),
        "back_ends": chosen(),
    }
    if device != "cuda" or not profiled:
        return result
    result["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for number in range(warm + steps, warm + 2 * steps):
            step(number)
        wait(device)
    events = found.key_averages()
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    count = {
        name: sum(e.count for e in events if e.key in names)
        for name, names in (("launches", LAUNCHES), ("waits", WAITS))
    }
    return result | {
        "gpu_milliseconds_a_step": round(sum(e.self_device_time_total for e in kernels) / 1e3 / steps, 3),
        **{f"{name}_a_step": round(number / steps, 1) for name, number in count.items()},
        "kernels": [
            {"name": e.key[:80], "a_step": round(e.count / steps, 1), "us_a_step": round(e.self_device_time_total / steps, 1)}
            for e in kernels[:25]
        ],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step_cuda", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--capture", choices=list(CAPTURES), default="lego400")
    parser.add_argument("--method", default="hash-grid")
    parser.add_argument("--warm", type=int, default=300, help="steps before those that are timed (300)")
    parser.add_argument("--steps", type=int, default=50, help="steps timed, and then profiled (50)")
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[3 << 14, 1 << 18], help="samples a step trains on"
    )
    parser.add_argument("--plain", action="store_true", help="times only, no profile")
    parser.add_argument("--device", default="cuda", help="cpu tries the program out")
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/train_step_cuda.json)")
    args = parser.parse_args()

    place = locate(args.capture)
    if place is None:
        print(f"the data of {args.capture} is not on this machine: the bundled scene instead")
    path, downscale = place or (None, 1)
    capture = bundled_capture() if path is None else fs.open_capture(path, downscale=downscale)
    results = []
    for samples in args.samples:
        settings = {"samples": samples, "most_rays": max(1 << 15, samples)}
        results.append(
            measure(capture, args.method, args.device, args.warm, args.steps, settings, not args.plain)
        )
    used = args.capture if path is not None else "bundled"
    write_result("train_step_cuda", {"capture": used, "method": args.method, "runs": results}, out=args.out)
    columns = ["milliseconds", "gpu_milliseconds", "launches", "waits", "rays", "samples", "marched"]
    print_table(
        f"a step of {args.method} on {used}",
        ["samples wanted", *columns],
        [
            [run["settings"]["samples"], *(run.get(f"{name}_a_step", "") for name in columns)]
            for run in results
        ],
    )
    for run in results[-1:]:
        print_table(
            "kernels of the last",
            ["kernel", "a step", "us a step"],
            [
                [kernel["name"][:60], kernel["a_step"], kernel["us_a_step"]]
                for kernel in run.get("kernels", [])
            ],
        )


if __name__ == "__main__":
    main()
