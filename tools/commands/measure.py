"""`measure`: features, fits, holes, threads and tolerances from point clouds; its subcommands are in tools/measure."""

from __future__ import annotations

import argparse

from ..measure import cli

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "measure"
HELP = "measure point clouds: planes, bores, holes, threads, assemblies, tolerances"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_subcommands(parser)


def run(args: argparse.Namespace) -> int:
    return cli.run(args)
