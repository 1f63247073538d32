"""Small radiance fields with and without modulation: a moving scene, and quality against size on a disk.

    python -m benchmarks.cam_scene --part moving [--minutes 1.2]
    python -m benchmarks.cam_scene --part lego400 [--minutes 1.2]

"moving" is our synthetic scene in D-NeRF's layout (48 training pictures of 64 x 64, each at its own time; 12 test pictures at
other times): T-NeRF with and without time modulation, else the same. A still capture is learned by a small hash grid with and
without direction modulation, and by a plain perceptron on frequencies of about the same size; each is packed to 8 bits, and the
size is the file's. All train for the same minutes, one after another in one process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from .captures import CAPTURES, locate
from .harness import RESULTS, print_table, write_result

MOVING = {
    "T-NeRF": {"modulation": "none"},
    "T-NeRF + time modulation": {"modulation": "time", "modulation_resolution": [16]},
}
SMALL = {"samples": 8192, "steps_across": 128, "occupancy_resolution": 32, "octaves": 6}
"""For pictures of 64 x 64 and a minute."""
STILL = {
    "hash grid": {"modulation": "none"},
    "hash grid + direction modulation": {"modulation": "direction"},
    "hash grid + position modulation": {"modulation": "position"},
    "frequencies, 4 x 256": {"encoder": "frequency", "modulation": "none", "hidden": 256, "octaves": 10},
}


def measure(data: Path, method: dict, minutes: float, seed: int) -> dict[str, object]:
    import fieldstone as fs
    from fieldstone.tools.packing.pack import pack

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run = fs.train_scene(
            data, out / "run", method="cam", minutes=minutes, seed=seed, settings=method, quiet=True
        )
        field = run.scene().field
        size = pack(run, out / "run.fsp", bits=8)
        before, after = fs.evaluate(run), fs.evaluate(out / "run.fsp")
        return {
            "settings": method,
            "parameters": sum(p.numel() for p in field.parameters()),
            "modulation_parameters": sum(p.numel() for p in field.grid_parameters()),
            "steps": run.metrics()[-1]["step"],
            "seconds": round(run.metrics()[-1]["elapsed"], 1),
            "psnr": round(before["psnr"], 3),
            "ssim": round(before["ssim"], 4),
            "psnr_packed_8": round(after["psnr"], 3),
            "bytes_packed_8": size,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("moving", *CAPTURES), default="moving")
    parser.add_argument("--minutes", type=float, default=1.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", action="append", help="only cases whose name holds this")
    arguments = parser.parse_args()
    path = RESULTS / "cam_scene.json"
    results = json.loads(path.read_text())["results"] if path.is_file() else {}
    part = arguments.part
    with tempfile.TemporaryDirectory() as folder:
        if part == "moving":
            from fieldstone.datasets.synthetic.moving import write_moving_capture

            data = Path(folder)
            write_moving_capture(data, size=64, train=48, test=12)
            cases = {name: {**SMALL, **settings} for name, settings in MOVING.items()}
        else:
            place = locate(part)
            if place is None or place[0] is None:
                raise SystemExit(f"{part}: the data is not on this machine")
            data, cases = place[0], STILL
        found = results.setdefault(part, {})
        for name, settings in cases.items():
            if arguments.case is None or any(word in name for word in arguments.case):
                found[name] = measure(data, settings, arguments.minutes, arguments.seed)
    keys = ("parameters", "steps", "psnr", "psnr_packed_8", "bytes_packed_8")
    print_table(
        f"{part}, {arguments.minutes:g} minutes each",
        ["model", "parameters", "steps", "PSNR dB", "packed dB", "packed bytes"],
        [[name, *(f"{row[key]:,}" for key in keys)] for name, row in found.items()],
    )
    write_result("cam_scene", results)


if __name__ == "__main__":
    main()
