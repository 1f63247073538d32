"""`python -m benchmarks.measure_primitives`: primitive fits against Open3D, pyransac3d and scikit-spatial, and against the Cramer-Rao bound.

Every toolkit gets the same points in the same process, in turn. An error is the root mean square over seeds of the angle between the found and the true
direction, over its bound: sigma times what the inverse information of the true inliers says (plane 4 s^2 / (N R^2) for a disc,
cylinder 24 s^2 / (N L^2), each about both axes across). Coverage is the share of trials whose truth lies inside the 95 % ellipsoid of
the reported covariance, all unknowns together. The capture, if it is there, is a real one whose truth nobody knows: its time is what counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import chi2

from benchmarks.harness import interleaved, print_table, threads, write_result
from fieldstone.tools.measure import fit
from fieldstone.tools.measure.comparison import angle_error, mahalanobis
from fieldstone.tools.measure.frame import Frame
from fieldstone.tools.measure.ideal import ideal_points
from fieldstone.tools.measure.nist import verify
from fieldstone.tools.measure.primitives import PRIMITIVES
from fieldstone.tools.measure.residuals_reference import jacobian

__all__ = ["main"]

SIGMA = 0.02
CAPTURE = Path(__file__).resolve().parents[2] / "shared/data/metrology"
SHAPES = {  # sizes, and what is seen: of the coverage trials
    "line": ((), {"length": 40.0}),
    "plane": ((), {"length": 30.0}),
    "circle": ((8.0,), {}),
    "sphere": ((8.0,), {}),
    "cylinder": ((8.0,), {"length": 25.0}),
    "cone": ((8.0, 0.4), {"length": 15.0}),
    "torus": ((20.0, 4.0), {}),
}


def scene(name: str, count: int, share: float, seed: int) -> tuple[np.ndarray, Frame, float]:
    """Points of a primitive of about 100 mm with `share` outliers in a box half as wide again, its frame, and the bound of the angle."""
    rng = np.random.default_rng(seed)
    axis = rng.standard_normal(3)
    frame = Frame.from_axis(rng.uniform(-20, 20, 3), axis, (20.0, 0.0))
    inliers = count - round(count * share)
    points, normals = ideal_points(name, frame, inliers, rng, length=100.0)
    j = jacobian(PRIMITIVES[name], points[:: max(1, inliers // 50_000)], frame)[:, 0]
    information = j.T @ j * (inliers / len(j))
    at = [PRIMITIVES[name].unknowns.index(u) for u in ("tx", "ty")]
    bound = SIGMA * float(np.sqrt(np.trace(np.linalg.inv(information)[np.ix_(at, at)])))
    points = points + SIGMA * rng.standard_normal((inliers, 1)) * normals
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, 0.75 * (high - low)
    outliers = middle + half * rng.uniform(-1, 1, (count - inliers, 3))
    return rng.permutation(np.concatenate([points, outliers])), frame, bound


def off(direction: np.ndarray, frame: Frame) -> float:
    direction = np.asarray(direction, np.float64)
    return float(np.linalg.norm(np.cross(direction / np.linalg.norm(direction), frame.axis)))


def plane_peers() -> dict[str, Callable]:
    """{name: function (points, frame) -> angle error}, of the toolkits that are installed."""
    peers: dict[str, Callable] = {
        "fieldstone": lambda p, f: angle_error(fit.fit_plane(p), f),
    }
    try:
        import open3d

        def open3d_plane(points, frame, iterations):
            cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
            return off(cloud.segment_plane(3 * SIGMA, 3, iterations)[0][:3], frame)

        def open3d_tensor(points, frame):
            cloud = open3d.t.geometry.PointCloud(open3d.core.Tensor(points))
            return off(cloud.segment_plane(3 * SIGMA, 3, 100)[0].numpy()[:3], frame)

        peers["Open3D, 100 iterations"] = lambda p, f: open3d_plane(p, f, 100)
        peers["Open3D, 1000 iterations"] = lambda p, f: open3d_plane(p, f, 1000)
        peers["Open3D tensor, 100 iterations"] = open3d_tensor
    except ImportError as error:
        print(f"Open3D: {error}")
    try:
        import pyransac3d

        peers["pyransac3d, 100 iterations"] = lambda p, f: off(
            pyransac3d.Plane().fit(p, thresh=3 * SIGMA, maxIteration=100)[0][:3], f
        )
    except ImportError as error:
        print(f"pyransac3d: {error}")
    return peers


def cylinder_peers(small: int) -> dict[str, Callable]:
    """The same for cylinders. Toolkits that take minutes get the first `small` points, as their names say."""
    peers: dict[str, Callable] = {"fieldstone": lambda p, f: angle_error(fit.fit_cylinder(p), f)}
    try:
        import pyransac3d

        peers[f"pyransac3d, 100 iterations, {small} points"] = lambda p, f: off(
            pyransac3d.Cylinder().fit(p[:small], thresh=3 * SIGMA, maxIteration=100)[1], f
        )
    except ImportError as error:
        print(f"pyransac3d: {error}")
    return peers


def clean_cylinder(count: int, seeds: int) -> dict[str, object]:
    """Without outliers, against scikit-spatial's least squares."""
    try:
        from skspatial.objects import Cylinder
    except ImportError as error:
        print(f"scikit-spatial: {error}")
        return {}
    peers = {
        "fieldstone": lambda p, f: angle_error(fit.fit_cylinder(p, robust=False), f),
        "scikit-spatial": lambda p, f: off(Cylinder.best_fit(p).vector, f),
    }
    return compare("cylinder", count, 0.0, peers, seeds, 3)


def compare(
    name: str, count: int, share: float, peers: dict[str, Callable], seeds: int, rounds: int
) -> dict[str, object]:
    """Time on one data set (interleaved), error over the bound on `seeds` of them; slow peers get fewer seeds."""
    points, frame, _ = scene(name, count, share, 0)
    timings = interleaved(
        {peer: (lambda run=run: run(points, frame)) for peer, run in peers.items()},
        rounds=rounds,
        warmup=1,
        seconds=120,
    )
    errors: dict[str, list[float]] = {peer: [] for peer in peers}
    for seed in range(seeds):
        points, frame, bound = scene(name, count, share, seed)
        for peer, run in peers.items():
            if seed < 3 or timings[peer].median * (seed + 1) < 8:
                errors[peer].append(run(points, frame) / bound)
    result: dict[str, object] = {
        "points": count,
        "outliers": share,
        "sigma": SIGMA,
        "bound_deg": float(np.degrees(bound)),
    }
    rows = []
    for peer in peers:
        over = float(np.sqrt(np.mean(np.square(errors[peer]))))
        result[peer] = {
            **timings[peer].to_json(),
            "error_over_bound": round(over, 4),
            "seeds": len(errors[peer]),
        }
        rows.append([peer, timings[peer].median * 1e3, over, len(errors[peer])])
    print_table(
        f"{name}, {count:,} points, {share:.0%} outliers", ["toolkit", "ms", "error / bound", "seeds"], rows
    )
    return result


def coverage(trials: int, count: int, share: float) -> dict[str, object]:
    """Per cent of trials with the truth inside the 95 % ellipsoid, `count` points of which `share` are outliers (robust), or none (all points)."""
    found: dict[str, object] = {"trials": trials, "points": count, "outliers": share}
    rng = np.random.default_rng(7)
    rows = []
    for name, (sizes, shape) in SHAPES.items():
        inside = failed = 0
        began = time.perf_counter()
        for seed in range(trials):
            frame = Frame.from_axis(rng.uniform(-9, 9, 3), rng.standard_normal(3), sizes)
            points, normals = ideal_points(name, frame, count, rng, **shape)
            if PRIMITIVES[name].dimensions == 2:
                points = points + SIGMA * rng.standard_normal((count, 3))
            else:
                points = points + SIGMA * rng.standard_normal((count, 1)) * normals
            if share:
                low, high = points.min(axis=0), points.max(axis=0)
                outliers = round(count * share / (1 - share))
                half = 0.75 * np.max(high - low)
                points = np.concatenate([points, (low + high) / 2 + half * rng.uniform(-1, 1, (outliers, 3))])
            try:
                measured = getattr(fit, f"fit_{name}")(points, robust=bool(share), seed=seed)
            except fit.NotMeasurable:
                failed += 1
                continue
            squared, rank = mahalanobis(measured, frame)
            inside += squared <= chi2.ppf(0.95, rank)
        per_cent = 100 * inside / max(trials - failed, 1)
        found[name] = {"per_cent": round(per_cent, 2), "refused": failed}
        rows.append([name, per_cent, failed, (time.perf_counter() - began) / trials * 1e3])
    print_table(
        f"truth inside the 95 % ellipsoid, {trials} trials of {count} points, {share:.0%} outliers",
        ["primitive", "%", "refused", "ms a fit"],
        rows,
    )
    return found


def capture(folder: Path, rounds: int) -> dict[str, object] | None:
    """Decoding the real gearbox capture: 2 x 10 images of 3 MP, files to cloud; and the NIST pair."""
    if not (folder / "gearbox_stereo").is_dir():
        print(f"no capture in {folder}")
        return None
    from fieldstone.tools.measure.structured_light import decode

    where = folder / "gearbox_stereo"
    timing = interleaved({"decode": lambda: decode(where, where, unit="mm")}, rounds=rounds, warmup=1)[
        "decode"
    ]
    decoded = decode(where, where, unit="mm")
    pairs = verify(folder / "nist")
    print(f"gearbox capture: {len(decoded.cloud):,} points in {timing.median:.2f} s")
    return {
        "decode": timing.to_json(),
        "points": len(decoded.cloud),
        "nist_largest_difference": max(
            pairs.parameters[f"largest_{k}"] for k in ("position", "angle", "size")
        ),
        "nist_pairs": pairs.parameters["pairs"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measure_primitives", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=30, help="data sets of an error (30)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the median is taken (7)")
    parser.add_argument("--trials", type=int, default=2000, help="of the coverage, per primitive (2000)")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["plane", "cylinder", "clean", "coverage", "capture"],
        help="what to run (all)",
    )
    parser.add_argument("--threads", type=int, help="threads (all cores)")
    parser.add_argument(
        "--out", type=Path, help="the result file (benchmarks/results/measure_primitives.json)"
    )
    args = parser.parse_args()

    import numba

    count = args.threads or numba.config.NUMBA_NUM_THREADS
    results: dict[str, object] = {"threads": count}
    with threads(count):
        if "plane" in args.parts:
            results["plane"] = compare("plane", 1_000_000, 0.5, plane_peers(), args.seeds, args.rounds)
        if "cylinder" in args.parts:
            results["cylinder"] = compare(
                "cylinder", 100_000, 0.3, cylinder_peers(5000), args.seeds, args.rounds
            )
        if "clean" in args.parts:
            results["clean_cylinder"] = clean_cylinder(2000, min(args.seeds, 5))
        if "coverage" in args.parts:
            results["coverage_all_points"] = coverage(args.trials, 200, 0.0)
            results["coverage_robust"] = coverage(max(args.trials // 4, 1), 400, 0.3)
        if "capture" in args.parts:
            results["capture"] = capture(CAPTURE, min(args.rounds, 5))
    write_result("measure_primitives", results, out=args.out)


if __name__ == "__main__":
    main()
