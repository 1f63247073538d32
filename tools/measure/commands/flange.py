"""`measure flange`: face, bore, bolt circle and holes in one go."""

from __future__ import annotations

import argparse

from .common import add_cloud
from .holes import add_face, run_on_face

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "flange"
HELP = "a flange: face, bore, bolt circle and holes in one go"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cloud(parser)
    add_face(parser)


def run(args: argparse.Namespace) -> int:
    from ..flange import measure_flange

    return run_on_face(args, measure_flange)
