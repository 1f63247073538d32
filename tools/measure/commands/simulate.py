"""`measure simulate`: a part with known dimensions, as a scanner would see it."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "simulate"
HELP = "write a simulated scan, surface or set of fringe images of a part, with the truth"

_PARTS = (
    "flange keyed-flange turbine-flange studs keyed-studs shaft turbine-shaft stud".split()
)  # of simulate.PRESETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("part", choices=_PARTS, help="which part")
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="write the files here")
    parser.add_argument(
        "--as",
        dest="way",
        choices=("scan", "surface", "images"),
        default="scan",
        help="a scanner's cloud (default), points from all sides, or the scanner's fringe images",
    )
    parser.add_argument(
        "--points", type=int, default=100_000, metavar="N", help="of --as surface (default: 100000)"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.05,
        metavar="MM",
        help="standard deviation of a point in mm (default: 0.05)",
    )
    parser.add_argument(
        "--width", type=int, default=2048, metavar="PIXELS", help="of the cameras (default: 2048)"
    )
    parser.add_argument(
        "--view", type=float, default=340.0, metavar="MM", help="width of the view (default: 340)"
    )
    parser.add_argument("--tilt", type=float, default=15.0, metavar="DEG", help="of the part (default: 15)")


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from fieldstone.core.errors import UserError

    from ..simulate import build, write_simulation

    if args.seed < 0 or args.noise < 0 or not 64 <= args.width <= 8192 or not args.view > 0:
        raise UserError(
            f"seed {args.seed}, noise {args.noise:g}, width {args.width}, view {args.view:g}: seed and noise at least 0, "
            "width 64 to 8192, view above 0"
        )
    rng = np.random.default_rng(args.seed)
    written = write_simulation(
        args.out, build(args.part, rng), rng, way=args.way, unit=args.unit or "mm", points=args.points, noise=args.noise,
        width=args.width, view=args.view, tilt_deg=args.tilt,
    )  # fmt: skip
    for what, path in written.items():
        print(f"{what}: {path}")
    if args.json:
        from fieldstone.core.files import atomic_write_json

        atomic_write_json(args.json, {what: str(path) for what, path in written.items()})
    return 0
