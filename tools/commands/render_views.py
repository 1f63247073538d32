"""`render-views`: pictures of a run's scene along a camera path."""

from __future__ import annotations

import argparse
import sys

from .arguments import number, positive_int

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "render-views"
HELP = "render new views of a run as a video or pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--path",
        default="orbit",
        metavar="PATH",
        help="orbit, spiral, interpolate (through the training cameras), dataset (the frames of "
        "--split), or a camera path JSON file (default: orbit)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="name.mp4, name.gif, or a folder for PNG frames (no suffix)",
    )
    parser.add_argument("--split", metavar="NAME", help="frames of --path dataset (default: test, else all)")
    parser.add_argument(
        "--frames", type=positive_int, metavar="N", help="frames of a made path (default: 120)"
    )
    parser.add_argument(
        "--fps", type=number, metavar="F", help="frames a second (default: the file's, or 30)"
    )
    parser.add_argument(
        "--width", type=positive_int, metavar="W", help="pixels; one of both keeps the proportions"
    )
    parser.add_argument("--height", type=positive_int, metavar="H", help="pixels")
    parser.add_argument("--downscale", type=number, default=1.0, metavar="K", help="render K times smaller")
    parser.add_argument(
        "--output",
        choices=("colour", "z_depth", "opacity", "normals"),
        default="colour",
        help="what to show (default: colour)",
    )
    parser.add_argument(
        "--background", choices=("white", "black"), help="behind the scene (default: the capture's)"
    )
    parser.add_argument(
        "--time",
        type=float,
        metavar="T",
        help="moment of a moving scene, 0 to 1 (default: a frame's own; made paths go through all)",
    )
    parser.add_argument(
        "--transform",
        metavar="FILE",
        help="nerfstudio's dataparser_transforms.json, for a path file that is in the frame of its viewer",
    )
    parser.add_argument(
        "--motion",
        metavar="RESULT.npz",
        help="poses for a trained hand (`hand fit` writes such files), shown over the frames of the path",
    )


def run(args: argparse.Namespace) -> int:
    from ..api import render_views

    def on_frame(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(
                f"\rframe {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True
            )

    out = render_views(
        args.run_folder,
        args.path,
        args.out,
        frames=args.frames,
        fps=args.fps,
        split=args.split,
        width=args.width,
        height=args.height,
        downscale=args.downscale,
        output=args.output,
        background=args.background,
        time=args.time,
        transform=args.transform,
        motion=args.motion,
        on_frame=on_frame,
    )
    print(out)
    return 0
