"""`measure cylinder`: a cylinder (shaft or bore): axis and radius."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "cylinder"
HELP = "a cylinder (shaft or bore): axis and radius"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser, radius=True)


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "cylinder")
