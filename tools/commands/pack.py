"""`pack`: a run as one small file."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "pack"
HELP = "write a run as one small quantised file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write, usually NAME.fsp")
    parser.add_argument(
        "--bits",
        type=int,
        default=8,
        metavar="B",
        help="of weights and grids, 2 to 16; 32 is exact (default: 8)",
    )


def run(args: argparse.Namespace) -> int:
    from ..packing.pack import pack

    print(f"{args.out}: {pack(args.run_folder, args.out, bits=args.bits):,} bytes")
    return 0
