"""Video as a small network: modulation against the same generator without it, and against x264, at equal bytes.

    python -m benchmarks.video [--clip people --clip carphone] [--part short --part long --part rate --part x264]

Clips are those of ../shared/data/video. Every model is trained through `train-video` (squared error, steps fixed for both sides), packed to
8 bits, and what is quoted is the packed file: its bytes on disk and PSNR and SSIM of the frames decoded from it, 8-bit RGB, the mean over
frames. "short" and "long": each method with every seed; the plain generator is as wide as makes its file at least as long. "rate":
other sizes of the modulated one. "x264": `-preset slow -crf N` of the clip's own 4:2:0 frames, decoded and compared in the same way; its bytes are the bare
H.264 stream without container and without the encoder's own comment, ours are the whole file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .harness import RESULTS, ROOT, print_table, write_result

PARTS = ("short", "long", "rate", "x264")
DATA = ROOT.parent / "shared" / "data" / "video"
_CRF = range(12, 46, 3)
_WIDER = 1.02
"""Parameters of the plain generator for each of the modulated one, so that its file is not the shorter one."""


@dataclass(frozen=True)
class Model:
    """One generator to train."""

    method: str
    parameters: int
    steps: int
    seed: int = 0
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def name(self) -> str:
        extra = "".join(f"_{key}-{value}" for key, value in self.settings)
        return f"{self.method}_{self.parameters}_{self.steps}_{self.seed}{extra}"


@dataclass(frozen=True)
class Case:
    """One clip and how it is learned."""

    file: str
    short: tuple[int, int]
    """Parameters and steps of a short training."""
    long: tuple[int, int]
    long_settings: tuple[tuple[str, object], ...]
    rate: tuple[Model, ...]
    size: tuple[int, int] | None = None
    fps: float | None = None

    def models(self, part: str, seeds: int) -> list[Model]:
        if part == "rate":
            return list(self.rate)
        parameters, steps = self.short if part == "short" else self.long
        settings = self.long_settings if part == "long" else ()
        return [
            model
            for seed in range(seeds)
            for model in (
                Model("cam", parameters, steps, seed, settings),
                Model("plain", int(parameters * _WIDER), steps, seed),
            )
        ]


_PEOPLE = (("modulation_nodes", 2), ("place_spacing", 8))
_CARPHONE = (("modulation_nodes", 15), ("place_spacing", 2))
CASES = {
    "people": Case(
        "CiscoVT2people_320x192_12fps.yuv", (100_000, 300), (50_000, 1000), _PEOPLE,
        (Model("cam", 25_000, 1000, 0, _PEOPLE),), (320, 192), 12.0,
    ),
    "carphone": Case("carphone_pristine.mp4", (100_000, 800), (100_000, 2000), _CARPHONE, ()),
}  # fmt: skip


def learned(case: Case, model: Model, folder: Path) -> Path:
    """The run of one model in `folder`, trained or gone on with; a run that is there already is not trained again."""
    from fieldstone.tools.api import Run
    from fieldstone.tools.video.start import resume_video, start_video

    path = folder / f"{Path(case.file).stem}_{model.name}"
    if not Run.exists(path):
        settings = {
            "model": model.method,
            "parameters": model.parameters,
            "loss": "mse",
            **dict(model.settings),
        }
        _, outcome = start_video(
            DATA / case.file, path, size=case.size, fps=case.fps, steps=model.steps, seed=model.seed,
            settings=settings, device="cpu", quiet=True, report=False,
        )  # fmt: skip
    else:
        lines = Run.open(path).metrics()
        if lines and lines[-1]["step"] >= model.steps:
            return path
        _, outcome = resume_video(path, quiet=True, report=False)
    if outcome.interrupted is not None:
        raise SystemExit(f"interrupted at step {outcome.step}; the same command goes on")
    return path


def measured(path: Path) -> dict:
    """The run packed to 8 bits, decoded from the packed file and measured."""
    import fieldstone as fs
    from fieldstone.tools.packing.pack import pack

    run = fs.load_run(path)
    packed = path.parent / f"{path.name}.fsp"
    size = pack(run, packed, bits=8)
    exact, result = fs.evaluate(run), fs.evaluate(packed)
    settings = run.config["settings"]
    return {
        "method": settings["model"],
        "seed": run.config["seed"],
        "steps": run.metrics()[-1]["step"],
        "modulation_nodes": run.method().field.shape.modulation_nodes,
        "place_spacing": run.method().field.shape.place_spacing,
        "parameters": exact["parameters"],
        "bytes": size,
        "psnr": round(result["psnr"], 3),
        "ssim": round(result["ssim"], 4),
        "psnr_unpacked": round(exact["psnr"], 3),
        "seconds": round(run.metrics()[-1]["elapsed"], 1),
    }


def encoded(case: Case, crf: int) -> dict:
    """What x264 makes of the clip at one quality."""
    import numpy as np

    from fieldstone.datasets.moving_picture import open_moving_picture
    from fieldstone.tools import metrics

    path = DATA / case.file
    raw = case.size is not None
    source = ["-i", str(path)]
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
        truth = open_moving_picture(path, size=case.size)
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


def summary(result: dict) -> dict:
    """Gains at equal steps and bytes, and the distance to x264, from the rows of one clip."""
    found = {}
    for part in ("short", "long"):
        rows, gains, sizes = result.get(part, []), {}, {}
        for seed in sorted({row["seed"] for row in rows}):
            pair = {row["method"]: row for row in rows if row["seed"] == seed}
            if len(pair) == 2:
                gains[str(seed)] = round(pair["cam"]["psnr"] - pair["plain"]["psnr"], 3)
                sizes[str(seed)] = round(pair["plain"]["bytes"] / pair["cam"]["bytes"], 4)
        if gains:
            found[part] = {
                "gain_db": gains,
                "mean_gain_db": round(sum(gains.values()) / len(gains), 3),
                "plain_bytes_over_cam": sizes,
            }
    curve, against = result.get("x264", []), []
    for row in [
        row for part in ("short", "long", "rate") for row in result.get(part, []) if row["seed"] == 0
    ]:
        other = at_bytes(curve, row["bytes"])
        near = min(curve, key=lambda point: abs(point["psnr"] - row["psnr"]), default=None)
        against.append(
            {
                **{key: row[key] for key in ("method", "steps", "bytes", "psnr")},
                "x264_psnr": None if other is None else round(other, 2),
                "x264_bytes_of_nearest_psnr": None if near is None else near["bytes"],
            }
        )
    found["against_x264"] = sorted(against, key=lambda row: row["bytes"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clip", choices=tuple(CASES), action="append", help="only this; others keep their result"
    )
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; others keep their result")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/video"), help="folder of runs; those in it are used"
    )
    parser.add_argument("--train-only", action="store_true", help="train the runs and measure nothing")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit("no clips: ../shared/data/video is not there")
    path = RESULTS / "video.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else {}
    for name in arguments.clip or CASES:
        case, result = CASES[name], results.setdefault(name, {})
        for part in arguments.part or PARTS:
            if part == "x264":
                if not arguments.train_only:
                    result[part] = [encoded(case, crf) for crf in _CRF]
                continue
            runs = [learned(case, model, arguments.runs) for model in case.models(part, arguments.seeds)]
            if not arguments.train_only:
                result[part] = [measured(run) for run in runs]
        if not arguments.train_only:
            result["summary"] = summary(result)
            _show(name, result)
            write_result("video", results)


def _show(name: str, result: dict) -> None:
    rows = [
        [
            f"{row['method']}, {row['steps']} steps, seed {row['seed']}",
            row["parameters"],
            row["bytes"],
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.4f}",
        ]
        for part in ("short", "long", "rate")
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
