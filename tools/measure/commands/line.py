"""`measure line`: the line most points lie on."""

from __future__ import annotations

import argparse

from .primitive import add_fit_arguments, run_fit

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "line"
HELP = "the line most points lie on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_fit_arguments(parser)


def run(args: argparse.Namespace) -> int:
    return run_fit(args, "line")
