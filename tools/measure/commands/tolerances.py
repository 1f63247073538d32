"""`measure tolerances`: an inspection plan run on one or many parts."""

from __future__ import annotations

import argparse
import sys

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "tolerances"
HELP = (
    "run an inspection plan (YAML) on one or many parts: form, orientation, position, run-out, profile, size"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan", metavar="PLAN", help="features, datums and characteristics, as docs/measuring.md says"
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="a part's point cloud or mesh")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fieldstone.core.errors import UserError

    from ..cli import BAD_INPUT
    from ..decision import exit_code
    from ..io import read
    from ..plan import read_plan
    from ..tolerances import run_plan
    from .common import finish

    plan = read_plan(args.plan)
    results, cloud, broken = [], None, 0
    for path in args.files:
        try:
            cloud = read(path, unit=args.unit)
            results.append(run_plan(cloud, plan, args.seed))
        except UserError as error:
            if len(args.files) == 1:
                raise
            broken += 1
            print(f"fieldstone: error: {' '.join(str(error).split())}", file=sys.stderr)
    if broken and not results:
        return BAD_INPUT
    rows = [row for result in results for row in result.parameters["characteristics"]]
    verdict = BAD_INPUT if broken else exit_code(row["verdict"] for row in rows)
    code = finish(args, results, cloud if len(results) == 1 else None, verdict=verdict)
    if len(args.files) > 1:
        for path, result in zip([m.input["path"] for m in results], results):
            print(f"{Path(path).name}: {result.parameters['verdict']}")
    return code
