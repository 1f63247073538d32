"""`measure holes`: the holes, slots and notches of a face."""

from __future__ import annotations

import argparse

from .common import add_cloud, finish, load_cloud

__all__ = ["HELP", "NAME", "add_arguments", "add_face", "diameter_range", "run", "run_on_face"]

NAME = "holes"
HELP = "the holes of a face: centres, radii, bores, countersinks, slots"


def add_face(parser: argparse.ArgumentParser) -> None:
    """Which holes of which face are wanted."""
    parser.add_argument(
        "--diameter",
        metavar="LEAST:MOST",
        help="only holes of such diameters, as in 8:12, in the cloud's unit",
    )
    parser.add_argument(
        "--face",
        type=int,
        default=0,
        metavar="N",
        help="0: the largest plane, 1: the next parallel one (default: 0)",
    )
    parser.add_argument("--sigma", type=float, metavar="S", help="the noise's standard deviation, if known")
    parser.add_argument("--rims-only", action="store_true", help="do not look at the walls below the rims")


def diameter_range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of "8:12"."""
    from fieldstone.core.errors import UserError

    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(":"))
    except ValueError:
        raise UserError(f"--diameter {text}: give two numbers, as in 8:12") from None
    return low, high


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cloud(parser)
    add_face(parser)


def run(args: argparse.Namespace) -> int:
    from ..holes import find_holes

    return run_on_face(args, find_holes)


def run_on_face(args: argparse.Namespace, measure) -> int:
    cloud = load_cloud(args)
    measured = measure(
        cloud,
        diameter=diameter_range(args.diameter),
        face=args.face,
        walls=not args.rims_only,
        sigma=args.sigma,
        seed=args.seed,
    )
    return finish(args, [measured], cloud)
