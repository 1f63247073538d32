"""`measure verify-nist`: our least-squares fits against NIST's reference pairs."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "verify-nist"
HELP = "hold the least-squares fits against reference pairs (.ds points, .fit result) of NIST's algorithm testing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", help="folder searched for NAME.ds beside NAME.fit, with its subfolders"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-7,
        metavar="E",
        help="largest difference, in the pairs' millimetres and in radians (default: 1e-7)",
    )


def run(args: argparse.Namespace) -> int:
    from ..nist import verify
    from .common import finish

    result = verify(args.folder, args.tolerance)
    verdict = 0 if result.parameters["failed"] == 0 else 1
    return finish(args, [result], None, verdict=verdict)
