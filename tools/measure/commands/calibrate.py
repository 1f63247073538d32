"""`measure calibrate`: a stereo pair from images of a board."""

from __future__ import annotations

import argparse

from .common import finish

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "calibrate"
HELP = "calibrate a stereo pair from images of a chessboard"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", metavar="DIR", help="folder with L and R: one image of the board per view, each"
    )
    parser.add_argument(
        "--board",
        required=True,
        metavar="CxR:SIZE",
        help='inner corners and side of a square, as in "9x7:25mm"',
    )
    parser.add_argument(
        "-o", "--out", metavar="FILE", help="write the calibration here, as OpenCV .yml or .xml"
    )


def run(args: argparse.Namespace) -> int:
    from ..structured_light import calibrate, write_calibration

    calibration, result = calibrate(args.images, args.board, unit=args.unit, seed=args.seed)
    if args.out:
        write_calibration(args.out, calibration)
        print(f"written: {args.out}")
    return finish(args, [result])
