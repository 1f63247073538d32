"""Mesh of the bundled scene against its true surface.

    python -m benchmarks.mesh RUN [--resolution 256]

RUN is a run of the bundled scene (`train-scene` without arguments). Errors are mean distances both ways, in per cent of the side of
the scene's cube; the true surface is what the training cameras can see of it.
"""

from __future__ import annotations

import argparse
import time

from .harness import peak_memory_mb, print_table, write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder of the bundled scene")
    parser.add_argument("--resolution", type=int, default=256)
    arguments = parser.parse_args()

    import numpy as np

    import fieldstone as fs
    from fieldstone.datasets.synthetic import SyntheticScene
    from fieldstone.tools.mesh.compare import mesh_error

    run = fs.load_run(arguments.run)
    scene = SyntheticScene()
    generator = np.random.default_rng(0)
    cameras = scene.cameras("train")
    points, _ = scene.visible_surface_points(50_000, cameras, generator)
    results: dict[str, object] = {}
    for method in ("marching-cubes", "tsdf"):
        began = time.perf_counter()
        mesh = fs.export_mesh(run, resolution=arguments.resolution, method=method)
        seconds = time.perf_counter() - began
        every, seen = (
            mesh_error(mesh, scene.surface_distance, points, 2 * scene.half_side, generator, keep=keep)
            for keep in (None, lambda p, n: scene.visible(scene.closest_points(p), n, cameras))
        )
        report = mesh.metadata["fieldstone"]
        results[method] = {
            "all_of_the_mesh": every.to_json(),
            "what_cameras_see": seen.to_json(),
            "seconds": round(seconds, 2),
            "faces": report["faces"],
            "watertight": report["watertight"],
            "components": report["components"],
        }
    results["resolution"] = arguments.resolution
    results["peak_memory_mb"] = round(peak_memory_mb())
    rows = [
        [
            method,
            result["all_of_the_mesh"]["accuracy_percent"],
            result["what_cameras_see"]["accuracy_percent"],
            result["all_of_the_mesh"]["completeness_percent"],
            result["seconds"],
            result["faces"],
            str(result["watertight"]),
        ]
        for method, result in results.items()
        if isinstance(result, dict)
    ]
    print_table(
        "mesh error, % of the scene's side",
        ["method", "accuracy", "accuracy, seen part", "completeness", "seconds", "faces", "watertight"],
        rows,
    )
    write_result("mesh", results)


if __name__ == "__main__":
    main()
