"""Mesh primitives on the synthetic street against the hash-grid field given the same minutes.

    python -m benchmarks.street [--minutes 2] [--method dnmp --method dnmp:light --method hash-grid] [--frame]

25 frames of 352 x 94 from two cameras 0.6 m apart, one frame without a pose: 24 training views, 12 held out between them. Beside these, views moved 1 m
to the right are rendered and compared with the street's own. `--frame` measures instead what one whole picture of KITTI-360's size costs, with
geometry, colours and far field, in a process of its own. Results are merged into results/street.json by method and minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from .harness import RESULTS, peak_memory_mb, print_table, write_result

FRAMES, WIDTH, HEIGHT, SHIFT = 25, 352, 94, 1.0
FRAME_KEY = "one picture of 1408 x 376, "
SHOWN = 13
"""The frame in the picture."""


def psnr(rendered: torch.Tensor, truth: np.ndarray) -> float:
    return float(-10 * torch.log10((rendered - torch.from_numpy(truth)).square().mean()))


def measure(
    data: Path, street, method: str, budget: dict, settings: dict, out: Path
) -> tuple[dict[str, object], np.ndarray]:
    """Figures of one run, and its picture: the held-out view above the one moved to the right."""
    import fieldstone as fs
    from fieldstone.datasets.synthetic.street_files import street_cameras

    name, _, preset = method.partition(":")
    settings = settings | ({"preset": preset} if preset else {})
    run = fs.train_scene(data, out, **budget, method=name, settings=settings, quiet=True)
    scene, held = run.scene(), range(1, FRAMES, 2)
    straight, moved = (street_cameras(FRAMES, WIDTH, HEIGHT, shift=shift) for shift in (0.0, SHIFT))
    figures: dict[str, list[float]] = {
        "psnr_held_out": [],
        "psnr_moved": [],
        "z_depth_error": [],
        "seconds": [],
    }
    pictures = []
    for frame in held:
        for cameras, key in ((straight, "psnr_held_out"), (moved, "psnr_moved")):
            truth = street.render(cameras, frame)
            began = time.perf_counter()
            view = scene.render_view(cameras, frame)
            figures["seconds"].append(time.perf_counter() - began)
            figures[key].append(psnr(view["colour"], truth["colour"]))
            if frame == SHOWN:
                pictures.append(np.concatenate([truth["colour"], view["colour"].numpy()], 0))
            if cameras is straight:
                z = nearest_z(scene, cameras, frame) if name == "dnmp" else view["z_depth_median"].numpy()
                both = (truth["z_depth"] > 0) & (z > 0)
                figures["z_depth_error"].append(float(np.median(np.abs(z - truth["z_depth"])[both])))
    result = {
        "psnr_held_out": round(float(np.mean(figures["psnr_held_out"])), 3),
        "psnr_moved_1_m": round(float(np.mean(figures["psnr_moved"])), 3),
        "median_z_depth_error_m": round(float(np.median(figures["z_depth_error"])), 4),
        "render_ms_per_1k_pixels": round(float(np.median(figures["seconds"])) * 1e6 / (WIDTH * HEIGHT), 3),
        "steps": run.metrics()[-1]["step"],
        **budget,
        "checkpoint_mb": round(run.checkpoint_path.stat().st_size / 1e6, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    if name == "dnmp":
        if "minutes" in budget:
            share = run.config["settings"]["geometry_share"]
            result["stage_1_seconds"] = round(60 * budget["minutes"] * share, 1)
        result["primitives"] = len(scene.primitives.vertices) // 42
    return result, np.concatenate(pictures, 1)


def nearest_z(scene, cameras, frame: int) -> np.ndarray:
    """z_depth of the nearest primitive: what stage 1 left, as colours and opacities come after it."""
    from fieldstone.render.rasterise import fragments

    camera = cameras[frame].transformed(scene.frame)
    return fragments(scene.primitives.vertices, scene.primitives.faces, camera, 1).z_depth[..., 0].numpy()


FRAME = """
import resource, sys, time
from pathlib import Path
import torch
from fieldstone.tools.training.dnmp import DnmpMethod
from fieldstone.datasets import open as open_capture
from fieldstone.datasets.synthetic.street_files import street_cameras
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
method = DnmpMethod(open_capture(Path(sys.argv[1])), {"preset": sys.argv[2]}, seed=0, device="cpu")
scene, cameras = method.scene(), street_cameras(1, 1408, 376)
built = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.perf_counter()
scene.render_view(cameras, 0, normals=True)
seconds = time.perf_counter() - began
print(start, built, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, len(scene.primitives.vertices) // 42, seconds)
"""
"""An untrained scene: everything is open and full of fog, so its far field costs more than it ever will."""


def measure_frame(data: Path, preset: str) -> dict[str, object]:
    """Peak memory of a process that renders one picture of 1408 x 376, and how much of it was there before."""
    told = subprocess.run(
        [sys.executable, "-c", FRAME, str(data), preset], check=True, capture_output=True, text=True
    )
    start, built, peak, primitives, seconds = map(float, told.stdout.split())
    return {
        "peak_memory_mb": round(peak * 1024 / 1e6),
        "after_imports_mb": round(start * 1024 / 1e6),
        "with_the_scene_mb": round(built * 1024 / 1e6),
        "primitives": int(primitives),
        "seconds_untrained": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--steps", type=int, help="instead of minutes: for trying things; nothing is written")
    parser.add_argument("--method", action="append", metavar="METHOD[:PRESET]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of every method given"
    )
    parser.add_argument("--frame", action="store_true", help="memory of one large picture, default and light")
    parser.add_argument(
        "--data", type=Path, help="a folder for the street's files; used again if it is there"
    )
    parser.add_argument(
        "--pictures", type=Path, help="a folder for one picture a method: truth above, rendering below"
    )
    arguments = parser.parse_args()
    from fieldstone.datasets.synthetic.street import Street
    from fieldstone.datasets.synthetic.street_files import write_street
    from fieldstone.tools.commands.arguments import setting

    settings = dict(setting(text) for text in arguments.set)
    budget = {"steps": arguments.steps} if arguments.steps else {"minutes": arguments.minutes}
    path = RESULTS / "street.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "street"
        street = Street(0) if data.exists() else write_street(data, frames=FRAMES, width=WIDTH, height=HEIGHT)
        if arguments.frame:
            for preset in ("default", "light"):
                results[f"{FRAME_KEY}{preset}"] = figures = measure_frame(data, preset)
                print(preset, figures, flush=True)
            write_result("street", results)
            return
        for method in arguments.method or ["dnmp", "hash-grid", "dnmp:light"]:
            out = Path(folder) / method.replace(":", "-")
            figures, picture = measure(data, street, method, budget, settings, out)
            label = ", ".join(
                [method, *arguments.set, *(f"{value:g} {unit}" for unit, value in budget.items())]
            )
            results[label] = figures
            print(label, figures, flush=True)
            if arguments.pictures:
                from PIL import Image

                arguments.pictures.mkdir(parents=True, exist_ok=True)
                pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(arguments.pictures / f"street_{method.replace(':', '_')}.png")
            if not arguments.steps:
                write_result("street", results)
    keys = ["psnr_held_out", "psnr_moved_1_m", "median_z_depth_error_m", "render_ms_per_1k_pixels", "steps"]
    rows = [
        [name, *(r[key] for key in keys)] for name, r in results.items() if not name.startswith(FRAME_KEY)
    ]
    print_table("synthetic street", ["", *keys], rows)


if __name__ == "__main__":
    main()
