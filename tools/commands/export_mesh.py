"""`export-mesh`: a run's surface as a mesh file."""

from __future__ import annotations

import argparse
import sys

from .arguments import number, positive_int

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "export-mesh"
HELP = "write a run's surface as .glb, .ply, .obj or .stl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run folder")
    parser.add_argument("--out", required=True, metavar="FILE", help="mesh file: .glb, .ply, .obj or .stl")
    parser.add_argument(
        "--resolution",
        type=positive_int,
        default=256,
        metavar="R",
        help="cells along the longest side (default: 256)",
    )
    parser.add_argument(
        "--method",
        choices=("tsdf", "marching-cubes"),
        default="tsdf",
        help="by fusing rendered depth, or a level set of the density (default: tsdf)",
    )
    parser.add_argument("--texture", action="store_true", help="bake a texture instead of vertex colours")
    parser.add_argument("--faces", type=positive_int, metavar="N", help="reduce to about N faces")
    parser.add_argument(
        "--level", type=number, metavar="L", help="density of the surface (default: chosen from views)"
    )
    parser.add_argument(
        "--time", type=float, metavar="T", help="moment of a moving scene, 0 to 1 (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    from ..api import export_mesh
    from ..mesh import mesh_report

    def progress(stage: str, share: float) -> None:
        if sys.stderr.isatty():
            print(f"\r{stage:<8} {100 * share:3.0f} %\033[K", end="", file=sys.stderr, flush=True)

    mesh = export_mesh(
        args.run_folder,
        args.out,
        resolution=args.resolution,
        method=args.method,
        texture=args.texture,
        faces=args.faces,
        level="auto" if args.level is None else args.level,
        time=args.time,
        progress=progress,
    )
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    print(args.out)
    for line in mesh_report(mesh):
        print(line)
    return 0
