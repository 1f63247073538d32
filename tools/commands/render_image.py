"""`render-image`: a learned image at any size, or a part of it."""

from __future__ import annotations

import argparse

from .arguments import positive_int

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "render-image"
HELP = "write a learned image at any size, or a part of it"


def _crop(text: str) -> tuple[int, int, int, int]:
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as X,Y,WIDTH,HEIGHT in pixels") from None
    return x, y, width, height


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run of train-image, or a packed file")
    parser.add_argument("--out", required=True, metavar="FILE", help="name.png, .jpg or .exr")
    parser.add_argument(
        "--width", type=positive_int, metavar="W", help="of the whole image; one side keeps the proportions"
    )
    parser.add_argument("--height", type=positive_int, metavar="H", help="pixels (default: as trained)")
    parser.add_argument(
        "--crop",
        type=_crop,
        metavar="X,Y,W,H",
        help="only this part of the image, in its pixels at that size",
    )
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of a PNG (default: 8)")


def run(args: argparse.Namespace) -> int:
    from ..api import render_image

    print(
        render_image(
            args.run_folder, args.out, width=args.width, height=args.height, crop=args.crop, bits=args.bits
        )
    )
    return 0
