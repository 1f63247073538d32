"""`render-video`: a learned video as a video, an animation, pictures, or one frame of it."""

from __future__ import annotations

import argparse
import sys

from .arguments import whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "render-video"
HELP = "decode a learned video, or one frame of it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run of train-video, or a packed file")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="name.mp4 or .gif; without a suffix a folder of PNG frames; with --frame name.png",
    )
    parser.add_argument("--frame", type=whole, metavar="N", help="only this one, from 0")


def run(args: argparse.Namespace) -> int:
    from ..api import render_video

    def on_frame(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\rframe {done} of {total}\033[K", end="", file=sys.stderr, flush=True)

    out = render_video(args.run_folder, args.out, frame=args.frame, on_frame=on_frame)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(out)
    return 0
