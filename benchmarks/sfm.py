"""`python -m benchmarks.sfm`: photos placed with their poses withheld, against the poses that came with them.

The capture is any folder with transforms.json; only its photos are given to `photos.place_photos`, in a workspace
made for the purpose. Camera positions are compared after a similarity alignment (Umeyama 1991), in percent of the
diagonal of the box around the given positions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import peak_memory_mb, print_table, write_result
from fieldstone import datasets
from fieldstone.core.similarity import align_points
from fieldstone.datasets.photos import place_photos

__all__ = ["main", "measure"]


def measure(capture: Path, threads: int | None, seed: int) -> dict[str, object]:
    """Places the photos of `capture` from nothing and compares; see the module."""
    given = datasets.open(capture)
    positions = {
        Path(name).name: pose[:3, 3] for name, pose in zip(given.names, given.cameras.camera_to_world.numpy())
    }
    rotations = {
        Path(name).name: pose[:3, :3]
        for name, pose in zip(given.names, given.cameras.camera_to_world.numpy())
    }
    with tempfile.TemporaryDirectory() as folder:
        cpu, began = time.process_time(), time.perf_counter()
        project = place_photos(capture / "images", folder, threads=threads, seed=seed)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        found = datasets.open(project)
        record = json.loads((project / "report.json").read_text("utf-8"))
    target = np.array([positions[name] for name in found.names])
    everything = np.array(list(positions.values()))
    extent = float(np.linalg.norm(np.ptp(everything, axis=0)))
    poses = found.cameras.camera_to_world.numpy()
    similarity = align_points(poses[:, :3, 3], target)
    errors = np.linalg.norm(similarity.apply(poses[:, :3, 3]) - target, axis=1) / extent * 100
    turned = similarity.apply_to_poses(poses)[:, :3, :3]
    traces = np.einsum("nij,nij->n", turned, np.array([rotations[name] for name in found.names]))
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    return {
        "capture": capture.resolve().name,
        "threads": threads,
        "seed": seed,
        "photos": record["photos"],
        "placed": len(found.names),
        "not_placed": record["not_placed"],
        "path_extent": round(extent, 4),
        "position_error_percent": {
            "median": round(float(np.median(errors)), 4),
            "largest": round(float(errors.max()), 4),
        },
        "rotation_error_degrees": {
            "median": round(float(np.median(angles)), 4),
            "largest": round(float(angles.max()), 4),
        },
        "median_reprojection_error_px": record["median_reprojection_error"],
        "points": record["points"],
        "cameras": record["cameras"],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mb": round(peak_memory_mb()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sfm", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data/fox"),
        help="folder with transforms.json and images (../shared/data/fox)",
    )
    parser.add_argument("--threads", type=int, help="threads (all cores)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the result file (benchmarks/results/sfm.json)")
    args = parser.parse_args()
    results = measure(args.data, args.threads, args.seed)
    print_table(
        f"photos of {results['capture']}, poses withheld",
        ["what", "value"],
        [
            ["placed", f"{results['placed']} of {results['photos']}"],
            ["median position error, % of the path's extent", results["position_error_percent"]["median"]],
            ["largest", results["position_error_percent"]["largest"]],
            ["median rotation error, degrees", results["rotation_error_degrees"]["median"]],
            ["median reprojection error, px", results["median_reprojection_error_px"]],
            ["seconds", results["seconds"]],
            ["CPU seconds", results["cpu_seconds"]],
        ],
    )
    write_result("sfm", results, out=args.out)


if __name__ == "__main__":
    main()
