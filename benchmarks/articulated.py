"""Articulated models: forward pass against smplx, learning from registered hands, fields of hands in new poses.

    python -m benchmarks.articulated --speed
    python -m benchmarks.articulated --learn
    python -m benchmarks.articulated --field RUN --without RUN

Each part that is asked for replaces its own entry of the result file; the others stay, with the date and machine they were measured on.
`smplx` is optional (a peer to be compared with, never a dependency). RUN and RUN are two runs of `train-scene --method hand` on one capture
(with the deformer and with `--set deformer=false`), looked at in the box around the hand in each picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import RESULTS, interleaved, machine, print_table, threads, write_result
from fieldstone.fields.articulated import ArticulatedModel, ModelData
from fieldstone.fields.articulated.built_in import built_in
from fieldstone.fields.articulated.layouts import LAYOUTS
from fieldstone.tools.hand.learning.learn import learn
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
    angles = principal_angles(
        true.shape_basis.reshape(-1, shapes), learned.data.shape_basis.reshape(-1, shapes)
    )
    error = learned.report["held_out_error_mm"]
    return {
        "data": f"{subjects} subjects x {poses} poses of the procedural hand, {1e3 * noise:g} mm of noise a coordinate",
        "explained_by_10": round(learned.report["explained"]["10"], 5),
        "explained_by_10_with_noise": round(learned.report["explained_with_noise"]["10"], 5),
        "held_out_error_mm": {key: round(value, 4) for key, value in error.items()},
        "held_out_error_ratio": round(error["correctives"] / error["skinning"], 3),
        "principal_angles_deg": [round(float(a), 2) for a in np.degrees(angles)],
        "noise_found_mm": round(learned.report["noise_mm"], 4),
        "shape": learned.report["shape"],
        "seconds": round(seconds, 1),
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
    if args.field:
        results["field"] = {"with deformer": field_quality(args.field)}
        if args.without:
            results["field"]["without deformer"] = field_quality(args.without)
        for name, entry in results["field"].items():
            print(name, entry["psnr_in_box_db"])
        arguments += ["--field RUN", "--without RUN"]
    if not arguments:
        parser.error("nothing to measure: give --speed, --learn or --field RUN")
    for name, asked in (("speed", args.speed), ("learning", args.learn), ("field", args.field)):
        if asked:
            results[name]["measured"] = {
                "command": " ".join(["python -m benchmarks.articulated", *arguments]),
                "load_average_1_min": machine()["load_average_1_min"],
            }
    # folders of one machine do not belong into a result
    write_result("articulated", results, arguments=arguments, out=args.out)


if __name__ == "__main__":
    main()
