"""Mesh primitives on the synthetic street against the hash-grid field given the same minutes.

    python -m benchmarks.street [--minutes 2] [--method dnmp --method dnmp:light --method hash-grid]

25 frames of 352 x 94 from two cameras 0.6 m apart, one frame without a pose: 24 training views, 12 held out between them. Beside these, views moved 1 m
to the right are rendered and compared with the street's own. Results are merged into results/street.json by method and minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from .harness import RESULTS, peak_memory_mb, print_table, write_result

FRAMES, WIDTH, HEIGHT, SHIFT = 25, 352, 94, 1.0
SHOWN = 13
"""The frame in the picture."""


def psnr(rendered: torch.Tensor, truth: np.ndarray) -> float:
    return float(-10 * torch.log10((rendered - torch.from_numpy(truth)).square().mean()))


def measure(
    data: Path, street, method: str, minutes: float, out: Path
) -> tuple[dict[str, object], np.ndarray]:
    """Figures of one run, and its picture: the held-out view above the one moved to the right."""
    import fieldstone as fs
    from fieldstone.datasets.synthetic.street_files import street_cameras

    name, _, preset = method.partition(":")
    run = fs.train_scene(
        data, out, minutes=minutes, method=name, settings={"preset": preset} if preset else {}, quiet=True
    )
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
        "minutes": minutes,
        "checkpoint_mb": round(run.checkpoint_path.stat().st_size / 1e6, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    if name == "dnmp":
        result["stage_1_seconds"] = round(60 * minutes * run.config["settings"]["geometry_share"], 1)
        result["primitives"] = len(scene.primitives.vertices) // 42
    return result, np.concatenate(pictures, 1)


def nearest_z(scene, cameras, frame: int) -> np.ndarray:
    """z_depth of the nearest primitive: what stage 1 left, as colours and opacities come after it."""
    from fieldstone.render.rasterise import fragments

    camera = cameras[frame].transformed(scene.frame)
    return fragments(scene.primitives.vertices, scene.primitives.faces, camera, 1).z_depth[..., 0].numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--method", action="append", metavar="METHOD[:PRESET]")
    parser.add_argument(
        "--data", type=Path, help="a folder for the street's files; used again if it is there"
    )
    parser.add_argument(
        "--pictures", type=Path, help="a folder for one picture a method: truth above, rendering below"
    )
    arguments = parser.parse_args()
    from fieldstone.datasets.synthetic.street import Street
    from fieldstone.datasets.synthetic.street_files import write_street

    path = RESULTS / "street.json"
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "street"
        street = Street(0) if data.exists() else write_street(data, frames=FRAMES, width=WIDTH, height=HEIGHT)
        for method in arguments.method or ["dnmp", "hash-grid", "dnmp:light"]:
            out = Path(folder) / method.replace(":", "-")
            figures, picture = measure(data, street, method, arguments.minutes, out)
            results[f"{method}, {arguments.minutes:g} minutes"] = figures
            print(method, figures, flush=True)
            if arguments.pictures:
                from PIL import Image

                arguments.pictures.mkdir(parents=True, exist_ok=True)
                pixels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
                Image.fromarray(pixels).save(arguments.pictures / f"street_{method.replace(':', '_')}.png")
            write_result("street", results)
    keys = ["psnr_held_out", "psnr_moved_1_m", "median_z_depth_error_m", "render_ms_per_1k_pixels", "steps"]
    print_table(
        "synthetic street", ["", *keys], [[name, *(r[key] for key in keys)] for name, r in results.items()]
    )


if __name__ == "__main__":
    main()
