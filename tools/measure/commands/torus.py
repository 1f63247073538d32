"""`measure torus`: a torus (fillet, O-ring groove): axis and both radii."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "torus"
HELP = "a torus (fillet, O-ring groove): axis and both radii"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser, axis=False)


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "torus")
