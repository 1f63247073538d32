"""`measure info`: what a point-cloud file holds."""

from __future__ import annotations

import argparse

from .common import add_cloud, finish, load_cloud

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "info"
HELP = "what a file holds: points, extents, spacing, unit, what was removed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_cloud(parser)


def run(args: argparse.Namespace) -> int:
    from ..info import describe

    cloud = load_cloud(args)
    return finish(args, [describe(cloud)], cloud)
