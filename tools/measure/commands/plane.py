"""`measure plane`: the plane most points lie on."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "plane"
HELP = "the plane most points lie on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "plane")
