"""`hand learn`: registered meshes and raw scans in, a model out."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import positive_int, whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "learn"
HELP = "learn a model from registered meshes and raw scans of several people"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="DIR",
        help="meshes (.obj .ply .stl .off .glb): DIR/SUBJECT/POSE.ply, or DIR/SUBJECT_POSE.ply; meshes with the "
        "starting model's faces count as registered, others and point clouds are registered first; files with "
        '"left" in their name are mirrored',
    )
    parser.add_argument("--out", required=True, metavar="MODEL.npz", help="the model file to write")
    parser.add_argument(
        "--start",
        default="hand",
        metavar="MODEL",
        help="a model file or name: tree, weights, faces, and where poses start from (default: hand)",
    )
    parser.add_argument("--unit", choices=("m", "cm", "mm"), default="m", help="of the files (default: m)")
    parser.add_argument(
        "--shapes", type=positive_int, default=10, metavar="N", help="shape directions to keep (default: 10)"
    )
    parser.add_argument(
        "--components", type=positive_int, metavar="N", help="pose components to keep (default: all)"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=4, metavar="N", help="poses and templates in turn (default: 4)"
    )
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of the meshes, for testing only (default: 0.1)",
    )
    parser.add_argument(
        "--points",
        type=positive_int,
        default=4000,
        metavar="N",
        help="of a raw scan that are used at most (default: 4000)",
    )
    parser.add_argument(
        "--registered", metavar="FOLDER", help="write the registered meshes of raw scans here, as .ply"
    )
    parser.add_argument(
        "--report", metavar="FILE", help=".json or .html (default: MODEL.json beside the model)"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="S", help="(default: 0)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    import numpy as np

    from ....fields.articulated.mirror import mirror_model
    from ....fields.articulated.model_file import write_model
    from ..learning.folder import registered_folder
    from ..learning.learn import LearnSettings, learn
    from ..learning.report import learning_lines, write_learning_report
    from ..models import model_data

    out = Path(args.out)
    report = Path(args.report) if args.report else out.with_suffix(".json")
    if out.suffix != ".npz":
        raise UserError(f"--out {out}: a model file ends in .npz, not in {out.suffix!r}")
    if report.suffix not in (".json", ".html"):
        raise UserError(f"--report {report}: no format {report.suffix!r}; use .json or .html")
    if not 0 <= args.held_out < 0.9:
        raise UserError(f"--held-out {args.held_out:g}: expected a share from 0 to 0.9")
    start = model_data(args.start)
    rng = np.random.default_rng(args.seed)
    meshes, notes = registered_folder(
        args.folder,
        start,
        unit=args.unit,
        points=args.points,
        written=args.registered,
        rng=rng,
        progress=print,
    )
    settings = LearnSettings(
        shapes=args.shapes, components=args.components, rounds=args.rounds, held_out=args.held_out
    )
    learned = learn(start, meshes, settings, rng=rng, progress=print)
    learned.report["notes"] = notes + learned.report["notes"]
    write_model(out, learned.data)
    files = [str(out)]
    if start.layout == "mano" and start.side in ("left", "right"):
        other = mirror_model(learned.data)
        pair = out.with_name(f"{out.stem}-{other.side}.npz")
        write_model(pair, other)
        files.append(str(pair))
    write_learning_report(report, learned.report)
    for line in learning_lines(learned.report):
        print(line)
    print(*files, report)
    return 0
