"""`hand render`: pictures of a hand or body, or a video of a motion."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import number, positive_int
from .common import add_posed, open_posed

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "render"
HELP = "render a result or model: one picture, or a video of its motion or of a turn around it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_posed(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="name.png or .jpg: one picture; name.mp4, .gif: the motion, or a turn",
    )
    parser.add_argument(
        "--style",
        choices=("lambert", "normals", "z-depth", "faces", "parts"),
        default="lambert",
        help="(default: lambert)",
    )
    parser.add_argument(
        "--size", type=positive_int, default=640, metavar="PIXELS", help="width and height (default: 640)"
    )
    parser.add_argument(
        "--azimuth",
        type=float,
        default=None,
        metavar="DEG",
        help="0 from the front (+z), 90 from +x (default: 30)",
    )
    parser.add_argument(
        "--elevation",
        type=float,
        default=None,
        metavar="DEG",
        help="90 from above (default: 55 for hands, 10 for bodies)",
    )
    parser.add_argument(
        "--turn",
        type=positive_int,
        metavar="FRAMES",
        help="frames of one turn around a single pose (default: 60)",
    )
    parser.add_argument("--fps", type=number, metavar="F", help="frames a second (default: the result's)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ..pictures import draw, draw_video

    suffix = Path(args.out).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".mp4", ".gif"):
        raise UserError(f"{args.out}: no format {suffix!r}; use .png, .jpg, .mp4 or .gif")
    data, result = open_posed(args)
    view = {"style": args.style, "size": args.size, "azimuth": args.azimuth, "elevation": args.elevation}
    if suffix in (".mp4", ".gif"):
        draw_video(args.out, data, result, turn=args.turn, fps=args.fps, **view)
    else:
        draw(args.out, data, result, **view)
    print(args.out)
    return 0
