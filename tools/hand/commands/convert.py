"""`hand convert`: a MANO, SMPL or SMPL+H file into our plain `.npz`."""

from __future__ import annotations

import argparse

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "convert"
HELP = "read a MANO or SMPL+H file safely and write it as a plain .npz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="MANO_*.pkl, SMPLH_*.pkl, SMPL-X .npz; or a model of ours"
    )
    parser.add_argument("--out", required=True, metavar="FILE.npz", help="the model file to write")
    parser.add_argument(
        "--hands",
        nargs=2,
        metavar=("LEFT", "RIGHT"),
        help="MANO files whose pose components go into an SMPL+H body",
    )
    parser.add_argument(
        "--right", metavar="FILE", help="the right hand beside a left one, to compare shapedirs with"
    )
    parser.add_argument(
        "--left-shapedirs",
        choices=("auto", "as_file", "mirrored"),
        default="auto",
        help="what to do about left hands that carry the right hand's shape directions (default: auto: mirror them "
        "if --right shows it, else say so)",
    )
    parser.add_argument("--side", choices=("left", "right"), help="of a hand whose name or pose misleads")
    parser.add_argument("--mirror", action="store_true", help="write the other hand: the model mirrored in x")


def run(args: argparse.Namespace) -> int:
    from ....fields.articulated.mano_file import read_mano
    from ....fields.articulated.mirror import mirror_model
    from ....fields.articulated.model_file import write_model
    from ..models import is_ours, model_data
    from ..report import model_lines

    notes: list[str] = []
    if is_ours(args.file):
        data = model_data(args.file)
    else:
        foreign = read_mano(
            args.file,
            hands=tuple(args.hands) if args.hands else None,
            right=args.right,
            left_shapedirs=args.left_shapedirs,
            side=args.side,
        )
        data, notes = foreign.data, foreign.notes
    if args.mirror:
        data = mirror_model(data)
    write_model(args.out, data)
    print(args.out)
    for line in (*model_lines(data), *(f"note: {note}" for note in notes)):
        print(line)
    return 0
