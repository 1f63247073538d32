"""`hand capture`: a synthetic multi-view capture of a posed hand, with its poses as ground truth."""

from __future__ import annotations

import argparse

from ...commands.arguments import positive_int, whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "capture"
HELP = "write a synthetic multi-view capture of a moving hand, for train-scene --method hand"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the capture to write")
    parser.add_argument(
        "--model", default="hand", metavar="MODEL", help="a model file or name (default: hand)"
    )
    parser.add_argument(
        "--handposes", metavar="FOLDER", help="recorded poses (.handpose) to use before random ones"
    )
    parser.add_argument(
        "--poses", type=positive_int, default=16, metavar="N", help="poses in all (default: 16)"
    )
    parser.add_argument(
        "--test-poses",
        type=positive_int,
        default=4,
        metavar="N",
        help="of them for testing only (default: 4)",
    )
    parser.add_argument(
        "--views", type=positive_int, default=10, metavar="N", help="pictures of each pose (default: 10)"
    )
    parser.add_argument("--size", type=positive_int, default=256, metavar="PIXELS", help="(default: 256)")
    parser.add_argument("--seed", type=whole, default=0, metavar="S", help="(default: 0)")


def run(args: argparse.Namespace) -> int:
    from ..synthetic_capture import write_hand_capture

    write_hand_capture(
        args.out,
        args.model,
        poses=args.poses,
        test_poses=args.test_poses,
        views=args.views,
        size=args.size,
        seed=args.seed,
        handposes=args.handposes,
    )
    print(args.out)
    return 0
