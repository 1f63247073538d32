"""Articulated models: forward pass against smplx, learning from registered hands, fields of hands in new poses.

    python -m benchmarks.articulated --speed
    python -m benchmarks.articulated --learn
    python -m benchmarks.articulated --scans [--registered FOLDER]
    python -m benchmarks.articulated --field RUN --without RUN

Each part that is asked for replaces its own entry of the result file; the others stay, with the date and machine they were measured on.
`smplx` is optional (a peer to be compared with, never a dependency). RUN and RUN are two runs of `train-scene --method hand` on one capture
(with the deformer and with `--set deformer=false`), looked at in the box around the hand in each picture. With `--registered` the scans are not registered again:
FOLDER has what an earlier call of `hand learn --registered FOLDER` made of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import RESULTS, interleaved, machine, print_table, threads, write_result
from fieldstone.__main__ import main as fieldstone_main
from fieldstone.fields.articulated import ArticulatedModel, ModelData
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.layouts import LAYOUTS
from fieldstone.tools.hand.fitting.closest import NearestOnMesh
from fieldstone.tools.hand.learning.learn import LearnSettings, learn
from fieldstone.tools.hand.learning.raw_scans import synthetic_scans, write_scans
from fieldstone.tools.hand.learning.reading import read_items
from fieldstone.tools.hand.learning.shape_space import principal_angles
from fieldstone.tools.hand.learning.synthetic import synthetic_hands

BATCHES = (1, 4, 16, 64, 256, 512, 2048)


def random_hand(seed: int = 0) -> ModelData:
    """Arrays of MANO's sizes: 778 vertices, 1538 faces, 16 joints, 10 shape directions, dense random weights."""
    generator = np.random.default_rng(seed)
    weights, regressor = generator.random((778, 16)) ** 6, generator.random((16, 778)) ** 12
    return ModelData.checked(
        {
            "template": generator.normal(0, 0.05, (778, 3)),
            "shape_basis": generator.normal(0, 0.005, (778, 3, 10)),
            "pose_correctives": generator.normal(0, 0.001, (778, 3, 135)),
            "joint_regressor": regressor / regressor.sum(1, keepdims=True),
            "weights": weights / weights.sum(1, keepdims=True),
            "parents": np.array(LAYOUTS["mano"].parents),
            "faces": generator.integers(0, 778, (1538, 3)),
            "pose_mean": generator.normal(0, 0.2, 45),
            "pose_components": np.linalg.qr(generator.normal(0, 1, (45, 45)))[0],
        },
        side="right",
    )


def smplx_hand(data: ModelData, batch: int):
    """smplx.MANO fed with our arrays."""
    import smplx

    values = smplx.utils.Struct(
        v_template=data.template,
        shapedirs=data.shape_basis,
        posedirs=data.pose_correctives,
        J_regressor=data.joint_regressor,
        weights=data.weights,
        f=data.faces.astype(np.uint32),
        kintree_table=np.stack((np.where(data.parents < 0, 2**32 - 1, data.parents), np.arange(16))).astype(
            np.int64
        ),
        hands_components=data.pose_components,
        hands_mean=data.pose_mean,
        bs_style="lbs",
        bs_type="lrotmin",
    )
    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.MANO(
            "unused", data_struct=values, is_rhand=True, use_pca=False, flat_hand_mean=True, batch_size=batch
        )


def compare(batch: int, rounds: int, backward: bool) -> dict[str, object]:
    """Times of both, and how far apart their vertices are."""
    data = random_hand()
    ours, theirs = ArticulatedModel(data, mean="flat"), smplx_hand(data, batch)
    generator = torch.Generator().manual_seed(batch)
    shape, pose, move = (
        torch.randn(batch, n, generator=generator) * s for n, s in ((10, 1), (48, 0.5), (3, 0.2))
    )
    for tensor in (shape, pose, move):
        tensor.requires_grad_(backward)

    def run_ours() -> torch.Tensor:
        return ours(shape, pose, move, pose_format="axis_angle").vertices

    def run_theirs() -> torch.Tensor:
        return theirs(betas=shape, global_orient=pose[:, :3], hand_pose=pose[:, 3:], transl=move).vertices

    def case(run):
        if not backward:

            def forward() -> None:
                with torch.no_grad():
                    run()

            return forward

        def both() -> None:
            run().square().sum().backward()
            for tensor in (shape, pose, move):
                tensor.grad = None

        return both

    with torch.no_grad():
        apart = float((run_ours() - run_theirs()).abs().max())
    times = interleaved(
        {"fieldstone": case(run_ours), "smplx": case(run_theirs)}, rounds=rounds, warmup=3, seconds=20
    )
    return {
        "largest_difference_m": apart,
        "times": {name: timing.to_json() for name, timing in times.items()},
        "ratio": round(times["smplx"].median / times["fieldstone"].median, 3),
    }


def field_quality(run_folder: Path) -> dict[str, object]:
    """PSNR in the box around the hand (opaque pixels, two more on each side), means over held-out views: new poses and known ones."""
    from fieldstone.tools.api import load_run
    from fieldstone.tools.evaluation import truth

    run = load_run(run_folder)
    capture, scene = run.capture(), run.scene()
    count = len(scene.method.motion)
    pose_of = np.round(np.asarray(capture.times) * (count - 1)).astype(int)
    trained = set(pose_of[capture.splits["train"]].tolist())
    found: dict[str, list[float]] = {"new poses": [], "known poses": []}
    for index in np.asarray(capture.splits["test"]).tolist():
        colour, _, background = truth(capture, index)
        rendered = scene.render_view(capture.cameras, index, background=background)["colour"].numpy()
        rows, columns = np.nonzero(capture.images[index][..., 3] > 0)
        box = (
            slice(max(rows.min() - 2, 0), rows.max() + 3),
            slice(max(columns.min() - 2, 0), columns.max() + 3),
        )
        error = float(np.square(rendered[box] - colour[box]).mean())
        kind = "known poses" if pose_of[index] in trained else "new poses"
        found[kind].append(-10 * np.log10(max(error, 1e-12)))
    seconds = list(run.metrics())[-1]
    return {
        "psnr_in_box_db": {
            kind: round(float(np.mean(values)), 2) for kind, values in found.items() if values
        },
        "worst_view_db": {kind: round(float(np.min(values)), 2) for kind, values in found.items() if values},
        "views": {kind: len(values) for kind, values in found.items()},
        "settings": {key: run.config["settings"][key] for key in ("deformer", "rays", "reach_mm")},
        "last_step": {key: seconds[key] for key in ("step", "seconds") if key in seconds},
    }


def learning(subjects: int, poses: int, noise: float, seed: int) -> dict[str, object]:
    """`hand learn`'s figures on meshes made with the procedural hand, which `learn` gets without shapes and correctives."""
    true = built_in("hand")
    rng = np.random.default_rng(seed)
    meshes = synthetic_hands(true, subjects=subjects, poses=poses, noise=noise, rng=rng)
    start = true.replace(
        shape_basis=true.shape_basis[:, :, :0], pose_correctives=np.zeros_like(true.pose_correctives)
    )
    began = time.perf_counter()
    learned = learn(start, meshes, rng=rng, progress=print)
    seconds = time.perf_counter() - began
    shapes = true.shape_basis.shape[2]
    space, found = (model.shape_basis.reshape(-1, shapes) for model in (true, learned.data))
    moves = 1e3 * np.linalg.norm(true.shape_basis, axis=1).mean(0)
    strong = int((moves > 1e3 * noise).sum())
    motion = motions(learned.data)
    pure, pure_found = (basis - motion @ (motion.T @ basis) for basis in (space, found))
    orthogonal = np.linalg.qr(pure_found)[0]
    apart = np.linalg.norm(learned.data.joints - true.joint_regressor @ learned.data.template, axis=1)
    error = learned.report["held_out_error_mm"]
    return {
        "data": f"{subjects} subjects x {poses} poses of the procedural hand, {1e3 * noise:g} mm of noise a coordinate",
        "explained_by_10": round(learned.report["explained"]["10"], 5),
        "explained_by_10_with_noise": round(learned.report["explained_with_noise"]["10"], 5),
        "held_out_error_mm": {key: round(value, 4) for key, value in error.items()},
        "held_out_error_ratio": round(error["correctives"] / error["skinning"], 3),
        "principal_angles_deg": _degrees(space, found),
        "true_directions_move_mm": [round(float(m), 3) for m in moves],
        "true_directions_above_noise": strong,
        "principal_angles_without_motion_deg": _degrees(pure, pure_found),
        "principal_angles_without_motion_above_noise_deg": _degrees(pure[:, :strong], pure_found),
        "true_variance_in_learned_space": round(
            float(np.square(orthogonal.T @ pure).sum() / np.square(pure).sum()), 5
        ),
        "joints_from_true_regressor_mm": {
            "mean": round(1e3 * float(apart.mean()), 3),
            "max": round(1e3 * float(apart.max()), 3),
        },
        "noise_found_mm": round(learned.report["noise_mm"], 4),
        "shape": learned.report["shape"],
        "seconds": round(seconds, 1),
    }


def motions(data: ModelData) -> np.ndarray:
    """(3 v, n) orthonormal: how vertices move when the rest hand is moved, turned and bent a little. What of a shape direction lies in there is
    a matter of where and how each person rests, which meshes do not tell.
    """
    model = ArticulatedModel(data, dtype=torch.float64)
    count, step = 3 * len(data.parents), 1e-5
    poses = torch.eye(count, dtype=torch.float64) * step
    bent = model(pose=poses, pose_format="axis_angle").vertices.numpy() - data.template
    moved = np.tile(np.eye(3), (len(data.template), 1))
    left, size, _ = np.linalg.svd(
        np.concatenate((bent.reshape(count, -1).T / step, moved), 1), full_matrices=False
    )
    return left[:, size > 1e-6 * size[0]]


def _degrees(first: np.ndarray, second: np.ndarray) -> list[float]:
    return [round(float(a), 2) for a in np.degrees(principal_angles(first, second))]


def raw_scans(subjects: int, poses: int, seed: int, registered: Path | None) -> dict[str, object]:
    """`hand learn` on raw scans, as a person calls it: how far registered surfaces and vertices are from the true ones, and what is learned."""
    true = built_in("hand")
    scans, truth = synthetic_scans(true, subjects=subjects, poses=poses, rng=np.random.default_rng(seed))
    nearest = NearestOnMesh(true.faces, len(true.template), around=8)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_scans(scans, place / "scans")
        data = registered or place / "scans"
        arguments = ["hand", "learn", str(data), "--out", str(place / "model.npz")]
        arguments += [] if registered else ["--registered", str(place / "registered")]
        arguments += ["--shapes", "3", "--held-out", "0.25", "--seed", str(seed)]
        if fieldstone_main(arguments) != 0:
            raise SystemExit("hand learn failed")
        items = read_items(registered or place / "registered", true)
        report = json.loads((place / "model.json").read_text())
    if [item.name for item in items] != [scan.name.replace("/", "_") for scan in scans]:
        raise SystemExit("--registered: other scans than this benchmark's")
    found = np.array([item.vertices for item in items])
    surface = np.array([nearest(v, f)[2] for v, f in zip(truth.vertices, found)])
    vertex = np.linalg.norm(found - truth.vertices, axis=2)
    again = learn(
        true,
        replace(truth, vertices=found),
        LearnSettings(shapes=3, held_out=0.25),
        rng=np.random.default_rng(seed),
    )

    def summary(distance: np.ndarray) -> dict[str, float]:
        return {
            "mean": round(1e3 * float(distance.mean()), 3),
            "worst_scan": round(1e3 * float(distance.mean(1).max()), 3),
            "95_percent_below": round(1e3 * float(np.percentile(distance, 95)), 3),
        }

    return {
        "data": f"{subjects} subjects x {poses} scans of the procedural hand with 1 mm of detail beside the shape space; points and "
        "meshes of other triangulations in turn; 0.5 mm of noise a coordinate, two holes each",
        "registered_to_true_surface_mm": summary(surface),
        "registered_to_true_vertex_mm": summary(vertex),
        "held_out_error_mm": {k: round(v, 3) for k, v in report["held_out_error_mm"].items()},
        "held_out_error_of_true_surface_mm": {
            k: round(v, 3) for k, v in again.report["held_out_error_mm"].items()
        },
    }


def speed(rounds: int, count: int) -> dict[str, object]:
    """Forward, and forward with backward, at several batch sizes."""
    results: dict[str, object] = {}
    with threads(count):
        for name, backward in (("forward", False), ("forward_and_backward", True)):
            batches = BATCHES if not backward else (1, 64, 512)
            results[name] = {str(batch): compare(batch, rounds, backward) for batch in batches}
            rows = [
                (
                    batch,
                    entry["times"]["fieldstone"]["median_ms"],
                    entry["times"]["smplx"]["median_ms"],
                    entry["ratio"],
                    f"{entry['largest_difference_m']:.1e}",
                )
                for batch, entry in results[name].items()
            ]
            print_table(name.replace("_", " "), ("batch", "ours ms", "smplx ms", "ratio", "apart m"), rows)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--scans", action="store_true")
    parser.add_argument("--registered", type=Path, metavar="FOLDER")
    parser.add_argument("--field", type=Path, metavar="RUN")
    parser.add_argument("--without", type=Path, metavar="RUN")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--poses", type=int, default=10)
    parser.add_argument("--noise-mm", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "articulated.json")
    args = parser.parse_args()
    results = json.loads(args.out.read_text())["results"] if args.out.exists() else {}
    arguments: list[str] = []
    if args.speed:
        results["speed"] = speed(args.rounds, args.threads)
        arguments += ["--speed", f"--rounds {args.rounds}", f"--threads {args.threads}"]
    if args.learn:
        results["learning"] = learning(args.subjects, args.poses, args.noise_mm / 1e3, args.seed)
        print(json.dumps({k: v for k, v in results["learning"].items() if k != "shape"}, indent=1))
        arguments += ["--learn", f"--subjects {args.subjects}", f"--poses {args.poses}"]
        arguments += [f"--noise-mm {args.noise_mm:g}"]
    if args.scans:
        results["raw_scans"] = raw_scans(4, 3, args.seed, args.registered)
        print(json.dumps(results["raw_scans"], indent=1))
        arguments += ["--scans", *(["--registered FOLDER"] if args.registered else [])]
    if args.field:
        results["field"] = {"with deformer": field_quality(args.field)}
        if args.without:
            results["field"]["without deformer"] = field_quality(args.without)
        for name, entry in results["field"].items():
            print(name, entry["psnr_in_box_db"])
        arguments += ["--field RUN", "--without RUN"]
    if not arguments:
        parser.error("nothing to measure: give --speed, --learn, --scans or --field RUN")
    asked = {
        "speed": args.speed,
        "learning": args.learn,
        "raw_scans": args.scans,
        "field": args.field,
    }
    for name, wanted in asked.items():
        if wanted:
            results[name]["measured"] = {
                "command": " ".join(["python -m benchmarks.articulated", *arguments]),
                "load_average_1_min": machine()["load_average_1_min"],
            }
    # folders of one machine do not belong into a result
    write_result("articulated", results, arguments=arguments, out=args.out)


if __name__ == "__main__":
    main()
