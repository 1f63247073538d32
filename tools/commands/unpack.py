"""`unpack`: a packed file as a picture, as a video or as a run folder."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "unpack"
HELP = "write a packed file as an image, a video or a run folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `fieldstone pack` wrote")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="name.png, .jpg or .exr for the picture itself (images), name.mp4 or .gif for the video itself (videos), "
        "else a run folder",
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ..api import render_image, render_video
    from ..movie import MOVIE_SUFFIXES
    from ..packing.pack import unpack

    out = Path(args.out)
    if out.suffix.lower() in MOVIE_SUFFIXES:
        render_video(args.file, out)
    elif out.suffix:
        render_image(args.file, out)
    else:
        unpack(args.file, out)
    print(out)
    return 0
