"""`hand export`: a posed hand or body as a mesh, a skinned GLB, or a skeleton."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import whole
from .common import add_posed, open_posed

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "export"
HELP = "write a result or model as skinned .glb, .obj, .ply, .stl, .bvh or .json"
SUFFIXES = (".glb", ".obj", ".ply", ".stl", ".bvh", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_posed(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".glb: skin, morph targets, animation; .obj .ply .stl: the surface of one frame; .bvh .json: the skeleton",
    )
    parser.add_argument(
        "--frame", type=whole, default=0, metavar="N", help="which frame a surface shows (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    suffix = Path(args.out).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{args.out}: no format {suffix!r}; use one of {', '.join(SUFFIXES)}")
    data, result = open_posed(args)
    motion = {
        "shape": result.shape,
        "translation": result.translation,
        "frames_per_second": result.frames_per_second,
    }
    if suffix == ".glb":
        from ..glb_writer import write_glb

        write_glb(args.out, data, result.pose, **motion)
    elif suffix in (".bvh", ".json"):
        from ..skeleton_files import write_bvh, write_skeleton_json

        (write_bvh if suffix == ".bvh" else write_skeleton_json)(args.out, data, result.pose, **motion)
    else:
        import trimesh

        from ...mesh import write_mesh
        from ..posed_mesh import posed_vertices

        if args.frame >= len(result.pose):
            raise UserError(f"--frame {args.frame}: there are {len(result.pose)} frames, numbered from 0")
        chosen = slice(args.frame, args.frame + 1)
        result.pose, result.translation = result.pose[chosen], result.translation[chosen]
        vertices = posed_vertices(data, result)[0]
        write_mesh(trimesh.Trimesh(vertices, data.faces, process=False), args.out)
    print(f"{args.out}: {len(data.template)} vertices, {len(data.parents)} joints, {len(result.pose)} frames")
    return 0
