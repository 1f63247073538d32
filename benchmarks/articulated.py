"""`python -m benchmarks.articulated`: the forward pass of a MANO-format hand against smplx.MANO, and posed hands seen through a field.

Both get the same random arrays in MANO's sizes and the same random shapes, poses (axis-angles) and translations, in float32 and this process,
in turn. `--field RUN --without RUN` adds the held-out quality of two runs of `train-scene --method hand` on one capture (with the deformer
and with `--set deformer=false`), in the box around the hand in each picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import interleaved, print_table, threads, write_result
from fieldstone.fields.articulated import ArticulatedModel, ModelData
from fieldstone.fields.articulated.layouts import LAYOUTS

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
    capture, scene = run.capture, run.scene()
    count = len(scene.method.motion["skinning"])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--field", type=Path, metavar="RUN")
    parser.add_argument("--without", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: dict[str, object] = {}
    with threads(args.threads):
        for name, backward in (("forward", False), ("forward_and_backward", True)):
            batches = BATCHES if not backward else (1, 64, 512)
            results[name] = {str(batch): compare(batch, args.rounds, backward) for batch in batches}
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
    if args.field:
        results["field"] = {"with deformer": field_quality(args.field)}
        if args.without:
            results["field"]["without deformer"] = field_quality(args.without)
        for name, entry in results["field"].items():
            print(name, entry["psnr_in_box_db"])
    # folders of one machine do not belong into a result
    write_result(
        "articulated",
        results,
        arguments=[f"--rounds {args.rounds}", f"--threads {args.threads}"],
        out=args.out,
    )


if __name__ == "__main__":
    main()
