"""What the subcommands that fit one primitive share: their options and how they run."""

from __future__ import annotations

import argparse

from .common import add_cloud, finish, load_cloud

__all__ = ["add_fit_arguments", "run_fit"]


def add_fit_arguments(parser: argparse.ArgumentParser, *, axis: bool = True, radius: bool = False) -> None:
    """FILE, region of interest, and how to fit. `axis`, `radius`: whether these can be given."""
    add_cloud(parser)
    parser.add_argument(
        "--norm",
        choices=("gauss", "minimum-zone", "minimum-circumscribed", "maximum-inscribed"),
        default="gauss",
        help="least squares, or an extreme fit to the points it keeps (default: gauss)",
    )
    parser.add_argument("--sigma", type=float, metavar="S", help="the noise's standard deviation, if known")
    parser.add_argument(
        "--threshold", type=float, metavar="T", help="leave out points farther away than T (default: 3 sigma)"
    )
    parser.add_argument(
        "--min-share", type=float, default=0.1, metavar="P", help="least share of the points (default: 0.1)"
    )
    parser.add_argument(
        "--all-points", action="store_true", help="plain least squares on all points: no outliers"
    )
    if axis:
        parser.add_argument(
            "--axis", nargs=3, type=float, metavar=("X", "Y", "Z"), help="keep this direction"
        )
    if radius:
        parser.add_argument("--radius", type=float, metavar="R", help="keep this nominal radius")


def run_fit(args: argparse.Namespace, name: str, **options) -> int:
    """Reads the cloud, fits with `fit.fit_<name>`, and finishes."""
    from .. import fit

    cloud = load_cloud(args)
    measured = getattr(fit, f"fit_{name}")(
        cloud,
        robust=not args.all_points,
        sigma=args.sigma,
        threshold=args.threshold,
        norm=args.norm,
        min_share=args.min_share,
        axis=getattr(args, "axis", None),
        radius=getattr(args, "radius", None),
        seed=args.seed,
        **options,
    )
    return finish(args, [measured], cloud)
