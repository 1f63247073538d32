"""Ablations of mesh primitives on the synthetic street: one thing changed at a time, the same steps and seed for all.

    python -m benchmarks.primitives [--steps 160] [--seed 0] [--only NAME ...]

The street of `benchmarks.street` (24 training views of 352 x 94, KITTI's scanner), a quarter of the steps for shapes; four held-out views, and the same moved
1 m to the right. Steps are few, so these figures compare settings; what minutes reach is in results/street.json. Merged into results/primitives.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from .harness import RESULTS, print_table, write_result
from .street import FRAMES, HEIGHT, SHIFT, WIDTH, nearest_z, psnr

CASES: dict[str, dict[str, object]] = {
    "default": {},
    "1 scale": {"scales": 1},
    "free vertices": {"shapes": "vertices"},
    "1 layer": {"layers": 1},
    "2 layers": {"layers": 2},
    "no view dependence": {"view_dependent": False},
    "start: sphere": {"start": "sphere"},
    "start: pca": {"start": "pca"},
    "50 % of points dropped": {"points_share": 0.5},
    "90 % of points dropped": {"points_share": 0.1},
    "no far field": {"far": False},
    "nothing added": {"spare": 0.0},
    "photographs swept": {"sweep": True, "spare": 0.6},
    "nothing pruned": {"prune": 0.0},
    "shapes and colours jointly": {"joint": True},
    "preset: paper": {"preset": "paper"},
}
HELD = range(3, FRAMES, 6)
KEYS = ("psnr_held_out", "psnr_moved_1_m", "median_z_depth_error_m", "primitives")


def measure(data: Path, truths: dict, settings: dict, steps: int, seed: int, out: Path) -> dict[str, float]:
    import fieldstone as fs
    from fieldstone.datasets.synthetic.street_files import street_cameras

    settings = {"geometry_share": 0.25} | settings
    run = fs.train_scene(data, out, steps=steps, method="dnmp", settings=settings, seed=seed, quiet=True)
    scene = run.scene()
    figures: dict[str, list[float]] = {"held": [], "moved": [], "z": []}
    for shift, key in ((0.0, "held"), (SHIFT, "moved")):
        cameras = street_cameras(FRAMES, WIDTH, HEIGHT, shift=shift)
        for frame in HELD:
            truth = truths[shift, frame]
            view = scene.render_view(cameras, frame)
            figures[key].append(psnr(view["colour"], truth["colour"]))
            if not shift:
                z = nearest_z(scene, cameras, frame)
                both = (truth["z_depth"] > 0) & (z > 0)
                figures["z"].append(float(np.median(np.abs(z - truth["z_depth"])[both])))
    return {
        "psnr_held_out": round(float(np.mean(figures["held"])), 3),
        "psnr_moved_1_m": round(float(np.mean(figures["moved"])), 3),
        "median_z_depth_error_m": round(float(np.median(figures["z"])), 4),
        "primitives": len(scene.primitives.vertices) // 42,
        "steps": steps,
        "seed": seed,
        "settings": settings,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--data", type=Path, help="a folder for the street's files; used again if it is there"
    )
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    from fieldstone.datasets.synthetic.street import Street
    from fieldstone.datasets.synthetic.street_files import street_cameras, write_street

    path = RESULTS / "primitives.json"
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "street"
        street = Street(0) if data.exists() else write_street(data, frames=FRAMES, width=WIDTH, height=HEIGHT)
        truths = {
            (shift, frame): street.render(street_cameras(FRAMES, WIDTH, HEIGHT, shift=shift), frame)
            for shift in (0.0, SHIFT)
            for frame in HELD
        }
        for name in arguments.only:
            out = Path(folder) / name.replace(" ", "-").replace("%", "").replace(":", "")
            figures = measure(data, truths, CASES[name], arguments.steps, arguments.seed, out)
            # read again every time: two processes may share the cases
            results = json.loads(path.read_text())["results"] if path.exists() else {}
            results[name] = figures
            results = {case: results[case] for case in CASES if case in results}
            print(name, figures, flush=True)
            write_result("primitives", results)
    rows = [[name, *(r[key] for key in KEYS)] for name, r in results.items()]
    print_table("mesh primitives, ablations", ["", *KEYS], rows)


if __name__ == "__main__":
    main()
