"""Quality against training time: PSNR and SSIM on views that training did not see.

    python -m benchmarks.quality [--run lego400:5 --run lego400:15 --run fox:10 --run bundled:1]
    python -m benchmarks.quality --device cuda [--run lego400:0.5 ...]

Each CAPTURE:MINUTES is trained from nothing through the same functions as `train-scene` and `fieldstone evaluate`.
Results are merged into results/quality.json, of a GPU into results/quality_cuda.json, by capture and minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from .captures import locate
from .harness import RESULTS, machine, peak_memory_mb, print_table, write_result

DEFAULT = {
    "cpu": ["bundled:1", "lego400:5", "lego400:15", "fox:10"],
    "cuda": ["bundled:0.1", "lego400:0.1", "lego400:0.25", "lego400:0.5", "fox:0.5"],
}


def measure(name: str, minutes: float, seed: int, keep: Path | None, device: str) -> dict[str, object]:
    import fieldstone as fs

    place = locate(name)
    if place is None:
        return {"skipped": "the data is not on this machine"}
    path, downscale = place
    with tempfile.TemporaryDirectory() as folder:
        out = (keep or Path(folder)) / f"{name}-{minutes:g}"
        began = time.perf_counter()
        run = fs.train_scene(path, out, minutes=minutes, downscale=downscale, seed=seed, device=device)
        trained = time.perf_counter() - began
        began = time.perf_counter()
        scores = fs.evaluate(run, split="test")
        evaluated = time.perf_counter() - began
        scene, capture = run.scene(), run.cameras_only
        views = capture.splits["test"][:8]
        began = time.perf_counter()
        for view in views:
            scene.render_view(capture.cameras, int(view))
        rendered = time.perf_counter() - began
        last = run.metrics()[-1]
        size = run.checkpoint_path.stat().st_size
    return {
        "psnr": round(scores["psnr"], 3),
        "ssim": round(scores["ssim"], 4),
        "views": len(scores["views"]),
        "worst_view_psnr": round(min(view["psnr"] for view in scores["views"]), 3),
        "steps": last["step"],
        "samples_millions": round(last["total_samples"] / 1e6, 1),
        "rays_millions": round(last["total_rays"] / 1e6, 2),
        "seconds_in_all": round(trained, 1),
        "render_seconds_a_view": round(rendered / len(views), 4),
        "evaluation_seconds_a_view": round(evaluated / len(scores["views"]), 3),
        "checkpoint_mb": round(size / 1e6, 1),
        "peak_memory_mb": round(peak_memory_mb()),
        "downscale": downscale,
        "seed": seed,
        "load_average_1_min": machine()["load_average_1_min"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="append", metavar="CAPTURE:MINUTES")
    parser.add_argument("--device", choices=tuple(DEFAULT), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder to keep the runs in")
    arguments = parser.parse_args()
    device = arguments.device
    title = "quality" if device == "cpu" else "quality_cuda"
    path = RESULTS / f"{title}.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    for item in arguments.run or DEFAULT[device]:
        name, _, minutes = item.partition(":")
        results[item] = measure(name, float(minutes), arguments.seed, arguments.keep, device)
        write_result("quality", results, out=path)
    rows = [
        [
            item,
            result["psnr"],
            result["ssim"],
            result["steps"],
            result["samples_millions"],
            result["seconds_in_all"],
        ]
        for item, result in results.items()
        if "psnr" in result
    ]
    print_table(title, ["capture:minutes", "PSNR dB", "SSIM", "steps", "M samples", "seconds in all"], rows)


if __name__ == "__main__":
    main()
