"""`train-video`: a video in, a run folder out."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from .arguments import number, positive_int, setting, whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "train-video"
HELP = "learn a video as a small network"


def _size(text: str) -> tuple[int, int]:
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as WIDTHxHEIGHT, 320x192 say") from None
    return width, height


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "video", nargs="?", metavar="FILE", help="MP4, MOV, MKV, ..., y4m, raw I420, or a folder of frames"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder to write")
    parser.add_argument("--size", type=_size, metavar="WxH", help="of raw I420, which does not say it")
    parser.add_argument(
        "--fps", type=number, metavar="F", help="frames a second (default: the file's, or 30)"
    )
    parser.add_argument(
        "--method",
        choices=("cam", "plain"),
        help="with modulation over time, or the same without it (default: cam)",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=number, metavar="M", help="train this long (default: 5)")
    budget.add_argument("--steps", type=positive_int, metavar="N", help="train this many steps instead")
    parser.add_argument(
        "--parameters",
        type=positive_int,
        metavar="BUDGET",
        help="most parameters of the model, about a byte each in the packed file (default: 2 for 100 pixels of all frames)",
    )
    parser.add_argument(
        "--bits", type=positive_int, metavar="B", help="train the last part through this quantisation"
    )
    parser.add_argument("--loss", choices=("mixed", "mse"), help="L1 and SSIM, or squared (default: mixed)")
    parser.add_argument("--seed", type=whole, metavar="S", help="seed of everything random (default: 0)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="another setting of the method; may be repeated",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="show no progress")


_FIXED = ("size", "fps", "method", "parameters", "bits", "loss", "seed")


def run(args: argparse.Namespace) -> int:
    from ..video.start import resume_video, start_video

    if args.resume:
        given = [f"--{name}" for name in _FIXED if getattr(args, name) is not None]
        if given or args.settings:
            raise UserError(
                f"{given[0] if given else '--set'} cannot be changed with --resume: the run in {args.out} keeps what it began with"
            )
        _, outcome = resume_video(
            args.out, data=args.video, minutes=args.minutes, steps=args.steps, quiet=args.quiet
        )
    else:
        if args.video is None:
            raise UserError("train-video: say which video FILE to learn")
        chosen = {"model": args.method, "parameters": args.parameters, "bits": args.bits, "loss": args.loss}
        _, outcome = start_video(
            args.video,
            args.out,
            size=args.size,
            fps=args.fps,
            minutes=args.minutes,
            steps=args.steps,
            seed=args.seed or 0,
            settings={**{k: v for k, v in chosen.items() if v is not None}, **dict(args.settings)},
            device=args.device,
            quiet=args.quiet,
        )
    return 130 if outcome.interrupted is not None else 0
