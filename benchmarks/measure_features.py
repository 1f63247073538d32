"""Holes, flanges, threads and a simulated assembly: errors against the truth, time, and the scatter over its bound.

    python -m benchmarks.measure_features [--only hole flange thread assembly] [--seeds 100] [--out FILE]

hole      a rim of 5 mm radius, 25 points per square mm, 50 um of lateral blur: bias and scatter of the radius against the Cramer-Rao bound, with
          density and blur estimated; alone, and as one of thirteen that share their blur; the innermost point per 5 degrees beside it
flange    face, bore and 12 holes with walls, a million points: time of the second call (the first compiles), errors
thread    an M16 CAD thread (../shared/data/metrology/threads; left out where it is absent), 20,000 points, 0.02 mm noise, from all around and
          over 150 degrees, in random poses: pitch error, hand and starts, time; the published route beside it
assembly  two keyed flanges scanned by the simulated scanner (sigma 0.05 mm, lateral blur 0.4 pixels, 2048 x 1536), measured and matched:
          largest distance between the faces over the bolt circle, error of the roll
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from .harness import interleaved, print_table, write_result

BOLT = Path(__file__).resolve().parents[2] / "shared/data/metrology/threads/factory_bolt_m16_loose.obj"


def rotation(rng: np.random.Generator) -> np.ndarray:
    """(3, 3), even over all rotations."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diagonal(r))
    return q * np.linalg.det(q)


def plate(rng: np.random.Generator, holes, density: float, blur: float, half: float) -> np.ndarray:
    """(n, 2) points of a square plate with round holes (x, y, radius), moved sideways."""
    xy = rng.uniform(-half, half, (rng.poisson(density * 4 * half**2), 2))
    keep = np.ones(len(xy), bool)
    for x, y, radius in holes:
        keep &= np.hypot(xy[:, 0] - x, xy[:, 1] - y) > radius
    return xy[keep] + blur * rng.normal(size=(int(keep.sum()), 2))


def hole(seeds: int) -> dict:
    from fieldstone.tools.measure.cloud import Cloud
    from fieldstone.tools.measure.hole_edge import HoleEdge, fit_hole_edge, radius_bound
    from fieldstone.tools.measure.holes import find_holes

    radius, density, blur = 5.0, 25.0, 0.05
    alone, claimed, naive, seconds = [], [], [], []
    for seed in range(4 * seeds):
        points = plate(np.random.default_rng(seed), [(0, 0, radius)], density, blur, 10.0)
        began = time.perf_counter()
        edge = fit_hole_edge(points, HoleEdge(np.array([0.05, -0.05]), 5.1, 0.1), 3.5)
        seconds.append(time.perf_counter() - began)
        alone.append(edge.radius - radius)
        claimed.append(np.sqrt(edge.covariance[2, 2]))
        sector = (np.mod(np.arctan2(*points.T) / (2 * np.pi), 1) * 72).astype(int) % 72
        rho = np.hypot(*points.T)
        naive.append(np.mean([rho[sector == k].min() for k in range(72)]) - radius)
    places = [(15.0 * i, 15.0 * j, radius) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    places += [(30.0, 0, radius), (-30.0, 0, radius), (0, 30.0, radius), (0, -30.0, radius)]
    together = []
    for seed in range(max(seeds // 10, 3)):
        rng = np.random.default_rng(10_000 + seed)
        flat = plate(rng, places, density, blur, 40.0)
        cloud = Cloud.from_points(np.column_stack([flat, 0.03 * rng.normal(size=len(flat))]), "mm")
        together += [h["radius"] - radius for h in find_holes(cloud, seed=seed)["holes"]]
    known, found = (radius_bound(radius, density, blur, blur_known=k) * 1e3 for k in (True, False))
    um = {name: 1e3 * np.array(v) for name, v in (("alone", alone), ("together", together), ("naive", naive))}

    def row(errors: np.ndarray) -> dict:
        return {
            "holes": len(errors),
            "bias_um": round(float(errors.mean()), 2),
            "bias_standard_error_um": round(float(errors.std(ddof=1) / np.sqrt(len(errors))), 2),
            "scatter_um": round(float(errors.std(ddof=1)), 2),
            "scatter_over_bound_blur_unknown": round(float(errors.std(ddof=1) / found), 3),
            "scatter_over_bound_blur_known": round(float(errors.std(ddof=1) / known), 3),
        }

    covered = np.abs(np.array(alone)) < 1.96 * np.array(claimed)
    return {
        "bound_um": {"blur known": round(known, 2), "blur unknown": round(found, 2)},
        "one rim": row(um["alone"]),
        "one of 13 rims that share their blur (find_holes)": row(um["together"]),
        "innermost point per 5 degrees": row(um["naive"]),
        "stated_interval_of_95_percent_holds": round(float(covered.mean()), 3),
        "ms_per_rim": round(1e3 * float(np.median(seconds)), 1),
    }


def flange(_: int) -> dict:
    from fieldstone.tools.measure.flange import measure_flange
    from fieldstone.tools.measure.simulate import build, sample_surface

    rng = np.random.default_rng(0)
    part = build("flange", rng)
    cloud, owner = sample_surface(part, 2_150_000, rng, noise=0.03)
    front = np.array([face.label not in ("back", "rim") for face in part.faces])[owner]
    cloud = cloud.select(np.flatnonzero(front)[:1_000_000])
    found = {}

    def run() -> None:
        found["it"] = measure_flange(cloud)

    timing = interleaved({"measure_flange": run}, rounds=5, warmup=1)["measure_flange"]
    result = found["it"]
    radii = [h["radius"] - 5.5 for h in result["holes"]]
    truth = np.array([part.feature(f"hole{i}").parameters["axis_point"][:2] for i in range(12)])
    off = [np.hypot(*(truth - h["centre"][:2]).T).min() for h in result["holes"]]
    return {
        "points": len(cloud),
        "holes": len(radii),
        "time": timing.to_json(),
        "bore_radius_error_um": round(1e3 * (result["bore"]["radius"] - 40), 2),
        "largest_hole_radius_error_um": round(1e3 * float(np.abs(radii).max()), 2),
        "largest_hole_place_error_um": round(1e3 * float(max(off)), 2),
    }


def thread(seeds: int) -> dict:
    if not BOLT.exists():
        return {"left out": f"{BOLT.name} is absent"}
    import trimesh

    from fieldstone.tools.measure.cloud import Cloud
    from fieldstone.tools.measure.errors import NotMeasurable
    from fieldstone.tools.measure.thread import fit_thread
    from fieldstone.tools.measure.thread_paper import fit_thread_by_crest

    mesh = trimesh.load(BOLT, process=False)
    results: dict[str, object] = {}
    for view in (360, 150):
        errors, right, seconds, other, failed = [], 0, [], [], 0
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            points = 1e3 * np.asarray(trimesh.sample.sample_surface(mesh, 90_000, seed=seed)[0])
            points = points[np.degrees(np.abs(np.arctan2(points[:, 1], points[:, 0]))) <= view / 2][:20_000]
            own = points + 0.02 * rng.normal(size=points.shape)
            turn, move = rotation(rng), 40 * rng.normal(size=3)
            cloud = Cloud.from_points(own @ turn.T + move, "mm")
            began = time.perf_counter()
            found = fit_thread(cloud, rng=np.random.default_rng(seed))
            seconds.append(time.perf_counter() - began)
            errors.append(1e3 * (found["pitch"] - 2.0))
            right += found["starts"] == 1 and found["hand"] == "right"
            low, high = found.extras["zone"]
            along = (cloud.world_points - found["axis_point"]) @ found["axis_direction"]
            used = cloud.points[found.inliers & (along > low) & (along < high)]
            try:
                other.append(1e3 * (fit_thread_by_crest(used).pitch - 2.0))
            except NotMeasurable:
                failed += 1
        seconds = seconds[1:]  # the first compiles and imports
        results[f"{view} degrees"] = {
            "seeds": seeds,
            "points": len(points),
            "hand_and_starts_right": int(right),
            "pitch_error_um": {
                "largest": round(float(np.abs(errors).max()), 3),
                "mean": round(float(np.mean(errors)), 3),
                "scatter": round(float(np.std(errors)), 3),
            },
            "seconds": {
                "median": round(float(np.median(seconds)), 3),
                "slowest": round(float(max(seconds)), 3),
            },
            "published_route": {
                "median_pitch_error_um": round(float(np.median(np.abs(other))), 1) if other else None,
                "failed": failed,
            },
        }
    return results


def assembly(seeds: int) -> dict:
    from fieldstone.tools.measure.flange import measure_flange
    from fieldstone.tools.measure.match import match_holes
    from fieldstone.tools.measure.simulate import (
        FlangeShape,
        Flaws,
        bolt_circle,
        flange,
        scan,
        stereo_rig,
        view_pose,
    )

    holes = bolt_circle(12, 100.0, 5.5, key=0, key_shift_deg=3.0)
    one = flange(FlangeShape(holes=holes))
    other = flange(FlangeShape(holes=tuple(replace(h, y=-h.y) for h in holes)))
    rig = stereo_rig(width=2048, height=1536, view=300.0, flaws=Flaws(noise=0.05, blur=0.4))
    faces, rolls, shifts, stated, folds = [], [], [], [], []
    turn = np.linspace(0, 2 * np.pi, 181)
    ring = np.stack([100 * np.cos(turn), 100 * np.sin(turn), 0 * turn, 1 + 0 * turn])
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        poses, measured = [], []
        for part in (one, other):
            pose = view_pose(
                rig, tilt_deg=float(rng.uniform(5, 20)), azimuth_deg=float(rng.uniform(0, 360)), roll_deg=float(rng.uniform(0, 360))
            )  # fmt: skip
            cloud, _ = scan(part.placed(pose), rig, rng)
            poses.append(pose)
            measured.append(measure_flange(cloud, seed=seed))
        found = match_holes(*measured, bolt_diameter=10.0, seed=seed)
        truth = poses[0] @ np.diag([1.0, -1.0, -1.0, 1.0]) @ np.linalg.inv(poses[1])
        error = np.linalg.inv(poses[0]) @ np.array(found.extras["matrix"]) @ np.linalg.inv(truth) @ poses[0]
        faces.append(float(np.abs((error @ ring)[2]).max()))
        rolls.append(abs(float(np.degrees(np.arctan2(error[1, 0] - error[0, 1], error[0, 0] + error[1, 1])))))
        shifts.append(float(np.hypot(*error[:2, 3])))
        stated.append(found.standard_uncertainty()["roll_deg"])
        folds.append(found["fold"])
    return {
        "assemblies": seeds,
        "face_mismatch_mm": {"median": round(float(np.median(faces)), 5), "largest": round(max(faces), 5)},
        "roll_error_deg": {
            "rms": round(float(np.sqrt(np.mean(np.square(rolls)))), 5),
            "median": round(float(np.median(rolls)), 5),
            "largest": round(max(rolls), 5),
            "stated_standard_uncertainty": round(float(np.mean(stated)), 5),
        },
        "centring_error_mm": {
            "median": round(float(np.median(shifts)), 5),
            "largest": round(max(shifts), 5),
        },
        "roll_resolved_by_the_key": int(sum(fold == 1 for fold in folds)),
        "paper": {"face_mismatch_mm": 0.05, "roll_error_deg": 0.1},
    }


def _flat(results: dict, prefix: str = "") -> Iterator[list[object]]:
    """Rows of a table from nested results."""
    for key, value in results.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}: ")
        else:
            yield [prefix + key, str(value)]


PARTS = {"hole": hole, "flange": flange, "thread": thread, "assembly": assembly}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument(
        "--seeds", type=int, default=100, help="of threads; holes: 4 times, assemblies: a twentieth"
    )
    parser.add_argument("--out", type=Path, help="result file (default: results/measure_features.json)")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.only:
        count = max(arguments.seeds // 20, 1) if name == "assembly" else arguments.seeds
        results[name] = PARTS[name](count)
        print_table(name, ["", ""], list(_flat(results[name])))
    write_result("measure_features", results, out=arguments.out)


if __name__ == "__main__":
    main()
