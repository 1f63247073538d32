"""`unpack`: a packed file as a picture or as a run folder."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "unpack"
HELP = "write a packed file as an image or as a run folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what `fieldstone pack` wrote")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="name.png, .jpg or .exr for the picture itself (images), else a run folder",
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from ..api import render_image
    from ..packing.pack import unpack

    out = Path(args.out)
    if out.suffix:
        render_image(args.file, out)
    else:
        unpack(args.file, out)
    print(out)
    return 0
