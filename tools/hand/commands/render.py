"""`hand render`: pictures of a hand or body, or a video of a motion."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import number, positive_int, whole
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
    parser.add_argument(
        "--photo",
        nargs="?",
        const="",
        metavar="FILE",
        help="draw it over a photo: the one the result was fitted to, or another of that camera",
    )
    parser.add_argument(
        "--view",
        type=whole,
        default=0,
        metavar="N",
        help="which camera of the result --photo means (default: 0)",
    )
    parser.add_argument(
        "--frame", type=whole, default=0, metavar="N", help="which frame a picture shows (default: 0)"
    )
    parser.add_argument("--fps", type=number, metavar="F", help="frames a second (default: the result's)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ..pictures import draw, draw_video

    suffix = Path(args.out).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".mp4", ".gif"):
        raise UserError(f"{args.out}: no format {suffix!r}; use .png, .jpg, .mp4 or .gif")
    data, result = open_posed(args)
    if args.photo is not None:
        import torch

        from ....render.rasterise.picture import write_picture
        from ..overlay import overlay

        if suffix in (".mp4", ".gif"):
            raise UserError(f"{args.out}: --photo makes one picture; use .png or .jpg")
        image = overlay(
            data,
            result,
            args.result,
            photo=args.photo or None,
            view=args.view,
            frame=args.frame,
            parts=args.style == "parts",
        )
        write_picture(args.out, torch.from_numpy(image))
        print(args.out)
        return 0
    if args.frame >= len(result.pose):
        raise UserError(f"--frame {args.frame}: there are {len(result.pose)} frames, numbered from 0")
    view = {"style": args.style, "size": args.size, "azimuth": args.azimuth, "elevation": args.elevation}
    if suffix in (".mp4", ".gif"):
        draw_video(args.out, data, result, turn=args.turn, fps=args.fps, **view)
    else:
        draw(args.out, data, result, frame=args.frame, **view)
    print(args.out)
    return 0
