"""The picture of moving scenes in docs/modulation.md, from runs that benchmarks.cam_scene kept.

    python -m benchmarks.cam_scene --part motion --seed 0 --keep KEPT
    python -m benchmarks.cam_scene --part daylight --seed 0 --keep KEPT
    python -m benchmarks.cam_moving_picture --keep KEPT

Moments between the training pictures, from cameras that training did not see: the truth, T-NeRF, T-NeRF with time modulation;
under steady light, and while it goes from noon to night.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from .cam_scene import SCENES, kept
from .harness import ROOT

SIZE = 160
SHOWN = ("T-NeRF", "T-NeRF + time modulation")
OUT = ROOT / "docs" / "images" / "cam_moving.png"


def rows(part: str, keep: Path) -> np.ndarray:
    """(3 * SIZE, columns * SIZE, 3) uint8."""
    import fieldstone as fs
    from fieldstone.datasets.synthetic.moving import write_moving_capture

    with tempfile.TemporaryDirectory() as folder:
        write_moving_capture(folder, size=SIZE, train=2, test=12, samples=3, **SCENES[part])
        capture = fs.open_capture(folder)
        chosen = [int(i) for i in capture.splits["test"][1::2]]
        truth = [np.asarray(capture.images[i]) for i in chosen]
        table = [[image[..., :3] * image[..., 3:] + 1 - image[..., 3:] for image in truth]]
        for name in SHOWN:
            scene = fs.load_run(kept(keep, part, name, 0) / "run").scene()
            line = []
            for i in chosen:
                scene.time = float(capture.times[i])
                line.append(scene.render_view(capture.cameras, i, background="white")["colour"].numpy())
            table.append(line)
    return np.rint(np.concatenate([np.concatenate(line, 1) for line in table]).clip(0, 1) * 255).astype(
        np.uint8
    )


def main() -> None:
    import imageio.v3 as imageio

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--part", action="append", choices=tuple(SCENES))
    arguments = parser.parse_args()
    parts = arguments.part or ["motion", "daylight"]
    imageio.imwrite(OUT, np.concatenate([rows(part, arguments.keep) for part in parts]))
    print(f"written: {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
