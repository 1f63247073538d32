"""`measure match`: how one part goes onto another, and whether its bolts will enter."""

from __future__ import annotations

import argparse

from .common import finish

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "match"
HELP = "match two parts by face and holes: pose, clearances, probability of assembly"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a result of measure holes or flange (.json), of plane, circles and threads (a list), or a cloud"
    parser.add_argument("fixed", metavar="FIXED", help=f"the part that stays: {what}")
    parser.add_argument("moving", metavar="MOVING", help="the part that is brought to it, likewise")
    parser.add_argument(
        "--objective",
        choices=("least-squares", "minimax"),
        default="least-squares",
        help="least squared offsets, or the largest least clearance (default: least-squares)",
    )
    parser.add_argument(
        "--centring",
        choices=("pattern", "bore"),
        default="pattern",
        help="centre on the holes, or put bore on bore and only roll (default: pattern)",
    )
    parser.add_argument(
        "--same-way", action="store_true", help="the faces look the same way (default: they meet)"
    )
    parser.add_argument("--bolt", type=float, metavar="D", help="diameter of the bolts through two holes")
    parser.add_argument("--key", metavar="I:J", help="hole I of FIXED belongs to hole J of MOVING")
    parser.add_argument(
        "--threads",
        nargs=2,
        metavar=("FIXED", "MOVING"),
        help="results of measure thread whose starts must meet",
    )
    parser.add_argument(
        "--near", type=float, metavar="DEG", help="of rolls that fit alike, the one nearest to this"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, metavar="P", help="of the verdict (default: 0.95)"
    )
    parser.add_argument(
        "--robot",
        nargs=2,
        type=float,
        default=(0.0, 0.0),
        metavar=("SHIFT", "DEG"),
        help="standard deviations of the robot's shift and roll (default: 0 0)",
    )


def run(args: argparse.Namespace) -> int:
    from fieldstone.core.errors import UserError

    from ..cli import IN_TOLERANCE, OUT_OF_TOLERANCE, UNDECIDED
    from ..match import match_holes
    from ..result import read_json

    key = None
    if args.key is not None:
        try:
            key = tuple(int(part) for part in args.key.split(":"))
        except ValueError:
            key = ()
        if len(key) != 2:
            raise UserError(f"--key {args.key}: give two numbers of holes, as in 0:0")
    threads = None
    if args.threads:
        threads = tuple(read_json(path)[0] for path in args.threads)
        for path, thread in zip(args.threads, threads):
            if thread.kind != "thread":
                raise UserError(f"{path}: holds a {thread.kind}; give a result of measure thread")
    matched = match_holes(
        _part(args, args.fixed),
        _part(args, args.moving),
        objective=args.objective,
        centring=args.centring,
        same_way=args.same_way,
        bolt_diameter=args.bolt,
        key=key,
        threads=threads,
        near_deg=args.near,
        confidence=args.confidence,
        robot_sigma=tuple(args.robot),
        seed=args.seed,
    )
    verdict = matched.extras["verdict"]
    code = {"does not": OUT_OF_TOLERANCE, "undecided": UNDECIDED}.get(verdict, IN_TOLERANCE)
    status = finish(args, [matched], verdict=code)
    if verdict:
        print(f"verdict: {verdict} (all bolts enter with probability {matched['assembly_probability']:.3f})")
    return status


def _part(args: argparse.Namespace, path: str):
    """The measurements of a result file, or the flange measured in a cloud."""
    if path.lower().endswith(".json"):
        from ..result import read_json

        return read_json(path)
    from ..flange import measure_flange
    from ..io import read

    return measure_flange(read(path, unit=args.unit), seed=args.seed)
