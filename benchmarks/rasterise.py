"""The rasteriser on a street of small meshes, against Warp's CPU tree and Open3D's ray caster in the same process.

    python -m benchmarks.rasterise [--rounds 7]

The street is what mesh primitives are before training: a sphere of 80 faces in every occupied 0.5 m cell of a road and its two
facades. Before every timed call all vertices move a little, so that nothing built for one call serves the next; Open3D is timed with its
tree build and, apart from it, for its cast alone. Peak memory is that of a process of its own that draws one frame.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np
import torch

from .harness import ROOT, interleaved, print_table, threads, write_result

SMALL, LARGE = (704, 188), (1408, 376)
FOCAL = 552.554
"""Pixels at the larger size: KITTI-360's."""
CELL = 0.5


def street(primitives: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (42 p, 3) float32 and faces (80 p, 3) of p spheres: z up, along x from 2 m to as far as the number reaches."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=1)
    across = np.arange(-6, 6, CELL)
    up = np.arange(CELL, 9, CELL)
    ring = np.concatenate(
        [
            np.stack([across, np.zeros_like(across)], 1),
            *(np.stack([np.full_like(up, side), up], 1) for side in (-6.0, 6.0)),
        ]
    )
    along = 2 + CELL * (np.arange(primitives) // len(ring))
    centres = np.concatenate([along[:, None], ring[np.arange(primitives) % len(ring)]], 1)
    generator = np.random.default_rng(seed)
    centres = centres + generator.normal(0, 0.05, centres.shape)
    radius = CELL * np.sqrt(3) / 2 * generator.uniform(0.5, 1.0, (primitives, 3))
    vertices = centres[:, None] + radius[:, None] * np.asarray(ball.vertices)[None]
    faces = np.asarray(ball.faces)[None] + 42 * np.arange(primitives)[:, None, None]
    return (
        torch.from_numpy(vertices.reshape(-1, 3).astype(np.float32)),
        torch.from_numpy(faces.reshape(-1, 3).astype(np.int32)),
    )


def camera(size: tuple[int, int]):
    """On the road, 1.55 m up, looking along x."""
    from fieldstone.render.cameras import Cameras

    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[:3, 3] = [0.03, 0.11, 1.55]
    return Cameras.pinhole(pose, FOCAL * size[0] / LARGE[0], *size)


def mover(vertices: torch.Tensor):
    """A function that returns the vertices moved anew, so that no call sees the geometry of the one before."""
    step = [0]

    def moved() -> torch.Tensor:
        step[0] += 1
        return vertices + 1e-4 * (step[0] % 7)

    return moved


def ours(moved, faces, view, layers: int, backend: str = "cpu"):
    from fieldstone.render.rasterise import fragments

    return lambda: fragments(moved(), faces, view, layers, backend=backend)


def open3d_cases(moved, faces: torch.Tensor, view, cores: int):
    """(build and cast, cast alone on a tree that stays): functions that return the face of each pixel (h, w)."""
    import open3d as o3d

    rays = view.image_rays(0)
    rays = o3d.core.Tensor(torch.cat([rays.origins, rays.directions], 1).contiguous().numpy())
    triangles = o3d.core.Tensor(faces.numpy().astype(np.uint32))
    width, height = view.size(0)

    def scene(vertices: torch.Tensor):
        made = o3d.t.geometry.RaycastingScene(nthreads=cores)
        made.add_triangles(o3d.core.Tensor(vertices.numpy()), triangles)
        return made

    def cast(made):
        return made.cast_rays(rays, nthreads=cores)["primitive_ids"].numpy().reshape(height, width)

    kept = scene(moved())
    cast(kept)  # builds the tree
    return lambda: cast(scene(moved())), lambda: cast(kept)


def agreement(vertices, faces, view, cores: int) -> dict[str, float]:
    """Share of pixels whose nearest face is the same, in percent."""
    from fieldstone.render.rasterise import fragments

    mine = fragments(vertices, faces, view, 1, backend="cpu").face[..., 0].numpy()
    warp = fragments(vertices, faces, view, 1, backend="warp").face[..., 0].numpy()
    theirs = open3d_cases(lambda: vertices, faces, view, cores)[1]().astype(np.int64)
    theirs = np.where(theirs == 0xFFFFFFFF, -1, theirs)
    return {"Warp": 100 * float((mine == warp).mean()), "Open3D": 100 * float((mine == theirs).mean())}


def peak_memory() -> dict[str, float]:
    """MB of a process that imports us and draws one large frame, 1 and 4 layers."""
    code = (  # the kernel's own mark: what getrusage says is inherited from the process that starts this one
        "from benchmarks.rasterise import *\n"
        "from fieldstone.render.rasterise import fragments\n"
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) * 1.024e-3\n"
        "v, f = street(10664); before = peak()\n"
        "fragments(v, f, camera(LARGE), {layers}); print(before, peak())"
    )
    found = {}
    for layers in (1, 4):
        ran = subprocess.run(
            [sys.executable, "-c", code.format(layers=layers)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        before, after = (float(word) for word in ran.stdout.split())
        found[f"{layers} layers"] = {"before_the_frame_mb": round(before), "peak_mb": round(after)}
    return found


def per_thousand_pixels(timing, size: tuple[int, int]) -> float:
    return round(timing.median * 1e6 / (size[0] * size[1]), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    rounds, cores = arguments.rounds, arguments.threads
    results: dict[str, object] = {"threads": cores}
    vertices, faces = street(10664)
    moved = mover(vertices)
    results["faces"] = len(faces)

    with threads(cores):
        view = camera(SMALL)
        found = interleaved(
            {"fieldstone": ours(moved, faces, view, 4), "Warp": ours(moved, faces, view, 4, "warp")},
            rounds=max(3, rounds // 2), warmup=1,
        )  # fmt: skip
        results["704x188, 4 layers"] = {
            name: timing.to_json() | {"ms_per_1k_pixels": per_thousand_pixels(timing, SMALL)}
            for name, timing in found.items()
        }
        large = camera(LARGE)
        build, cast = open3d_cases(moved, faces, large, cores)
        found = interleaved(
            {"fieldstone": ours(moved, faces, large, 1), "Open3D": build, "Open3D, cast alone": cast},
            rounds=rounds, warmup=1,
        )  # fmt: skip
        mine = found["fieldstone"].median
        results["1408x376, 1 layer"] = {
            name: timing.to_json() | {"ms_per_1k_pixels": per_thousand_pixels(timing, LARGE)}
            for name, timing in found.items()
        } | {
            "times_faster_than_Open3D_with_build": round(found["Open3D"].median / mine, 2),
            "times_faster_than_its_cast_alone": round(found["Open3D, cast alone"].median / mine, 2),
        }
        results["agreement_percent"] = agreement(vertices, faces, large, cores)

    cases, sizes = {}, {}
    for count in (1333, 5332, 10664, 21328):
        part = street(count)
        cases[f"{80 * count} faces"] = ours(mover(part[0]), part[1], view, 4)
        sizes[f"{80 * count} faces"] = SMALL
    for layers in (1, 2, 8):
        cases[f"{layers} layers"] = ours(moved, faces, view, layers)
        sizes[f"{layers} layers"] = SMALL
    for size in ((352, 94), LARGE):
        name = f"{size[0]}x{size[1]}"
        cases[name], sizes[name] = ours(moved, faces, camera(size), 4), size

    def one_thread():
        with threads(1):
            return ours(moved, faces, view, 4)()

    cases["1 thread"], sizes["1 thread"] = one_thread, SMALL
    with threads(cores):
        found = interleaved(cases, rounds=max(3, rounds // 2), warmup=1)
    results["scaling"] = {
        name: timing.to_json() | {"ms_per_1k_pixels": per_thousand_pixels(timing, sizes[name])}
        for name, timing in found.items()
    }
    results["peak_memory"] = peak_memory()

    for title in ("704x188, 4 layers", "1408x376, 1 layer", "scaling"):
        rows = [
            [name, entry["median_ms"], entry["ms_per_1k_pixels"]]
            for name, entry in results[title].items()
            if isinstance(entry, dict)
        ]
        print_table(f"{title} ({len(faces)} faces)", ["", "ms", "ms/1k pixels"], rows)
    print({key: results[key] for key in ("agreement_percent", "peak_memory")})
    print(results["1408x376, 1 layer"]["times_faster_than_Open3D_with_build"], "times Open3D with its build")
    write_result("rasterise", results)


if __name__ == "__main__":
    main()
