"""`measure decode`: fringe images of a stereo pair to a point cloud."""

from __future__ import annotations

import argparse

from .common import finish

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "decode"
HELP = "fringe images of a stereo pair (phase steps and Gray code) to a point cloud"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", metavar="DIR", help="folder with L and R: N phase steps, then Gray images, each"
    )
    parser.add_argument(
        "--calibration",
        metavar="PATH",
        help="OpenCV file with M1, D1, M2, D2, R, T, or a folder of such files (default: those in DIR)",
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="write the cloud here, as .ply")
    parser.add_argument("--steps", type=int, default=4, metavar="N", help="phase steps (default: 4)")
    parser.add_argument("--inverse", action="store_true", help="each Gray image is followed by its inverse")
    parser.add_argument(
        "--no-complementary", action="store_true", help="the Gray code has no extra bit for half fringes"
    )
    parser.add_argument(
        "--min-modulation",
        type=float,
        metavar="GREY",
        help="least fringe amplitude (default: 5 times the noise)",
    )
    parser.add_argument(
        "--edge-modulation",
        type=float,
        default=0.5,
        metavar="PART",
        help="drop pixels with less than this part of the modulation around them; 0: keep (default: 0.5)",
    )
    parser.add_argument(
        "--z-range",
        type=float,
        nargs=2,
        metavar=("NEAR", "FAR"),
        help="keep only what lies between these distances along the left camera's axis, in --unit",
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not check that the calibration fits the images"
    )


def run(args: argparse.Namespace) -> int:
    from ..structured_light import decode

    decoded = decode(
        args.images,
        args.calibration or args.images,
        unit=args.unit,
        steps=args.steps,
        complementary=not args.no_complementary,
        inverse=args.inverse,
        min_modulation=args.min_modulation,
        edge_modulation=args.edge_modulation,
        z_range=tuple(args.z_range) if args.z_range else None,
        check=not args.no_check,
    )
    if args.out:
        from ..io import write_ply

        write_ply(args.out, decoded.cloud)
        print(f"written: {args.out} ({len(decoded.cloud)} points)")
    return finish(args, [decoded.measurement], decoded.cloud)
