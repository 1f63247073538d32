"""Scenes of mesh primitives in use, on the synthetic street: edited, and trained in blocks and joined.

    python -m benchmarks.street_use [--steps 1000] [--data FOLDER] [--pictures FOLDER]

The street of benchmarks.street, once trained whole and once in two blocks for half the steps each; both compared with held-out photographs, near the
border between the blocks and elsewhere. Then the memory of one large picture of 1, 4 and 16 blocks in a row (copies of the first), each in a process of its
own. With --pictures the edited street beside the one it was made from.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from .harness import print_table, write_result

FRAMES, WIDTH, HEIGHT = 25, 352, 94
BLOCK, NEAR_BORDER = 13.0, 3.0
COPIES = (1, 4, 16)
PICTURE = 1408, 376
SHOWN = 9
"""The frame of the picture, and what is done to it: a car on the left goes, a copy of one on the right stands across the road, one is painted."""
EDITS = [
    {"do": "delete", "select": {"box": [[15.3, 1.7, 0.12], [20.4, 3.95, 2.2]]}},
    {  # the road under it was never seen, and wears its colours: it gets those of the free place farther on
        "do": "dress",
        "select": {"box": [[15.0, 1.6, -0.7], [20.7, 3.95, 0.12]]},
        "with": {"box": [[28.6, 1.6, -0.7], [34.3, 3.95, 0.12]]},
    },
    {
        "do": "duplicate",
        "select": {"box": [[15.9, -3.95, 0.12], [20.8, -1.7, 2.2]]},
        "rotate_deg": [0, 0, 65],
        "translate": [3.0, 2.2, 0],
    },
    {
        "do": "recolour",
        "select": {"box": [[22.1, 1.7, 0.12], [27.1, 3.95, 2.2]]},
        "colour": [0.95, 0.75, 0.1],
    },
]


def compared(runs: dict[str, object]) -> dict[str, dict[str, float]]:
    """PSNR of held-out views, dB: all, and those whose camera stands within `NEAR_BORDER` of the border of the blocks."""
    capture = next(iter(runs.values())).capture()
    block = runs["blocks"].scene().blocks[0]
    border = block.boxes[0, 1, 0]
    places = capture.cameras.positions[:, 0].numpy()
    results = {}
    for name, run in runs.items():
        errors, near = [], []
        for index in capture.splits["test"]:
            view = run.scene().render_view(capture.cameras, int(index))["colour"]
            truth = torch.from_numpy(np.asarray(capture.images[int(index)]))[..., :3]
            errors.append(float((view - truth).square().mean()))
            near.append(abs(places[int(index)] - border) < NEAR_BORDER)
        errors, near = np.array(errors), np.array(near)
        psnr = -10 * np.log10(errors)
        results[name] = {
            "psnr": round(float(psnr.mean()), 3),
            "psnr_near_border": round(float(psnr[near].mean()), 3),
            "psnr_elsewhere": round(float(psnr[~near].mean()), 3),
            "views": len(errors),
            "views_near_border": int(near.sum()),
        }
    return results


def row_of_blocks(parent, folder: Path, count: int):
    """A run of `count` blocks, copies of the first, one behind the other along x."""
    from fieldstone.datasets.block import Block
    from fieldstone.tools.training.run import Run

    part = Run.open(parent.folder / parent.config["blocks"][0])
    plain = {key: value for key, value in parent.config.items() if key != "format"}
    names = [f"blocks/{number:03d}" for number in range(count)]
    run = Run.create(folder, plain | {"blocks": names}, parent.record())
    box = part.cameras_only.block.boxes[0]
    length = 2 * (box[1, 0] - box[0, 0])
    boxes = np.stack([box + np.array([length * number, 0, 0]) for number in range(count)])
    own = {key: value for key, value in part.config.items() if key != "format"}
    for number, name in enumerate(names):
        record = part.record() | {"block": Block(number, boxes, 1.0).to_json()}
        copy = Run.create(folder / name, own, record)
        copy.checkpoint_path.symlink_to(part.checkpoint_path.resolve())
    return run


def render_one(folder: Path) -> None:
    """In a process of its own: one large picture, and what memory that took."""
    import fieldstone as fs
    from fieldstone.datasets.synthetic.street_files import street_cameras

    scene = fs.load_run(folder).scene()
    view = scene.render_view(street_cameras(FRAMES, *PICTURE), SHOWN)
    # not ru_maxrss: a process starts with that of the one it was forked from
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(
        json.dumps(
            {
                "peak_mb": round(peak),
                "primitives": len(scene.arrangement),
                "opacity": round(float(view["opacity"].mean()), 3),
            }
        )
    )


def picture(run, edited, path: Path) -> None:
    """Before above, after below."""
    from PIL import Image

    from fieldstone.datasets.synthetic.street_files import street_cameras

    cameras = street_cameras(FRAMES, 4 * WIDTH, 4 * HEIGHT)  # made smaller, which smooths edges
    views = []
    for each in (run, edited):
        colour = each.scene().render_view(cameras, SHOWN)["colour"].numpy()
        views.append(colour.reshape(2 * HEIGHT, 2, 2 * WIDTH, 2, 3).mean((1, 3)))
    gap = np.ones((6, 2 * WIDTH, 3))
    pixels = np.concatenate([views[0], gap, views[1]], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--data", type=Path, help="a folder for the street's files; used again if it is there"
    )
    parser.add_argument("--pictures", type=Path, help="a folder for the picture of the edited street")
    parser.add_argument("--only-pictures", action="store_true", help="make the picture and no figures")
    parser.add_argument("--render", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.render is not None:
        render_one(arguments.render)
        return
    import fieldstone as fs
    from fieldstone.datasets.synthetic.street import WIDE
    from fieldstone.datasets.synthetic.street_files import write_street

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = arguments.data or folder / "street"
        if not data.exists():
            write_street(data, frames=FRAMES, width=WIDTH, height=HEIGHT, beams=WIDE)
        options = {"method": "dnmp", "quiet": True}
        whole = fs.train_scene(data, folder / "whole", steps=arguments.steps, **options)
        if arguments.pictures:
            edited = fs.edit_scene(whole, folder / "edited", EDITS)
            picture(whole, edited, arguments.pictures / "street_edited.png")
        if arguments.only_pictures:
            return
        blocks = fs.train_scene(
            data, folder / "blocks", steps=arguments.steps // 2, block_size=BLOCK, **options
        )
        results: dict[str, object] = {
            "steps": arguments.steps,
            "block_count": len(blocks.config["blocks"]),
            **compared({"whole": whole, "blocks": blocks}),
        }
        rows = {}
        for count in COPIES:
            run = row_of_blocks(blocks, folder / f"row{count}", count)
            command = [sys.executable, "-m", "benchmarks.street_use", "--render", str(run.folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[str(count)] = json.loads(done.stdout.splitlines()[-1])
            print(count, rows[str(count)], flush=True)
        results[f"memory_of_one_{PICTURE[0]}x{PICTURE[1]}_picture_by_blocks"] = rows
    write_result("street_use", results)
    keys = ["psnr", "psnr_near_border", "psnr_elsewhere"]
    print_table(
        "held-out views", ["", *keys], [[n, *(results[n][k] for k in keys)] for n in ("whole", "blocks")]
    )


if __name__ == "__main__":
    main()
