"""`measure thread`: a screw thread's pitch, lead, hand, starts, start angle and diameters."""

from __future__ import annotations

import argparse

from .common import add_cloud, finish, load_cloud

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "thread"
HELP = "a screw thread: pitch, lead, hand, starts, start angle, diameters"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cloud(parser)
    parser.add_argument(
        "--pitch-range",
        nargs=2,
        type=float,
        metavar=("LEAST", "MOST"),
        help="search pitches between these, in the cloud's unit (default: from the spacing of the points)",
    )
    parser.add_argument("--starts", type=int, metavar="N", help="number of starts (default: found)")
    parser.add_argument("--internal", action="store_true", help="a nut's thread, with the material outside")
    parser.add_argument(
        "--datum",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="give start angle and axis point in the plane across the axis through this point (default: the zone's middle)",
    )


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from ..thread import fit_thread

    cloud = load_cloud(args)
    measurement = fit_thread(
        cloud,
        pitch_range=None if args.pitch_range is None else tuple(args.pitch_range),
        starts=args.starts,
        internal=args.internal,
        datum=args.datum,
        rng=np.random.default_rng(args.seed),
    )
    measurement.seed = args.seed
    return finish(args, [measurement], cloud)
