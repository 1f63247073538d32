"""`hand fit`: a model fitted to keypoints, pixels, scans, depth or masks; motion capture retargeted onto a body."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import number, positive_int, whole
from .common import numbers

__all__ = ["HELP", "NAME", "add_arguments", "run"]

NAME = "fit"
HELP = "fit a model to keypoints, scans, depth or masks, or retarget motion capture onto a body"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "data",
        metavar="DATA",
        help="keypoints .json .npz .handpose; scan .ply .obj .stl .glb .off, or a folder of them; depth .npz; a capture with masks, depth or "
        "keypoints; an annotated data set (FreiHAND, HO-3D, InterHand2.6M, DexYCB, real583); motion .bvh .amc or AMASS .npz",
    )
    add("--model", default="hand", metavar="MODEL", help="a model file or name (default: hand)")
    add(
        "--out",
        required=True,
        metavar="RESULT.npz",
        help="the result; of two hands RESULT_right.npz and RESULT_left.npz",
    )
    add(
        "--report",
        metavar="FILE.html",
        help="a report with pictures of what is left over and a table of what was not seen",
    )
    add("--residuals", metavar="FILE.png", help="the report's pictures, side by side")
    add(
        "--unit",
        choices=("m", "cm", "mm", "inch"),
        help="of the data, where the file does not say (scans, motion)",
    )
    add(
        "--joints",
        metavar="SET",
        help="joint set of the keypoints, where the file does not say: openpose21, mano16, ..., joints",
    )
    add("--tips", metavar="PRESET", help="fingertip vertices of a MANO model: smplx, manopth, handavatar")
    add("--sample", metavar="N|NAME", help="which hand of an annotated data set")
    add(
        "--instant",
        type=whole,
        default=0,
        metavar="N",
        help="which moment of a capture that moves (default: 0)",
    )
    add(
        "--partial",
        action="store_true",
        help="the scan shows one side only: parts of the model without scan are fine",
    )
    add("--shape", type=numbers, metavar="B1,B2,...", help="a known shape, which stays as it is")
    add(
        "--shapes",
        type=positive_int,
        metavar="N",
        help="how many shape directions are looked for (default: at most 10)",
    )
    add("--components", type=positive_int, metavar="N", help="keep the pose within N pose components")
    add(
        "--sigma",
        type=number,
        metavar="X",
        help="noise of the data, mm (pixels for 2D); default: found from the data",
    )
    add(
        "--prior",
        type=float,
        default=1.0,
        metavar="W",
        help="weight of the pose and shape priors (default: 1)",
    )
    add("--no-limits", action="store_true", help="let joints bend, and fingers meet, as they like")
    add(
        "--smooth",
        choices=("auto", "on", "off"),
        default="auto",
        help="of a sequence; auto: where the data states a frame rate",
    )
    add(
        "--own-shape",
        action="store_true",
        help="two hands in one file: a shape for each (default: one person, one shape)",
    )
    add(
        "--side-check",
        choices=("on", "off"),
        default="on",
        help="refuse data that looks like the other hand (default: on)",
    )
    add("--seed", type=whole, default=0, metavar="S", help="of the points drawn from scans (default: 0)")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    out = Path(args.out)
    if out.suffix != ".npz":
        raise UserError(f"--out {args.out}: a result ends in .npz")
    if args.report and Path(args.report).suffix != ".html":
        raise UserError(f"--report {args.report}: a report ends in .html")
    if args.residuals and Path(args.residuals).suffix.lower() not in (".png", ".jpg"):
        raise UserError(f"--residuals {args.residuals}: a picture ends in .png or .jpg")
    if args.prior < 0:
        raise UserError(f"--prior {args.prior:g}: a weight is at least 0")
    from ..observed.recognise import is_motion

    if is_motion(args.data):
        from ..retarget import retarget_file

        print("\n".join(retarget_file(args.data, "body" if args.model == "hand" else args.model, out)))
        return 0
    from ..fit_command import fit_command

    for line in fit_command(args, out):
        print(line)
    return 0
