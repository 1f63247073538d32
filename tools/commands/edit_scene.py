"""`edit-scene`: primitives of a scene deleted, copied, moved, recoloured or dressed anew, without training."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from fieldstone.core.errors import UserError

from .arguments import number

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "edit-scene"
HELP = "delete, copy, move or recolour parts of a scene of mesh primitives"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", metavar="RUN", help="a run of method dnmp; it is not changed")
    parser.add_argument(
        "--out", metavar="RUN2", help="run folder to write; without it, what --select finds is listed"
    )
    parser.add_argument(
        "--select",
        nargs="+",
        metavar="KEY=VALUE",
        help="primitives that fit all of: box=x0,y0,z0,x1,y1,z1  "
        "oriented-box=cx,cy,cz,sx,sy,sz,rx,ry,rz (middle, sides, rotation vector in degrees)  label=car  "
        "ids=3,7-12  scale=0  all=true; source frame and unit",
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--delete", action="store_true", help="remove them")
    actions.add_argument("--duplicate", action="store_true", help="add a copy, moved")
    actions.add_argument("--move", action="store_true", help="move them")
    actions.add_argument(
        "--recolour", metavar="COLOUR", help="#rrggbb, or r,g,b from 0 to 1: the mean colour they come to"
    )
    actions.add_argument(
        "--swap",
        nargs="+",
        metavar="KEY=VALUE",
        help="exchange looks with as many others, selected as by --select",
    )
    actions.add_argument(
        "--dress", nargs="+", metavar="KEY=VALUE", help="give them the looks of others, any number"
    )
    actions.add_argument("--edits", metavar="FILE.json", help="do a list of edits: edits.json of another run")
    motion = parser.add_argument_group("where to, for --duplicate and --move")
    motion.add_argument("--translate", type=float, nargs=3, metavar=("X", "Y", "Z"))
    motion.add_argument(
        "--rotate",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="rotation vector in degrees, about the middle of what is selected: 0 0 90 is a quarter turn about z",
    )
    motion.add_argument("--scale", type=number, metavar="S", help="make it S times as large")
    motion.add_argument(
        "--about", type=float, nargs=3, metavar=("X", "Y", "Z"), help="middle of --rotate and --scale"
    )
    motion.add_argument("--matrix", metavar="FILE.json", help="4 x 4 instead, of the source frame")
    parser.add_argument(
        "--strength", type=number, metavar="S", help="of --recolour, up to 1 (default: 1, all the way)"
    )


def run(args: argparse.Namespace) -> int:
    from ..api import edit_scene, load_run, select_primitives
    from ..editing.edit_list import read_edits
    from ..editing.selection import ids_text, parse_terms

    if args.edits is not None:
        edits = read_edits(args.edits)
        if args.select:
            raise UserError("--select: the edits of --edits say themselves which primitives; leave it out")
    elif args.select is None:
        raise UserError("edit-scene: say which primitives with --select, or give a list with --edits")
    else:
        edits = _edits(args, parse_terms)
    if not edits:
        if args.out is not None:
            raise UserError(
                f"--out {args.out}: say what to do: --delete, --duplicate, --move, --recolour, --swap or --dress"
            )
        ids, centres = select_primitives(args.run_folder, parse_terms(args.select))
        low, high = centres.min(0).round(2).tolist(), centres.max(0).round(2).tolist()
        print(f"{len(ids)} primitives, middles from {low} to {high}")
        print(f"ids={ids_text(ids)}")
        return 0
    if args.out is None:
        raise UserError("edit-scene: say where to write the edited run with --out; the source stays as it is")
    edited = edit_scene(load_run(args.run_folder), args.out, edits)
    for edit in read_edits(edited.folder / "edits.json")[-len(edits) :]:
        from ..editing.selection import parse_ids

        print(f"{edit['do']}: {len(parse_ids(edit['done']['ids']))} primitives")
    print(edited.folder)
    return 0


def _edits(args: argparse.Namespace, parse_terms) -> list[dict]:
    edit: dict = {"select": parse_terms(args.select)}
    motion = {
        "translate": args.translate,
        "rotate_deg": args.rotate,
        "scale": args.scale,
        "about": args.about,
        "matrix": None if args.matrix is None else _matrix(args.matrix),
    }
    given = {key: value for key, value in motion.items() if value is not None}
    if given and not (args.duplicate or args.move):
        raise UserError(f"--{next(iter(given)).split('_')[0]}: goes with --duplicate or --move")
    if args.strength is not None and args.recolour is None:
        raise UserError("--strength: goes with --recolour")
    if args.delete:
        return [edit | {"do": "delete"}]
    if args.duplicate or args.move:
        return [edit | given | {"do": "duplicate" if args.duplicate else "move"}]
    if args.recolour is not None:
        more = {} if args.strength is None else {"strength": args.strength}
        return [edit | more | {"do": "recolour", "colour": _colour(args.recolour)}]
    if args.swap is not None or args.dress is not None:
        return [edit | {"do": "swap" if args.swap else "dress", "with": parse_terms(args.swap or args.dress)}]
    return []


def _colour(text: str) -> list[float]:
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--recolour {text!r}: write #rrggbb, or r,g,b from 0 to 1") from None


def _matrix(path: str) -> object:
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
