"""`hand info`: what a model file holds."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "info"
HELP = "say what a model file holds: shapes, hash, tree, names in a pickle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="MODEL", help="a model file, or hand, body, anatomical-hand, anatomical-body"
    )
    parser.add_argument("--json", metavar="FILE", help="write the report here as well")


def run(args: argparse.Namespace) -> int:
    from fieldstone.core.files import atomic_write_json

    from ....fields.articulated.mano_file import read_mano
    from ..models import is_ours, model_data
    from ..report import foreign_lines, model_lines, model_report

    foreign = None
    if is_ours(args.file):
        data = model_data(args.file)
    else:
        foreign = read_mano(args.file)
        data = foreign.data
    for line in (*model_lines(data), *(foreign_lines(foreign) if foreign else ())):
        print(line)
    if args.json:
        atomic_write_json(args.json, model_report(data, foreign))
    return 0
