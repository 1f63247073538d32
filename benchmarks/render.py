"""Rendering a trained scene: seconds a view, rays a second, and the memory of the process.

python -m benchmarks.render RUN [--views 5]
"""

from __future__ import annotations

import argparse
import time

from .harness import peak_memory_mb, print_table, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder of train-scene")
    parser.add_argument("--views", type=int, default=5)
    arguments = parser.parse_args()

    import numpy as np

    import fieldstone as fs

    run = fs.load_run(arguments.run)
    scene, capture = run.scene(), run.cameras_only
    split = np.asarray(capture.splits.get("test", capture.splits["train"]))
    chosen = split[np.linspace(0, len(split) - 1, min(arguments.views, len(split))).astype(int)].tolist()
    scene.render_view(capture.cameras, chosen[0])  # compiles what is not compiled yet
    results: dict[str, object] = {}
    for title, normals in (("colour, opacity, depths", False), ("and normals", True)):
        taken = []
        for index in chosen:
            began = time.perf_counter()
            scene.render_view(capture.cameras, index, normals=normals)
            taken.append(time.perf_counter() - began)
        width, height = capture.cameras.size(chosen[0])
        middle = sorted(taken)[len(taken) // 2]
        results[title] = {
            "median_seconds_a_view": round(middle, 4),
            "slowest": round(max(taken), 4),
            "fastest": round(min(taken), 4),
            "views": len(taken),
            "size": [width, height],
            "rays_per_second": round(width * height / middle),
        }
    results["peak_memory_mb"] = round(peak_memory_mb())
    results["capture"] = capture.name
    rows = [
        [title, f"{r['size'][0]}x{r['size'][1]}", r["median_seconds_a_view"], r["rays_per_second"] / 1e3]
        for title, r in results.items()
        if isinstance(r, dict)
    ]
    print_table(f"rendering {capture.name}", ["what", "size", "s/view", "k rays/s"], rows)
    write_result("render", results)


if __name__ == "__main__":
    main()
