"""`python -m benchmarks.hand_fitting`: how near fits of hands come to the truth, and how long they take.

The truth is the procedural hand (random shapes of unit variance, random poses, any direction) or measured data under ../shared/data: a rigged
hand of another maker sampled as a scan, 117 photos with 21 annotated joints, captured motion. Errors are means over all vertices unless
they say otherwise. What is absent is left out and said so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import RESULTS, ROOT, print_table, threads, write_result
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.geometry import cap
from fieldstone.fields.articulated.model_data import ModelData
from fieldstone.fields.articulated.procedural.hand import sample_hand_pose
from fieldstone.render.cameras import Cameras, look_at
from fieldstone.render.rasterise import fragments
from fieldstone.tools.hand.fitting.fit import Fit, Settings, fit_keypoints
from fieldstone.tools.hand.fitting.handedness import handedness, mirrored
from fieldstone.tools.hand.fitting.keypoints import keypoints_of
from fieldstone.tools.hand.fitting.observation_fit import fit_observation
from fieldstone.tools.hand.fitting.pixels import fit_pixels
from fieldstone.tools.hand.fitting.posing import Posing
from fieldstone.tools.hand.fitting.scan import fit_scans
from fieldstone.tools.hand.fitting.silhouette import fit_silhouettes
from fieldstone.tools.hand.fitting.so3 import exp
from fieldstone.tools.hand.fitting.state import State
from fieldstone.tools.hand.observed.observation import Observation
from fieldstone.tools.hand.observed.surface_file import depth_scan, read_scan

SHARED = ROOT.parent / "shared" / "data"
JOINTS = "openpose21"
_ABOVE = np.array([-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19])
"""Of openpose21's joints, the one before."""


class Bench:
    """The procedural hand, random truths, and distances from them."""

    def __init__(self, seed: int, name: str = "hand") -> None:
        self.data: ModelData = built_in(name)
        self.keypoints = keypoints_of(self.data, JOINTS)
        self.rng = np.random.default_rng(seed)
        self._all, self._few = Posing(self.data, None, 10), Posing(self.data, self.keypoints.vertices, 10)

    def truth(self, frames: int = 1) -> State:
        pose = np.stack([sample_hand_pose(self.rng, root=True) for _ in range(frames)])
        return State(
            self.rng.normal(0, 1, 10), exp(pose[:, 0]), pose[:, 1:], self.rng.normal(0, 0.2, (frames, 3))
        )

    def motion(self, frames: int) -> State:
        """A smooth path through a random pose every 25 frames."""
        from scipy.interpolate import CubicSpline

        knots = frames // 25 + 2
        pose = np.stack([sample_hand_pose(self.rng, root=True) for _ in range(knots)])
        at = np.linspace(0, knots - 1, frames)
        pose, move = (
            CubicSpline(np.arange(knots), part)(at) for part in (pose, self.rng.normal(0, 0.1, (knots, 3)))
        )
        return State(self.rng.normal(0, 1, 10), exp(pose[:, 0]), pose[:, 1:], move)

    def points(self, state: State) -> np.ndarray:
        return (
            self.keypoints.mixture
            @ self._few(state.shape, state.rotations(), state.translation, False).points
        )

    def vertices(self, state: State) -> np.ndarray:
        return self._all(state.shape, state.rotations(), state.translation, False).points[
            :, : len(self.data.template)
        ]

    def apart_mm(self, fit: Fit, truth: State) -> float:
        return float(np.linalg.norm(self.vertices(fit.state) - self.vertices(truth), axis=-1).mean() * 1e3)

    def spoiled(self, points: np.ndarray, noise: float, outliers: int) -> np.ndarray:
        points = points + self.rng.normal(0, noise, points.shape)
        for frame in range(len(points)):
            wrong = self.rng.choice(points.shape[1], outliers, replace=False)
            points[frame, wrong] += self.rng.normal(0, 0.05, (outliers, 3))
        return points


def summary(values: list[float]) -> dict[str, float]:
    array = np.array(values)
    return {
        "mean_mm": round(float(array.mean()), 4),
        "median_mm": round(float(np.median(array)), 4),
        "worst_mm": round(float(array.max()), 4),
        "cases": len(values),
    }


def keypoints(
    noise: float, outliers: int, cases: int, missing: bool = False, known_shape: bool = False
) -> dict[str, object]:
    """Single frames, noise level and shape not told. `missing`: no keypoint of the index finger; its vertices are counted apart."""
    bench, all_over, at_points, of_finger = Bench(1), [], [], []
    finger = bench.data.weights[:, 1:4].sum(1) > 0.5
    for _ in range(cases):
        truth = bench.truth()
        exact = bench.points(truth)
        seen = bench.spoiled(exact, noise, outliers)
        if missing:
            seen[:, 5:9] = np.nan
        fit = fit_keypoints(
            bench.data, bench.keypoints, seen, Settings(shape=truth.shape if known_shape else None)
        )
        apart = np.linalg.norm(bench.vertices(fit.state) - bench.vertices(truth), axis=-1)[0] * 1e3
        all_over.append(float((apart[~finger] if missing else apart).mean()))
        of_finger.append(float(apart[finger].mean()))
        at_points.append(float(np.linalg.norm(bench.points(fit.state) - exact, axis=-1).mean() * 1e3))
    found = {"vertices": summary(all_over), "keypoints": summary(at_points)}
    if missing:
        found["vertices of the missing finger"] = summary(of_finger)
    return found


def sides(cases: int) -> dict[str, object]:
    """How often right hands, as they are and mirrored, are called wrong. 2 mm noise, two outliers."""
    bench, called = Bench(2), {"right": 0, "mirrored": 0}
    for _ in range(cases):
        seen = bench.spoiled(bench.points(bench.truth()), 0.002, 2)
        for name, points in (("right", seen), ("mirrored", mirrored(seen))):
            called[name] += handedness(bench.data, keypoints=bench.keypoints, points=points).wrong
    return {"cases": cases, "called wrong": called}


def sequence(frames: int, rounds: int) -> dict[str, object]:
    """One person's motion, 2 mm noise: seconds of the whole fit."""
    found = {}
    for name, angle in (("smoothed", 0.1), ("frames on their own", None)):
        bench, seconds, errors = Bench(3), [], []
        for _ in range(rounds):
            truth = bench.motion(frames)
            seen = bench.spoiled(bench.points(truth), 0.002, 0)
            begin = time.perf_counter()
            fit = fit_keypoints(bench.data, bench.keypoints, seen, Settings(smooth_angle=angle))
            seconds.append(time.perf_counter() - begin)
            errors.append(bench.apart_mm(fit, truth))
        found[name] = {
            "frames": frames,
            "seconds": [round(s, 2) for s in seconds],
            "vertices": summary(errors),
        }
    return found


def ring(centre: np.ndarray, count: int, size: int, distance: float = 0.5) -> Cameras:
    """Cameras round a point, alternating above and below."""
    poses = []
    for k in range(count):
        a = 2 * np.pi * k / count + 0.3
        place = centre + distance * np.array([np.cos(a), 0.45 * (-1) ** k, np.sin(a)])
        poses.append(look_at(place, centre, np.array([0.0, 1.0, 0.0])))
    return Cameras.pinhole(torch.stack([torch.as_tensor(p) for p in poses]), 1.6 * size, size, size)


def pixels(cases: int) -> dict[str, object]:
    """4 cameras, 1 pixel of noise at 512 pixels, a tenth of the pixels wrong by tens of pixels."""
    bench, errors = Bench(4), []
    for _ in range(cases):
        truth = bench.truth()
        points = bench.points(truth)
        cameras = ring(points[0].mean(0), 4, 512)
        seen = np.stack(
            [cameras.project(torch.from_numpy(points[0]), torch.tensor([v]))[0].numpy() for v in range(4)]
        )[None]
        seen = seen + bench.rng.normal(0, 1, seen.shape)
        wrong = bench.rng.random(seen.shape[:-1]) < 0.1
        seen[wrong] += bench.rng.normal(0, 40, (int(wrong.sum()), 2))
        errors.append(bench.apart_mm(fit_pixels(bench.data, bench.keypoints, cameras, seen), truth))
    return {"vertices": summary(errors)}


def masks(cases: int) -> dict[str, object]:
    """4 masks of 256 pixels, shape known, nothing told about the pose."""
    bench, errors, seconds = Bench(5), [], []
    for _ in range(cases):
        truth = bench.truth()
        vertices = bench.vertices(truth)[0]
        cameras = ring(vertices.mean(0), 4, 256)
        seen = [_mask(bench, vertices, cameras[v]) for v in range(4)]
        rng = np.random.default_rng(0)
        begin = time.perf_counter()
        fit = fit_silhouettes(bench.data, seen, cameras, Settings(shape=truth.shape), rng=rng)
        seconds.append(round(time.perf_counter() - begin, 1))
        errors.append(bench.apart_mm(fit, truth))
    return {"vertices": summary(errors), "each_mm": [round(e, 2) for e in errors], "seconds": seconds}


def depth(cases: int) -> dict[str, object]:
    """One depth image of 160 pixels with 1 mm of noise of a hand closed at the wrist, shape not told, on its own and beside 21 keypoints with 5 mm of noise. Errors are of
    all vertices, the side that was not seen too; on its own also of those that were seen, and of hands none of whose fingers the fit called hidden.
    """
    bench, seconds, decided = Bench(6), [], []
    errors: dict[str, list[float]] = {
        key: [] for key in ("on its own", "on its own, what was seen", "keypoints alone", "beside keypoints")
    }
    for _ in range(cases):
        truth = bench.truth()
        vertices = bench.vertices(truth)[0]
        camera = ring(vertices.mean(0), 1, 160)
        closed = cap(bench.data)
        skin = Posing(closed, None, 10)(truth.shape, truth.rotations(), truth.translation, False).points[0]
        faces = torch.from_numpy(closed.faces)
        found = fragments(torch.from_numpy(skin[: len(closed.template)]), faces, camera)
        z = np.where(found.mask[..., 0].numpy(), found.z_depth[..., 0].numpy(), 0.0).astype(np.float64)
        z[z > 0] += bench.rng.normal(0, 0.001, int((z > 0).sum()))
        scan = depth_scan(z, camera, "depth")
        points = bench.spoiled(bench.points(truth), 0.005, 0)
        both = Observation("depth", joint_set=JOINTS, points=points, scans=[scan])
        begin = time.perf_counter()
        alone = fit_scans(bench.data, [scan], rng=np.random.default_rng(0))
        seconds.append(round(time.perf_counter() - begin, 1))
        decided.append(not any("ambiguous" in note for note in alone.notes))
        seen = np.unique(closed.faces[found.face[found.mask].numpy()])
        seen = seen[seen < len(vertices)]
        apart = np.linalg.norm(bench.vertices(alone.state)[0] - vertices, axis=-1)
        errors["on its own"].append(bench.apart_mm(alone, truth))
        errors["on its own, what was seen"].append(float(apart[seen].mean() * 1e3))
        beside = fit_observation(bench.data, both, rng=np.random.default_rng(0)).fit
        of_points = fit_keypoints(bench.data, bench.keypoints, points)
        errors["keypoints alone"].append(bench.apart_mm(of_points, truth))
        errors["beside keypoints"].append(bench.apart_mm(beside, truth))
    result: dict[str, object] = {name: summary(values) for name, values in errors.items()}
    own = [error for error, sure in zip(errors["on its own"], decided) if sure]
    result["on its own, no finger called hidden"] = summary(own) if own else "none of them"
    result["each_mm"] = [round(e, 2) for e in errors["on its own"]]
    result["called hidden"] = [not sure for sure in decided]
    return result | {"seconds": seconds}


def webxr() -> dict[str, object]:
    """The surface of the WebXR hand (another maker's), 10,000 points; what lies past the model's open wrist does not count."""
    found: dict[str, object] = {}
    for name in ("hand", "anatomical-hand"):
        bench = Bench(7, name)
        scan = read_scan(SHARED / "hands/webxr/generic-hand/right.glb", "m", rng=bench.rng)
        begin = time.perf_counter()
        fit = fit_scans(bench.data, [scan], rng=bench.rng)
        found[name] = {"seconds": round(time.perf_counter() - begin, 1), "said": fit.notes}
    return found


def photos() -> dict[str, object]:
    """real583: each photo on its own (shape not known), and all of them as one person. Left hands; joints annotated in space."""
    from fieldstone.datasets.hands import open_hands

    bench, samples = Bench(8, "hand-left"), open_hands(SHARED / "hands/real583")
    joints = np.stack([sample.joints for sample in samples])
    found: dict[str, object] = {"photos": len(joints)}
    for name, sigma in (("noise found", None), ("noise 2 mm", 0.002)):
        errors = []
        for own in joints:
            fit = fit_keypoints(bench.data, bench.keypoints, own[None], Settings(sigma=sigma))
            errors.append(float(np.linalg.norm(bench.points(fit.state) - own[None], axis=-1).mean() * 1e3))
        found[f"each on its own, {name}"] = summary(errors)
    fit = fit_keypoints(bench.data, bench.keypoints, joints, Settings(sigma=0.002))
    apart = np.linalg.norm(bench.points(fit.state) - joints, axis=-1).mean(1) * 1e3
    found["one shape for all, noise 2 mm"] = summary(apart.tolist())
    flagged = sum(
        handedness(bench.data, keypoints=bench.keypoints, points=own[None]).wrong for own in joints[::6]
    )
    found["definition of the joints"] = _definition(bench, joints)
    found["called wrong as left hands"] = f"{flagged} of {len(joints[::6])}"
    return found


def _definition(bench: Bench, joints: np.ndarray) -> dict[str, object]:
    """What of the photos' errors is where joints are annotated: each joint's mean offset in the frame of the bone that carries it, learned on
    every other photo and taken off the rest; and how much the annotated bones, rigid in a hand, differ from photo to photo.
    """
    left = []
    for own in joints:
        state = fit_keypoints(bench.data, bench.keypoints, own[None], Settings(sigma=0.002)).state
        at_rest = bench._few.joint_template + bench._few.joint_basis @ state.shape
        turned, _ = bench._few.chain(state.rotations(), at_rest[None], state.translation)
        offset = (own - bench.points(state)[0])[:, None]
        left.append((offset @ turned[0, bench.keypoints.owner])[:, 0])
    offsets = np.array(left)
    bones = np.linalg.norm(joints[:, 1:] - joints[:, _ABOVE[1:]], axis=-1) * 1e3
    spread = bones.std(0)
    return {
        "mean offset of each joint_mm": np.linalg.norm(offsets.mean(0) * 1e3, axis=-1).round(1).tolist(),
        "error_mm, as annotated": round(float(np.linalg.norm(offsets[1::2], axis=-1).mean() * 1e3), 2),
        "error_mm, mean offsets of other photos taken off": round(
            float(np.linalg.norm(offsets[1::2] - offsets[::2].mean(0), axis=-1).mean() * 1e3), 2
        ),
        "annotated bones, standard deviation over photos_mm": round(float(spread.mean()), 2),
        "annotated bones, share of their length": round(float((spread / bones.mean(0)).mean()), 3),
        "wrist to knuckles_mm, annotated and in the model": [
            np.linalg.norm(points[..., 5::4, :] - points[..., :1, :], axis=-1)
            .reshape(-1, 4)
            .mean(0)
            .round(3)
            .tolist()
            for points in (joints * 1e3, bench.points(_flat(bench)) * 1e3)
        ],
    }


def _flat(bench: Bench) -> State:
    return State(np.zeros(10), np.eye(3)[None], np.zeros((1, 15, 3)), np.zeros((1, 3)))


def mocap() -> dict[str, object]:
    """CMU and PyMO motions onto the body: bones against the source's, and the same take from .bvh and from .amc."""
    from fieldstone.datasets.motion import read_asf_amc, read_bvh
    from fieldstone.tools.hand.retarget import retarget

    body, found, kept = built_in("body"), {}, {}
    for name in ("cmu/01_01.bvh", "cmu/01_01.amc", "cmu/11_01.amc", "pymo/AV_8Walk_Meredith_HVHA_Rep1.bvh"):
        path = SHARED / "motion" / name
        motion = read_bvh(path) if path.suffix == ".bvh" else read_asf_amc(path)
        begin = time.perf_counter()
        kept[name] = retarget(body, motion)
        found[name] = {
            "frames": len(motion),
            "joints": len(kept[name].mapped),
            "direction_deg": round(kept[name].direction_deg, 3),
            "seconds": round(time.perf_counter() - begin, 2),
        }
    return found


def _mask(bench: Bench, vertices: np.ndarray, camera: Cameras) -> np.ndarray:
    return (
        fragments(torch.from_numpy(vertices), torch.from_numpy(bench.data.faces), camera).mask[..., 0].numpy()
    )


CASES: dict[str, tuple[Callable[[], dict[str, object]], str | None]] = {
    "keypoints, no noise": (lambda: keypoints(0.0, 0, 20), None),
    "keypoints, no noise, shape known": (lambda: keypoints(0.0, 0, 20, known_shape=True), None),
    "keypoints, 2 mm noise, 4 of 21 wrong": (lambda: keypoints(0.002, 4, 40), None),
    "keypoints, 2 mm noise, index finger missing": (lambda: keypoints(0.002, 0, 20, missing=True), None),
    "left and right": (lambda: sides(20), None),
    "sequence": (lambda: sequence(100, 3), None),
    "pixels, 4 views": (lambda: pixels(8), None),
    "masks, 4 views, shape known": (lambda: masks(8), None),
    "depth, 1 view": (lambda: depth(8), None),
    "scan of the WebXR hand": (webxr, "hands/webxr"),
    "photos (real583)": (photos, "hands/real583"),
    "motion capture": (mocap, "motion/cmu"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="WORDS",
        help="cases whose name has one of these words; the others keep their results",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    out = args.out or RESULTS / "hand_fitting.json"
    results: dict[str, object] = {}
    if args.only and out.exists():
        before = json.loads(out.read_text())
        results = before["results"]
        for kept in results.values():  # of another run: its commit stays with it
            if isinstance(kept, dict):
                kept.setdefault("commit", before["commit"])
    with threads(args.threads):
        for name, (case, needs) in CASES.items():
            if args.only and not any(words in name for words in args.only):
                continue
            if needs is not None and not (SHARED / needs).exists():
                results[name] = f"left out: ../shared/data/{needs} is absent"
                continue
            begin = time.perf_counter()
            results[name] = case()
            print_table(
                f"{name} ({time.perf_counter() - begin:.0f} s)",
                ("what", "found"),
                list(results[name].items()),
            )
    ordered = {name: results[name] for name in CASES if name in results}
    write_result("hand_fitting", ordered, arguments=[f"--threads {args.threads}"], out=args.out)


if __name__ == "__main__":
    main()
