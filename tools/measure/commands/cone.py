"""`measure cone`: a cone (countersink, taper): axis, half angle and apex."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "cone"
HELP = "a cone (countersink, taper): axis, half angle and apex"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser, axis=False)


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "cone")
