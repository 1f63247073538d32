"""Photographs in few bytes: packed image fields against JPEG and WebP at equal bytes.

    python -m benchmarks.kodak [--images kodim07 ...] [--scale 1] [--budgets 7000 18000 40000] [--steps 10000] [--batch 16384]
    python -m benchmarks.kodak --device cuda --workers 12 --train-only --runs FOLDER       (where the GPU is)
    python -m benchmarks.kodak --device cuda --runs FOLDER                                 (anywhere else, with that folder)

Photographs of ../shared/data/kodak (or `--data`), scaled down by area. Each model (cam, the same perceptron without modulation and norm,
hash grid) is sized to each budget of parameters, trained for the same number of steps of the same number of pixels, and packed (`fieldstone
pack`). Training may be done on a GPU, several models at a time; packing and what is measured are the CPU's, from the packed files. A size is
that of the file on disk. JPEG (optimised, at 4:2:0 and 4:4:4, the better of both) and WebP (method 6) are Pillow's, at all their qualities;
their PSNR at a model's bytes is interpolated over the logarithm of the size. PSNR in dB over all sRGB values. The result file grows model by
model, and what it has of the same steps, batch and size is not trained again.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .harness import RESULTS, ROOT, print_table, write_result

DATA = ROOT.parent / "shared" / "data" / "kodak"
MODELS = ("cam", "fourier", "hash-grid")
BITS = (8, 7, 6)
QUALITIES = (*range(20), *range(20, 96, 3))


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


@dataclass(frozen=True)
class Job:
    """One model of one picture."""

    image: str
    model: str
    budget: int
    steps: int
    batch: int
    scale: float
    device: str

    def folder(self, runs: Path) -> Path:
        return runs / f"{self.image}-{self.model}-{self.budget}"

    @property
    def settings(self) -> dict[str, object]:
        return {"model": self.model, "parameters": self.budget, "batch": self.batch}


def reduced(file: Path, scale: float):
    """The photograph in the size that is learned, a Pillow image."""
    from PIL import Image

    with Image.open(file) as image:
        return image.convert("RGB").reduce(round(1 / scale))


def trained(job: Job, runs: Path, picture: Path) -> dict[str, object]:
    """How the model was trained; it is, where `runs` has it not."""
    import torch

    from fieldstone.tools.images.start import start_image

    folder = job.folder(runs)
    record = folder / "trained.json"
    if record.is_file():
        how = json.loads(record.read_text())
        if how["job"] != asdict(job):
            raise SystemExit(
                f"{folder}: was trained as {how['job']}, not as {asdict(job)}; use another --runs"
            )
        return how
    shutil.rmtree(folder, ignore_errors=True)  # one that was broken off
    folder.mkdir(parents=True)
    torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    _, outcome = start_image(
        picture, folder / "run", steps=job.steps, settings=job.settings, device=job.device, quiet=True
    )
    if outcome.interrupted is not None:
        raise SystemExit(f"{folder}: broken off at step {outcome.step}")
    how = {
        "job": asdict(job),
        "device": torch.cuda.get_device_name() if job.device == "cuda" else "one CPU thread",
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }
    record.write_text(json.dumps(how))
    return how


def entry(
    job: Job, runs: Path, picture: Path, codecs: dict[str, list[tuple[int, float]]]
) -> dict[str, object]:
    """A trained model as it is and packed, beside the codecs at the same bytes."""
    from fieldstone.tools.images.evaluation import evaluate_image
    from fieldstone.tools.packing.pack import open_run, pack
    from fieldstone.tools.training.run import Run

    how = trained(job, runs, picture)
    folder = job.folder(runs)
    run = Run.open(folder / "run")
    exact = evaluate_image(run, data=picture)
    packed = {}
    for bits in BITS:
        file = folder / f"{bits}.fsp"
        size = pack(run, file, bits=bits)
        packed[str(bits)] = {
            "bytes": size,
            "psnr": round(evaluate_image(open_run(file), data=picture)["psnr"], 3),
        }
        for codec, points in codecs.items():
            beside = at_bytes(points, size)
            packed[str(bits)][codec] = None if beside is None else round(beside, 3)
    return {
        "parameters": exact["parameters"],
        "psnr_unquantised": round(exact["psnr"], 3),
        **{key: how[key] for key in ("device", "torch", "seconds", "cpu_seconds")},
        "trained_through_bits": run.config["settings"]["bits"],
        "packed": packed,
    }


def measure(
    image: str, file: Path, runs: Path, arguments: argparse.Namespace, results: dict[str, dict]
) -> dict:
    """All models of one photograph, written into `results` and to the result file one by one."""
    picture = np.asarray(reduced(file, arguments.scale))
    how = {
        "width": picture.shape[1],
        "height": picture.shape[0],
        "steps": arguments.steps,
        "batch": arguments.batch,
    }
    codecs = {name.lower(): curve(picture, name) for name in ("JPEG", "WEBP")}
    name = image if arguments.scale == 1 else f"{image} at {arguments.scale:g}"
    before = results.get(name, {})
    models = before["models"] if all(before.get(key) == value for key, value in how.items()) else {}
    curves = {name: [[size, round(value, 3)] for size, value in points] for name, points in codecs.items()}
    results[name] = {**how, "codecs": curves, "models": models}
    for job in jobs(image, arguments):
        if str(job.budget) not in models.get(job.model, {}):
            found = entry(job, runs, runs / f"{image}.png", codecs)
            models.setdefault(job.model, {})[str(job.budget)] = found
            print(image, job.budget, job.model, json.dumps(found), flush=True)
            write_result("kodak", results)
    return results[name]


def jobs(image: str, arguments: argparse.Namespace) -> list[Job]:
    return [
        Job(image, model, budget, arguments.steps, arguments.batch, arguments.scale, arguments.device)
        for budget, model in itertools.product(sorted(arguments.budgets, reverse=True), arguments.models)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", nargs="+", default=["kodim07", "kodim13", "kodim04", "kodim22"])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the photographs")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--budgets", type=int, nargs="+", default=[7_000, 18_000, 40_000])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=1 << 14)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where models are trained")
    parser.add_argument("--workers", type=int, default=1, help="models trained at a time")
    parser.add_argument("--runs", type=Path, help="a folder to keep the runs in, and to take them from")
    parser.add_argument(
        "--train-only", action="store_true", help="leave the rest to a second call with the same --runs"
    )
    arguments = parser.parse_args()
    files = {name: arguments.data / f"{name}.png" for name in arguments.images}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise SystemExit(f"{', '.join(missing)}: not in {arguments.data}")
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            if not (runs / f"{name}.png").is_file():
                reduced(file, arguments.scale).save(runs / f"{name}.png")
        if arguments.workers > 1 or arguments.train_only:
            todo = [job for name in files for job in jobs(name, arguments)]
            with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
                waiting = [pool.submit(trained, job, runs, runs / f"{job.image}.png") for job in todo]
                for job, done in zip(todo, waiting):
                    print(job.image, job.budget, job.model, json.dumps(done.result()), flush=True)
        if arguments.train_only:
            return
        path = RESULTS / "kodak.json"
        results = json.loads(path.read_text())["results"] if path.is_file() else {}
        for name, file in files.items():
            found = measure(name, file, runs, arguments, results)
            rows = [
                (model, budget, bits, packed["bytes"], packed["psnr"], packed["jpeg"], packed["webp"])
                for model, sizes in found["models"].items()
                for budget, one in sizes.items()
                for bits, packed in one["packed"].items()
            ]
            header = ("model", "budget", "bits", "bytes", "PSNR", "JPEG there", "WebP there")
            print_table(name, header, rows)


if __name__ == "__main__":
    main()
