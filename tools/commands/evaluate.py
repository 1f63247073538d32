"""`evaluate`: how close a run's renderings come to photographs."""

from __future__ import annotations

import argparse
import sys

from .arguments import number

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "evaluate"
HELP = "measure PSNR and SSIM of a run on held-out views"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument("--split", metavar="NAME", help="train, test, val or all (default: test)")
    parser.add_argument(
        "--data",
        metavar="OTHER",
        help="evaluate on another capture of the scene in the same frame: the test views it names, else "
        "all that training did not see",
    )
    parser.add_argument(
        "--downscale", type=number, metavar="K", help="of OTHER's images (default: the run's)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    parser.add_argument(
        "--images", metavar="FOLDER", help="write rendering, truth and error map of each view here"
    )


def run(args: argparse.Namespace) -> int:
    from ..api import evaluate

    def on_view(view: dict) -> None:
        if sys.stderr.isatty():
            print(f"\r{view['name']}  {view['psnr']:.2f} dB\033[K", end="", file=sys.stderr, flush=True)

    result = evaluate(
        args.run_folder,
        split=args.split,
        data=args.data,
        downscale=args.downscale,
        json=args.json,
        images=args.images,
        on_view=on_view,
    )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    _print_table(result)
    return 0


def _print_table(result: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {"psnr": "PSNR dB", "ssim": "SSIM", "lpips": "LPIPS"}
    digits = {"psnr": 2, "ssim": 4, "lpips": 4}
    keys = [key for key in titles if key in result]
    table = Table(title=f"{result['capture']}, {result['split']}: {len(result['views'])} views")
    table.add_column("view", overflow="fold")
    for key in keys:
        table.add_column(titles[key], justify="right")
    for view in result["views"]:
        table.add_row(view["name"], *(f"{view[key]:.{digits[key]}f}" for key in keys))
    table.add_section()
    table.add_row("mean", *(f"{result[key]:.{digits[key]}f}" for key in keys))
    Console().print(table)
