"""Small radiance fields with and without modulation: moving scenes, and quality against size on a disk.

    python -m benchmarks.cam_scene --part motion [--steps 1500] --seed 0 --seed 1 --seed 2
    python -m benchmarks.cam_scene --part daylight --seed 0 --seed 1 --seed 2
    python -m benchmarks.cam_scene --part usual --seed 0 --seed 1 --seed 2
    python -m benchmarks.cam_scene --part lego400 [--minutes 5]
    python -m benchmarks.cam_scene --part lego400-steps [--steps 400]
    python -m benchmarks.cam_scene --part lego400-bytes [--steps 1500]

"motion" and "daylight" are our synthetic scene in D-NeRF's layout, 60 training pictures of 64 x 64, each from its own camera at its own
time, and 12 test pictures at other times: things that turn, lift and run round; and the same under light that goes from noon to night.
T-NeRF with and without time modulation, else the same, at equal steps, seed by seed. "usual" trains both as T-NeRF usually is: a warp
that only shifts, and all moments and all levels of the hash grid from the start; for 2,000 steps.
"lego400" trains models that pack to about the same size for the same minutes, one after another; "lego400-steps" adds modulation
to the hash grid at equal steps, on pictures half as wide; "lego400-bytes" compares a small table with modulation to a larger one of equal
bytes. Sizes are those of packed files. Results are merged by part, case and seed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import tempfile
from pathlib import Path

from .captures import locate
from .harness import RESULTS, print_table, write_result

T_NERF = {
    "levels": 8, "finest_resolution": 128, "base_resolution": 8, "samples": 4096, "steps_across": 128, "occupancy_resolution": 32,
}  # fmt: skip
"""A warp by place and time, 3 x 64, in front of a small hash grid and a trunk of 2 x 64: converges in minutes. Else as the method has it."""
_USUAL = {
    "warp": "offset",
    "time_octaves": 4,
    "moments_until": 0,
    "levels_until": 0,
    "looks": 1,
    "hold": 0.25,
}
_PLAIN, _TIMED = {"modulation": "none"}, {"modulation": "time", "modulation_resolution": [16]}
MOVING = {"T-NeRF": {**T_NERF, **_PLAIN}, "T-NeRF + time modulation": {**T_NERF, **_TIMED}}
USUAL = {name: {**settings, **_USUAL} for name, settings in MOVING.items()}
STILL = {
    "plain perceptron, 8 x 256": {
        "encoder": "frequency", "octaves": 10, "density_layers": 8, "hidden": 256, "modulation": "none", "norm": "layer",
    },
    "frequencies, 3 x 64 + position modulation": {
        "encoder": "frequency", "octaves": 8, "density_layers": 3, "norm": "layer", "samples": 3 << 14,
        "occupancy_resolution": 128, "modulation": "position", "modulation_resolution": [96, 96, 96],
        "modulation_layers": 1, "modulation_channels": 4, "modulation_learning_rate": 0.02,
        "head_learning_rate": 0.003,
    },
    "hash grid": {"log2_table_size": 15, "levels": 13, "modulation": "none"},
    "hash grid + direction modulation": {"log2_table_size": 15, "levels": 13, "modulation": "direction"},
}  # fmt: skip
"""Each as large as it may be in 0.6 MB on a disk; tables are packed to 6 bits, which leaves room for twice the entries, else 8."""
SLOW = "plain perceptron, 8 x 256"
"""Two minutes for its pictures: they are made of the packed file only."""
BITS = {"hash grid": 6, "hash grid + direction modulation": 6}
_AT_POSITION = {
    "modulation": "position", "modulation_channels": 4, "modulation_learning_rate": 0.02,
}  # fmt: skip
_HASH = {"log2_table_size": 14, "samples": 16384, "occupancy_resolution": 64, "steps_across": 512}
ON_HASH_GRID = {
    "hash grid": {**_HASH, "modulation": "none"},
    "hash grid + direction modulation": {**_HASH, "modulation": "direction"},
    "hash grid + position modulation": {**_HASH, **_AT_POSITION},
    "hash grid + norm": {**_HASH, "modulation": "none", "norm": "layer"},
    "hash grid + norm + position modulation": {**_HASH, **_AT_POSITION, "norm": "layer"},
}
"""At 200 x 200 pixels."""
_SMALL = {**_HASH, "log2_table_size": 13, "modulation": "none"}
_COARSE = {**_AT_POSITION, "modulation_resolution": [32, 32, 32]}
AT_EQUAL_BYTES = {
    "2^13 entries": _SMALL,
    "2^13 entries + position modulation": {**_SMALL, **_COARSE},
    "2^13 entries + norm + position modulation": {**_SMALL, **_COARSE, "norm": "layer"},
    "2^13 entries, 19 levels": {**_SMALL, "levels": 19},
    "2^14 entries": {**_HASH, "modulation": "none"},
}
"""At 200 x 200 pixels; 19 levels pack to about the bytes of the modulated ones."""
SCENES = {"motion": {"share": 0.4}, "daylight": {"share": 0.4, "daylight": True}, "usual": {"share": 0.4}}


def measure(
    data: Path,
    method: dict,
    seed: int,
    keep: Path | None = None,
    bits: int = 8,
    both: bool = True,  # also look at what is not packed
    train_only: bool = False,
    **budget,
) -> dict | None:
    import fieldstone as fs
    from fieldstone.tools.packing.pack import pack
    from fieldstone.tools.training.run import Run

    with tempfile.TemporaryDirectory() as folder:
        out = keep or Path(folder)
        if keep and (keep / "run" / "config.json").is_file():
            run = Run.open(keep / "run")
        else:
            run = fs.train_scene(
                data, out / "run", method="cam", seed=seed, settings=method, quiet=True, **budget
            )
        if train_only:
            return None
        field, last = run.scene().field, run.metrics()[-1]
        size = pack(run, out / "run.fsp", bits=bits)
        after = fs.evaluate(out / "run.fsp")
        before = fs.evaluate(run) if both else None
        at_8 = {}
        if bits != 8:
            at_8["bytes_packed_8"] = pack(run, out / "run8.fsp", bits=8)
            at_8["psnr_packed_8"] = round(fs.evaluate(out / "run8.fsp")["psnr"], 3)
        return {
            "settings": method,
            "parameters": sum(p.numel() for p in field.parameters()),
            "modulation_parameters": sum(p.numel() for p in field.grid_parameters()),
            "steps": last["step"],
            "seconds": round(last["elapsed"], 1),
            "samples_millions": round(last["total_samples"] / 1e6, 1),
            "psnr": round(before["psnr"], 3) if both else None,
            "bits": bits,
            "psnr_packed": round(after["psnr"], 3),
            "ssim_packed": round(after["ssim"], 4),
            "bytes_packed": size,
            **at_8,
        }


def kept(folder: Path, part: str, name: str, seed: int) -> Path:
    """Where `--keep` puts a run."""
    return folder / f"{part}-{name}-{seed}".replace(" ", "_")


def merge(part: str, name: str, seed: int, row: dict) -> dict:
    """The part with the row in it, in the file as it is now: parts may be measured side by side."""
    path = RESULTS / "cam_scene.json"
    with open(Path(tempfile.gettempdir()) / "cam_scene.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        results = json.loads(path.read_text())["results"] if path.is_file() else {}
        results.setdefault(part, {}).setdefault(name, {})[f"seed {seed}"] = row
        write_result("cam_scene", results)
    return results[part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", choices=(*SCENES, "lego400", "lego400-steps", "lego400-bytes"), default="motion"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="of each model of lego400")
    parser.add_argument("--steps", type=int, help="of each model of the other parts")
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--case", action="append", help="only cases whose name holds this")
    parser.add_argument("--exactly", action="append", help="only cases of this name")
    parser.add_argument(
        "--keep", type=Path, help="a folder to keep the runs in; those in it are not trained again"
    )
    parser.add_argument(
        "--train-only", action="store_true", help="leave the pictures to a second call with the same --keep"
    )
    arguments = parser.parse_args()
    part, found = arguments.part, {}
    with tempfile.TemporaryDirectory() as folder:
        if part in SCENES:
            from fieldstone.datasets.synthetic.moving import write_moving_capture

            data, budget = Path(folder), {"steps": arguments.steps or (2000 if part == "usual" else 1500)}
            cases = USUAL if part == "usual" else MOVING
            write_moving_capture(data, size=64, train=60, test=12, **SCENES[part])
        else:
            place = locate("lego400")
            if place is None:
                raise SystemExit("lego400: the data is not on this machine")
            data = place[0]
            cases = {"lego400": STILL, "lego400-steps": ON_HASH_GRID, "lego400-bytes": AT_EQUAL_BYTES}[part]
            steps = {"steps": arguments.steps or (1500 if part == "lego400-bytes" else 400), "downscale": 2}
            budget = {"minutes": arguments.minutes} if part == "lego400" else steps
        for seed in arguments.seed or [0]:
            for name, settings in cases.items():
                words, names = arguments.case or (), arguments.exactly or ()
                if not (words or names) or name in names or any(word in name for word in words):
                    keep = kept(arguments.keep, part, name, seed) if arguments.keep else None
                    bits = BITS.get(name, 8) if part == "lego400" else 8
                    only = arguments.train_only
                    row = measure(data, settings, seed, keep, bits, name != SLOW, only, **budget)
                    found = found if row is None else merge(part, name, seed, row)
    keys = ("parameters", "modulation_parameters", "steps", "psnr", "psnr_packed", "bytes_packed")
    print_table(
        part,
        ["model", "seed", "parameters", "of modulation", "steps", "PSNR dB", "packed dB", "packed bytes"],
        [
            [name, seed, *("" if row[key] is None else f"{row[key]:,}" for key in keys)]
            for name, rows in found.items()
            for seed, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main()
