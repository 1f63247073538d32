"""Mesh primitives on 16 real KITTI frames against the hash-grid field given the same minutes.

    python -m benchmarks.kitti [--minutes 3] [--method dnmp --method hash-grid] [--pictures FOLDER]

Frames 0-15 of a drive of 2011_09_26 (3.55 m of motion, one camera, poses from the scans): every fourth is held out, 12 train. Pictures are shrunk to half
their side. PSNR and SSIM are of the raw renderings; no exposure or pose is fitted to held-out pictures. They are also given apart for what lies
below and above the scanner's highest beam (+2 degrees), where no point ever is. Skips where the data are absent. Merged into results/kitti.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from .captures import SHARED
from .harness import RESULTS, peak_memory_mb, print_table, write_result

DATA = SHARED / "kitti_20110926"
DOWNSCALE = 2
HIGHEST_BEAM = np.radians(2.0)
TRUCKS = 0.6
"""Share of the width beyond which two driving lorries fill the picture (seen by eye); left of it only the car in front drives."""
SHOWN = 6
"""The held-out frame in the picture."""


def above_the_scanner(cameras, index: int) -> np.ndarray:
    """(h, w) bool: pixels that look higher than the highest beam, from the camera, 8 cm below the scanner. The world's z is up."""
    width, height = cameras.size(index)
    return (cameras.image_rays(index).directions[:, 2].numpy() > np.sin(HIGHEST_BEAM)).reshape(height, width)


def measure(method: str, budget: dict, settings: dict, out: Path) -> tuple[dict[str, object], np.ndarray]:
    """Figures of one run, and the shown frame: rendering, and its error."""
    import fieldstone as fs
    from fieldstone.tools.metrics import error_map, psnr, ssim

    name, _, preset = method.partition(":")
    settings = settings | ({"preset": preset} if preset else {})
    run = fs.train_scene(DATA, out, **budget, method=name, downscale=DOWNSCALE, settings=settings, quiet=True)
    scene, capture = run.scene(), run.capture()
    figures: dict[str, list[float]] = {
        "psnr": [], "ssim": [], "psnr_below": [], "psnr_above": [], "psnr_left": [], "seconds": []
    }  # fmt: skip
    picture = None
    for index in capture.splits["test"].tolist():
        truth = capture.images[index]
        began = time.perf_counter()
        view = scene.render_view(capture.cameras, index)
        figures["seconds"].append(time.perf_counter() - began)
        colour, above = view["colour"].numpy(), above_the_scanner(capture.cameras, index)
        figures["psnr"].append(psnr(colour, truth))
        figures["ssim"].append(ssim(colour, truth))
        figures["psnr_below"].append(psnr(colour, truth, ~above))
        figures["psnr_above"].append(psnr(colour, truth, above))
        left = int(TRUCKS * truth.shape[1])
        figures["psnr_left"].append(psnr(colour[:, :left], truth[:, :left]))
        if capture.names[index].endswith(f"{SHOWN:010d}.png"):
            picture = np.concatenate([truth, colour, error_map(colour, truth) / 255.0], 0)
    width, height = capture.cameras.size(0)
    means = {key: float(np.mean(values)) for key, values in figures.items()}
    result = {
        "psnr": round(means["psnr"], 3),
        "ssim": round(means["ssim"], 4),
        "psnr_below_the_highest_beam": round(means["psnr_below"], 3),
        "psnr_above_it": round(means["psnr_above"], 3),
        "psnr_left_of_the_lorries": round(means["psnr_left"], 3),
        "psnr_of_each_view": [round(value, 2) for value in figures["psnr"]],
        "render_ms_per_1k_pixels": round(float(np.median(figures["seconds"])) * 1e6 / (width * height), 3),
        **budget,
        "steps": run.metrics()[-1]["step"],
        "pixels": [width, height],
        "settings": settings,
        "peak_memory_mb": round(peak_memory_mb()),
    }
    if name == "dnmp":
        result["primitives"] = len(scene.primitives.vertices) // 42
    return result, picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="instead of minutes: for trying things; nothing is written")
    parser.add_argument("--method", action="append", metavar="METHOD[:PRESET]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of every method given"
    )
    parser.add_argument(
        "--pictures", type=Path, help="a folder for one picture a method: truth, rendering, error"
    )
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print("kitti: skipped, ../shared/data/kitti_20110926 is not there")
        return
    from fieldstone.tools.commands.arguments import setting

    path = RESULTS / "kitti.json"
    budget = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    settings = dict(setting(text) for text in arguments.set)
    for method in arguments.method or ["dnmp", "hash-grid"]:
        with tempfile.TemporaryDirectory() as folder:
            figures, picture = measure(method, budget, settings, Path(folder) / "run")
        label = ", ".join([method, *arguments.set, *(f"{value:g} {unit}" for unit, value in budget.items())])
        results[label] = figures
        print(label, figures, flush=True)
        if arguments.pictures:
            from PIL import Image

            arguments.pictures.mkdir(parents=True, exist_ok=True)
            pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
            Image.fromarray(pixels).save(arguments.pictures / f"kitti_{method.replace(':', '_')}.png")
        if not arguments.steps:
            write_result("kitti", results)
    keys = [
        "psnr",
        "psnr_below_the_highest_beam",
        "psnr_above_it",
        "psnr_left_of_the_lorries",
        "ssim",
        "render_ms_per_1k_pixels",
        "steps",
    ]
    print_table("KITTI", ["", *keys], [[name, *(r[key] for key in keys)] for name, r in results.items()])


if __name__ == "__main__":
    main()
