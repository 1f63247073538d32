"""Photographs in few bytes: packed image fields against JPEG and WebP at equal bytes.

    python -m benchmarks.kodak [--images kodim07 ...] [--scale 0.5] [--budgets 7000 10000 18000] [--steps 1000] [--batch 4096]

Photographs of ../shared/data/kodak, scaled down by area. Each model (cam, the same perceptron without modulation and norm, hash grid) is sized to each budget
of parameters, trained for the same number of steps of the same number of pixels, and packed (`fieldstone pack`); cam and fourier train the last part through 6
bits. A size is that of the file on disk. JPEG (optimised, at 4:2:0 and 4:4:4, the better of both) and WebP (method 6) are Pillow's, at all their
qualities; their PSNR at a model's bytes is interpolated over the logarithm of the size. PSNR in dB over all sRGB values. The result file grows model by
model, and what it has of the same steps, batch and size is not trained again.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from .harness import RESULTS, ROOT, print_table, write_result

DATA = ROOT.parent / "shared" / "data" / "kodak"
MODELS = ("cam", "fourier", "hash-grid")
BITS = (8, 6)
QUALITIES = (*range(1, 20), *range(20, 96, 3))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Of (h, w, 3) uint8."""
    error = np.square(first.astype(np.float64) - second).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))


def curve(picture: np.ndarray, codec: str) -> list[tuple[int, float]]:
    """Bytes and PSNR of all qualities, only those that no smaller file of the codec reaches."""
    from PIL import Image

    image, points = Image.fromarray(picture), []
    ways = [{"subsampling": s, "optimize": True} for s in (0, 2)] if codec == "JPEG" else [{"method": 6}]
    for quality in QUALITIES:
        for options in ways:
            buffer = io.BytesIO()
            image.save(buffer, codec, quality=quality, **options)
            size = buffer.tell()
            points.append((size, psnr(picture, np.asarray(Image.open(buffer).convert("RGB")))))
    best: list[tuple[int, float]] = []
    for size, value in sorted(points):
        if not best or value > best[-1][1]:
            best.append((size, value))
    return best


def at_bytes(points: list[tuple[int, float]], size: int) -> float | None:
    """PSNR of a codec at `size` bytes; None where even its smallest file is larger, or its largest smaller."""
    sizes, values = zip(*points)
    if not sizes[0] <= size <= sizes[-1]:
        return None
    return float(np.interp(np.log(size), np.log(sizes), values))


def field(file: Path, model: str, budget: int, steps: int, batch: int, folder: Path) -> dict[str, object]:
    """One model trained on one picture, as it is and packed."""
    from fieldstone.tools.images.evaluation import evaluate_image
    from fieldstone.tools.images.start import start_image
    from fieldstone.tools.packing.pack import open_run, pack

    settings = {"model": model, "parameters": budget, "batch": batch}
    if model != "hash-grid":
        settings["bits"] = 6
    began = time.process_time()
    run, _ = start_image(file, folder / "run", steps=steps, settings=settings, device="cpu", quiet=True)
    seconds = time.process_time() - began
    exact = evaluate_image(run)
    entry: dict[str, object] = {
        "parameters": exact["parameters"],
        "psnr_unquantised": round(exact["psnr"], 3),
        "cpu_seconds": round(seconds, 1),
        "packed": {},
    }
    for bits in BITS:
        packed = folder / f"{bits}.fsp"
        size = pack(run, packed, bits=bits)
        entry["packed"][str(bits)] = {
            "bytes": size,
            "psnr": round(evaluate_image(open_run(packed), data=file)["psnr"], 3),
        }
    return entry


def picture_result(path: Path, arguments: argparse.Namespace, results: dict[str, dict]) -> None:
    """One photograph, written into `results` and to the result file after each model."""
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB").reduce(round(1 / arguments.scale))
    picture = np.asarray(small)
    how = {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "steps": arguments.steps,
        "batch": arguments.batch,
    }
    codecs = {name.lower(): curve(picture, name) for name in ("JPEG", "WEBP")}
    before = results.get(path.stem, {})
    models = before["models"] if all(before.get(key) == value for key, value in how.items()) else {}
    curves = {name: [[size, round(value, 3)] for size, value in points] for name, points in codecs.items()}
    results[path.stem] = {**how, "codecs": curves, "models": models}
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / path.name
        small.save(file)
        for budget, model in itertools.product(arguments.budgets, MODELS):
            if str(budget) in models.get(model, {}):
                continue
            folder = Path(temporary) / f"{model}-{budget}"
            folder.mkdir()
            entry = field(file, model, budget, arguments.steps, arguments.batch, folder)
            for packed in entry["packed"].values():
                for codec, points in codecs.items():
                    beside = at_bytes(points, packed["bytes"])
                    packed[codec] = None if beside is None else round(beside, 3)
            models.setdefault(model, {})[str(budget)] = entry
            print(path.stem, budget, model, json.dumps(entry), flush=True)
            write_result("kodak", results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", nargs="+", default=["kodim07", "kodim13"])
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--budgets", type=int, nargs="+", default=[7_000, 10_000, 18_000])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=4096)
    arguments = parser.parse_args()
    files = [DATA / f"{name}.png" for name in arguments.images]
    if missing := [file.name for file in files if not file.is_file()]:
        raise SystemExit(f"{', '.join(missing)}: not in ../shared/data/kodak")
    path = RESULTS / "kodak.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else {}
    for file in files:
        picture_result(file, arguments, results)
        rows = [
            (model, budget, bits, packed["bytes"], packed["psnr"], packed["jpeg"], packed["webp"])
            for model, sizes in results[file.stem]["models"].items()
            for budget, entry in sizes.items()
            for bits, packed in entry["packed"].items()
        ]
        print_table(file.stem, ("model", "budget", "bits", "bytes", "PSNR", "JPEG there", "WebP there"), rows)


if __name__ == "__main__":
    main()
