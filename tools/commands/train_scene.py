"""`train-scene`: a capture in, a run folder out."""

from __future__ import annotations

import argparse
from pathlib import Path

from fieldstone.core.errors import UserError

from .arguments import number, positive_int, setting, whole

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "train-scene"
HELP = "train a scene from posed images, photos or a video"

_FIXED = ("method", "downscale", "holdout", "seed", "backend", "precision", "block_size", "blocks")
"""What a run keeps from its start: these cannot be given with --resume."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a capture (recognised by its content: NeRF-synthetic, transforms.json, COLMAP, LLFF, KITTI-360, KITTI raw, "
        "Waymo TFRecord, DNMP's sequences), a folder of photos, or a video; without it, the small scene that comes with "
        "Fieldstone",
    )
    parser.add_argument("--out", metavar="RUN", help="run folder to write (default: runs/<name of DATA>)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes",
        type=number,
        metavar="M",
        help="train this long (default: 5, 1 for the bundled scene; on a GPU 1 and 0.25)",
    )
    budget.add_argument("--steps", type=positive_int, metavar="N", help="train this many steps instead")
    parser.add_argument(
        "--method", metavar="NAME", help="training method, or module:Class (default: hash-grid)"
    )
    parser.add_argument(
        "--downscale", type=number, metavar="K", help="make the images K times smaller (default: 1)"
    )
    parser.add_argument(
        "--holdout",
        type=whole,
        metavar="EVERY",
        help="hold out every EVERY-th frame for testing, 0 for none (default: what the data says, else 8)",
    )
    parser.add_argument("--seed", type=whole, metavar="S", help="seed of everything random (default: 0)")
    parser.add_argument("--backend", metavar="NAME", help="kernels to use (default: auto, the fastest here)")
    parser.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), help="of the small networks (default: auto)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: auto)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out; a new budget counts for the whole run",
    )
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a setting of the method; may be repeated",
    )
    divided = parser.add_mutually_exclusive_group()
    divided.add_argument(
        "--block-size",
        type=number,
        metavar="L",
        help="method dnmp: train in blocks of at most L source units along the way; the budget counts for each",
    )
    divided.add_argument(
        "--blocks", metavar="FILE.json", help="method dnmp: train in the blocks of this list"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def run(args: argparse.Namespace) -> int:
    from ..training.start import default_out, resume_run, start_run

    if args.resume:
        out = Path(args.out) if args.out is not None else default_out(args.data)
        given = [f"--{name.replace('_', '-')}" for name in _FIXED if getattr(args, name) is not None]
        given += ["--set"] if args.settings else []
        if given:
            raise UserError(
                f"{given[0]} cannot be changed with --resume: the run in {out} keeps what it began with"
            )
        _, outcome = resume_run(
            out, data=args.data, minutes=args.minutes, steps=args.steps, device=args.device, quiet=args.quiet
        )
    else:
        _, outcome = start_run(
            args.data,
            args.out,
            minutes=args.minutes,
            steps=args.steps,
            method=args.method or "hash-grid",
            downscale=args.downscale or 1,
            holdout=args.holdout,
            seed=args.seed or 0,
            settings={
                "backend": args.backend or "auto",
                "precision": args.precision or "auto",
                **dict(args.settings),
            },
            device=args.device,
            quiet=args.quiet,
            block_size=args.block_size,
            blocks=args.blocks,
        )
    return 130 if outcome is not None and outcome.interrupted is not None else 0
