"""Video as a small network: modulation against the same generator without it, and against x264, at equal bytes.

    python -m benchmarks.video [--clip people --clip carphone] [--part gain --part rate --part x264] [--part flow --part longer]
    python -m benchmarks.video --device cuda --workers 8 --train-only --runs FOLDER       (where the GPU is)
    python -m benchmarks.video --device cuda --runs FOLDER                                (anywhere else, with that folder)

Clips are those of ../shared/data/video (or `--data`, where a clip may be a folder of its frames). Every model is trained as `train-video` does
(squared error, steps fixed for both sides, the last 40 % through 8 bits), packed to 8 bits, and what is quoted is the packed file: its bytes on disk and
PSNR and SSIM of the frames decoded from it on the CPU, 8-bit RGB, the mean over frames. "gain": modulated and plain at two learning rates, seed by seed; the plain
generator has 2 % more parameters, so that its file is not the shorter one. "rate": a smaller and a larger budget of both. "longer": batches of several frames, both.
"flow": the modulated one with flows from its neighbours. "x264": `-preset slow -crf N` of the clip's own 4:2:0 frames, decoded and compared in the same way; its bytes
are the bare H.264 stream without container and without the encoder's own comment, ours are the whole file.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .harness import RESULTS, ROOT, print_table, write_result

TRAINED = ("gain", "rate", "longer", "flow")
PARTS = (*TRAINED, "x264")
DEFAULT = ("gain", "rate", "x264")
DATA = ROOT.parent / "shared" / "data" / "video"
_CRF = range(12, 46, 3)
_WIDER = 1.02
"""Parameters of the plain generator for each of the modulated one."""
_RATES = (0.02, 0.01)


@dataclass(frozen=True)
class Model:
    """One generator to train."""

    method: str
    budget: int
    steps: int
    seed: int = 0
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def parameters(self) -> int:
        """At most so many."""
        return self.budget if self.method == "cam" else int(self.budget * _WIDER)

    @property
    def name(self) -> str:
        extra = "".join(f"_{key}-{value}" for key, value in self.settings)
        return f"{self.method}_{self.parameters}_{self.steps}_{self.seed}{extra}"


@dataclass(frozen=True)
class Case:
    """One clip and how it is learned."""

    file: str
    parameters: tuple[int, int, int]
    """Budgets: a smaller one, that of "gain", a larger one."""
    steps: int
    rate: float
    """Learning rate of all but "gain": the better one of the plain generator."""
    batch: int
    """Frames a step of "longer"."""
    size: tuple[int, int] | None = None
    fps: float | None = None

    def models(self, part: str, seeds: int) -> list[Model]:
        low, middle, high = self.parameters
        best = ("learning_rate", self.rate)
        if part == "gain":
            rates = [(("learning_rate", rate),) for rate in _RATES]
            return [m for seed in range(seeds) for rate in rates for m in self._both(middle, seed, rate)]
        if part == "rate":
            return [model for budget in (low, high) for model in self._both(budget, 0, (best,))]
        if part == "longer":
            return self._both(middle, 0, (best, ("batch", self.batch)))
        return [Model("cam", middle, self.steps, 0, (best, ("neighbours", 1)))]

    def _both(self, parameters: int, seed: int, settings: tuple) -> list[Model]:
        return [
            Model("cam", parameters, self.steps, seed, settings),
            Model("plain", parameters, self.steps, seed, settings),
        ]


CASES = {
    "people": Case(
        "CiscoVT2people_320x192_12fps.yuv", (25_000, 50_000, 100_000), 4000, 0.02, 3, (320, 192), 12.0
    ),
    "carphone": Case("carphone_pristine.mp4", (60_000, 100_000, 150_000), 6000, 0.01, 4),
}


def clip_of(case: Case, data: Path) -> Path:
    """The clip in `data`, or the folder of its frames."""
    file = data / case.file
    return file if file.exists() else data / file.stem


def learned(name: str, model: Model, folder: Path, data: Path, device: str, alone: bool) -> Path:
    """The run of one model in `folder`, trained or gone on with; a run that is there already is not trained again."""
    from fieldstone.tools.api import Run
    from fieldstone.tools.video.start import resume_video, start_video

    case = CASES[name]
    if not alone:
        import torch

        torch.set_num_threads(1)
    path = folder / f"{name}_{model.name}"
    if not Run.exists(path):
        settings = {
            "model": model.method,
            "parameters": model.parameters,
            "loss": "mse",
            "bits": 8,
            **dict(model.settings),
        }
        _, outcome = start_video(
            clip_of(case, data), path, size=case.size, fps=case.fps, steps=model.steps, seed=model.seed,
            settings=settings, device=device, quiet=True, report=False,
        )  # fmt: skip
    else:
        lines = Run.open(path).metrics()
        if lines and lines[-1]["step"] >= model.steps:
            return path
        _, outcome = resume_video(path, quiet=True, report=False)
    if outcome.interrupted is not None:
        raise SystemExit(f"interrupted at step {outcome.step}; the same command goes on")
    return path


def measured(name: str, model: Model, folder: Path, data: Path) -> dict:
    """The run packed to 8 bits, decoded from the packed file and measured."""
    import fieldstone as fs
    from fieldstone.tools.packing.pack import pack

    case, path = CASES[name], folder / f"{name}_{model.name}"
    run = fs.load_run(path)
    trained_on = run.config["device"]
    packed = path.parent / f"{path.name}.fsp"
    size = pack(run, packed, bits=8)
    clip = clip_of(case, data)
    exact, result = fs.evaluate(run, data=clip), fs.evaluate(packed, data=clip)
    settings, shape = run.config["settings"], run.method("cpu").field.shape
    return {
        "method": settings["model"],
        "seed": run.config["seed"],
        "budget": model.budget,
        "steps": run.metrics()[-1]["step"],
        **{key: settings[key] for key in ("learning_rate", "batch", "neighbours")},
        "place_spacing": shape.place_spacing,
        "place_rank": shape.place_rank if shape.place_spacing else 0,
        "channels": list(shape.channels),
        "parameters": exact["parameters"],
        "bytes": size,
        "psnr": round(result["psnr"], 3),
        "ssim": round(result["ssim"], 4),
        "psnr_unpacked": round(exact["psnr"], 3),
        "seconds": round(run.metrics()[-1]["elapsed"], 1),
        "trained_on": trained_on,
    }


def encoded(case: Case, crf: int, clip: Path) -> dict:
    """What x264 makes of the clip at one quality."""
    import numpy as np

    from fieldstone.datasets.moving_picture import open_moving_picture
    from fieldstone.tools import metrics

    raw = case.size is not None
    source = ["-i", str(clip)]
    if raw:
        sizes = f"{case.size[0]}x{case.size[1]}"
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", sizes, "-r", f"{case.fps:g}", *source]
    with tempfile.TemporaryDirectory() as folder:
        whole, bare, planes = (Path(folder) / name for name in ("x.mp4", "x.264", "x.yuv"))
        options = ["-c:v", "libx264", "-preset", "slow", "-crf", str(crf), "-pix_fmt", "yuv420p", "-an"]
        _ffmpeg(*source, *options, whole)
        _ffmpeg("-i", whole, "-c", "copy", "-bsf:v", "h264_mp4toannexb,filter_units=remove_types=6", bare)
        if raw:  # decoded by the same conversion as the clip itself is read
            _ffmpeg("-i", whole, "-f", "rawvideo", "-pix_fmt", "yuv420p", planes)
            decoded = open_moving_picture(planes, size=case.size)
        else:
            decoded = open_moving_picture(whole)
        truth = open_moving_picture(clip, size=case.size)
        if len(decoded) != len(truth):
            raise SystemExit(f"x264 gave {len(decoded)} frames of {len(truth)}")
        scores = [
            (metrics.psnr(a, b), metrics.ssim(a, b))
            for a, b in (
                (decoded.frame(n).astype(np.float32) / 255, truth.frame(n).astype(np.float32) / 255)
                for n in range(len(truth))
            )
        ]
        psnr, ssim = np.mean(scores, axis=0)
        return {
            "crf": crf,
            "bytes": bare.stat().st_size,
            "bytes_mp4": whole.stat().st_size,
            "psnr": round(float(psnr), 3),
            "ssim": round(float(ssim), 4),
        }


def _ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def at_bytes(curve: list[dict], size: int) -> float | None:
    """PSNR of a curve at `size` bytes, linear in the logarithm of bytes between its points; None outside them."""
    import numpy as np

    points = sorted((point["bytes"], point["psnr"]) for point in curve)
    if not points or not points[0][0] <= size <= points[-1][0]:
        return None
    sizes, values = zip(*points)
    return float(np.interp(np.log(size), np.log(sizes), values))


def slope(rows: list[dict]) -> float | None:
    """dB that the plain generator gains when its file doubles, by least squares over budgets of one rate and seed 0; None for one budget."""
    import numpy as np

    rows = [row for row in rows if row["method"] == "plain" and row["seed"] == 0]
    rates = [row["learning_rate"] for row in rows]
    rows = [row for row in rows if rates and row["learning_rate"] == max(rates, key=rates.count)]
    if len({row["budget"] for row in rows}) < 2:
        return None
    return float(np.polyfit([math.log2(row["bytes"]) for row in rows], [row["psnr"] for row in rows], 1)[0])


def summary(result: dict) -> dict:
    """Gains of pairs that differ in the method alone, and the distance to x264, from the rows of one clip."""
    gains, best = [], {}
    steps_up = slope([row for part in ("gain", "rate") for row in result.get(part, [])])
    for part in TRAINED:
        pairs: dict[tuple, dict[str, dict]] = {}
        for row in result.get(part, []):
            if row["neighbours"]:
                continue
            same = row["learning_rate"], row["batch"], row["seed"], row["budget"]
            pairs.setdefault(same, {})[row["method"]] = row
        for (rate, batch, seed, budget), pair in pairs.items():
            if len(pair) == 2:
                cam, plain = pair["cam"], pair["plain"]
                gain = cam["psnr"] - plain["psnr"]
                equal = (
                    None if steps_up is None else gain - steps_up * math.log2(cam["bytes"] / plain["bytes"])
                )
                gains.append(
                    {
                        "part": part,
                        "learning_rate": rate,
                        "batch": batch,
                        "seed": seed,
                        "budget": budget,
                        "gain_db": round(gain, 3),
                        "gain_at_equal_bytes_db": None if equal is None else round(equal, 3),
                        "bytes": cam["bytes"],
                        "plain_bytes": plain["bytes"],
                    }
                )
    for method in ("cam", "plain"):
        rates = {row["learning_rate"] for row in result.get("gain", [])}
        means = [
            sum(values) / len(values)
            for rate in rates
            if (values := [r["psnr"] for r in result["gain"] if r["method"] == method and r["learning_rate"] == rate])
        ]  # fmt: skip
        best[method] = max(means, default=None)
    found = {"plain_db_a_doubling_of_bytes": None if steps_up is None else round(steps_up, 3), "gains": gains}
    if None not in best.values() and best:
        found["each_at_its_better_rate_db"] = {k: round(v, 3) for k, v in best.items()}
        found["gain_at_better_rates_db"] = round(best["cam"] - best["plain"], 3)
    curve, against = result.get("x264", []), []
    for row in [row for part in TRAINED for row in result.get(part, []) if row["seed"] == 0]:
        other = at_bytes(curve, row["bytes"])
        near = min(curve, key=lambda point: abs(point["psnr"] - row["psnr"]), default=None)
        against.append(
            {
                **{key: row[key] for key in ("method", "steps", "learning_rate", "batch", "bytes", "psnr")},
                "x264_psnr": None if other is None else round(other, 2),
                "x264_bytes_of_nearest_psnr": None if near is None else near["bytes"],
            }
        )
    found["against_x264"] = sorted(against, key=lambda row: row["bytes"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", choices=tuple(CASES), action="append", help="only this")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; others keep their result")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where models are trained")
    parser.add_argument("--workers", type=int, default=1, help="models trained at a time")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the clips")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/video"), help="folder of runs; those in it are used"
    )
    parser.add_argument("--train-only", action="store_true", help="train the runs and measure nothing")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"no clips: {arguments.data} is not there")
    names, parts = arguments.clip or list(CASES), arguments.part or list(DEFAULT)
    jobs = [
        (part, name, model)
        for part in parts
        for name in names
        if part != "x264"
        for model in CASES[name].models(part, arguments.seeds)
    ]
    train(jobs, arguments)
    if arguments.train_only:
        return
    path = RESULTS / "video.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else {}
    for name in names:
        result = results.setdefault(name, {})
        for part in parts:
            if part == "x264":
                clip = clip_of(CASES[name], arguments.data)
                result[part] = [encoded(CASES[name], crf, clip) for crf in _CRF]
            else:
                models = [model for where, clip, model in jobs if (where, clip) == (part, name)]
                result[part] = [measured(name, model, arguments.runs, arguments.data) for model in models]
        result["summary"] = summary(result)
        _show(name, result)
        write_result("video", results)


def train(jobs: list[tuple[str, str, Model]], arguments: argparse.Namespace) -> None:
    """Trains what is not trained yet, `--workers` at a time."""
    alone = arguments.workers == 1
    places = arguments.runs, arguments.data, arguments.device, alone
    if alone:
        for _, name, model in jobs:
            learned(name, model, *places)
        return
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(learned, name, model, *places) for _, name, model in jobs]:
            print(done.result().name, flush=True)


def _show(name: str, result: dict) -> None:
    rows = [
        [
            f"{row['method']}, {row['steps']} steps of {row['batch']}, rate {row['learning_rate']}, seed {row['seed']}",
            row["parameters"],
            row["bytes"],
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
        ]
        for part in TRAINED
        for row in result.get(part, [])
    ]
    rows += [
        [f"x264 crf {row['crf']}", "", row["bytes"], f"{row['psnr']:.2f}", f"{row['ssim']:.4f}"]
        for row in result.get("x264", [])
    ]
    print_table(name, ["model", "parameters", "bytes", "PSNR", "SSIM"], rows)
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
