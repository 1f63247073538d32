"""What the subcommands share: reading the cloud, choosing points, and writing JSON and report. Imports nothing heavy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..cloud import Cloud
    from ..result import Measurement

__all__ = ["add_cloud", "add_common", "finish", "load_cloud", "print_measurement"]


def add_common(parser: argparse.ArgumentParser) -> None:
    """--unit, --json, --report, --seed and --debug, which every subcommand takes."""
    group = parser.add_argument_group("common to all subcommands")
    group.add_argument(
        "--unit", metavar="mm|m|um|inch", help="unit of the numbers in the input (default: the file's own)"
    )
    group.add_argument("--json", metavar="FILE", help="write the result here")
    group.add_argument("--report", metavar="DIR", help="write a self-contained report.html here")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of the random search (default: 0)")
    group.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )


def add_cloud(parser: argparse.ArgumentParser) -> None:
    """FILE and the choice of a region of interest in it."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="point cloud: .ply .pcd .xyz .txt .csv .npy .las .laz .e57; or mesh: .stl .obj",
    )
    parser.add_argument(
        "--box",
        nargs=6,
        type=float,
        metavar=("X0", "Y0", "Z0", "X1", "Y1", "Z1"),
        help="use only the points inside this box, in the cloud's unit",
    )
    parser.add_argument(
        "--ball",
        nargs=4,
        type=float,
        metavar=("X", "Y", "Z", "R"),
        help="use only the points inside this sphere",
    )


def load_cloud(args: argparse.Namespace) -> Cloud:
    """The cloud of `args.file` in `args.unit`, cut to the region of interest. Warnings go to standard error."""
    from ..io import read
    from ..roi import in_ball, in_box

    cloud = read(args.file, unit=args.unit)
    if args.box:
        cloud = in_box(cloud, args.box)
    if args.ball:
        cloud = in_ball(cloud, args.ball)
    return cloud


def finish(
    args: argparse.Namespace,
    measurements: Sequence[Measurement],
    cloud: Cloud | None = None,
    pictures: Sequence[tuple[str, str]] = (),  # (title, inline <svg> or <img> with a data: address)
    verdict: int = 0,
) -> int:
    """Prints the measurements, writes `--json` and `--report`, and returns `verdict`, the exit code."""
    for measurement in measurements:
        print_measurement(measurement)
    if args.json:
        from ..result import write_json

        write_json(args.json, *measurements)
    if args.report:
        from ..report import write_report

        path = write_report(args.report, measurements, cloud=cloud, pictures=pictures)
        print(f"report: {path}")
    return verdict


def print_measurement(measurement: Measurement) -> None:
    """The parameters with their expanded uncertainty (k = 2) as a table, and the warnings to standard error."""
    from ..table import measurement_lines

    print("\n".join(measurement_lines(measurement)))
    for warning in measurement.warnings:
        print(f"warning: {warning}", file=sys.stderr)
