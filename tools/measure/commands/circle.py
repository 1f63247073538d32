"""`measure circle`: a circle in space: centre, normal and radius."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "circle"
HELP = "a circle in space: centre, normal and radius"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser, radius=True)
    parser.add_argument(
        "--method",
        choices=("orthogonal", "plane-then-circle"),
        default="orthogonal",
        help="distances to the curve in space, or a plane first and the circle in it (default: orthogonal)",
    )


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "circle", method=args.method)
