"""`train-image`: an image file in, a run folder out."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from .arguments import number, positive_int, setting, whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "train-image"
HELP = "learn an image as a small field"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", metavar="FILE", help="PNG, JPEG, TIFF, EXR, Radiance HDR, ...")
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder to write")
    parser.add_argument(
        "--method", choices=("cam", "fourier", "hash-grid"), help="the model of the image (default: cam)"
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=number, metavar="M", help="train this long (default: 2)")
    budget.add_argument("--steps", type=positive_int, metavar="N", help="train this many steps instead")
    parser.add_argument(
        "--parameters",
        type=positive_int,
        metavar="BUDGET",
        help="most parameters of the model (default: a quarter of the pixels, 4,000 to 70,000)",
    )
    parser.add_argument(
        "--protocol",
        choices=("regression", "generalisation"),
        help="train on all pixels, or on every second of each axis and measure on the rest (default: regression)",
    )
    parser.add_argument(
        "--bits", type=positive_int, metavar="B", help="train the last part through this quantisation"
    )
    parser.add_argument(
        "--background", choices=("white", "black"), help="lay an alpha channel or a palette over this"
    )
    parser.add_argument("--seed", type=whole, metavar="S", help="seed of everything random (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="another setting of the method; may be repeated",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


_FIXED = ("method", "parameters", "protocol", "bits", "background", "seed")


def run(args: argparse.Namespace) -> int:
    from ..images.start import resume_image, start_image

    if args.resume:
        given = [f"--{name}" for name in _FIXED if getattr(args, name) is not None]
        if given or args.settings:
            raise UserError(
                f"{given[0] if given else '--set'} cannot be changed with --resume: the run in {args.out} keeps what it began with"
            )
        _, outcome = resume_image(
            args.out, data=args.image, minutes=args.minutes, steps=args.steps, quiet=args.quiet
        )
    else:
        if args.image is None:
            raise UserError("train-image: say which image FILE to learn")
        chosen = {
            "model": args.method,
            "parameters": args.parameters,
            "protocol": args.protocol,
            "bits": args.bits,
        }
        _, outcome = start_image(
            args.image,
            args.out,
            minutes=args.minutes,
            steps=args.steps,
            seed=args.seed or 0,
            settings={**{k: v for k, v in chosen.items() if v is not None}, **dict(args.settings)},
            background=args.background,
            device=args.device,
            quiet=args.quiet,
        )
    return 130 if outcome.interrupted is not None else 0
