"""What subcommands that take a result or a model share. Imports nothing heavy."""

from __future__ import annotations

import argparse

from fieldstone.core.errors import UserError

from ...commands.arguments import whole

__all__ = ["add_posed", "numbers", "open_posed"]


def numbers(text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers separated by commas") from None


def add_posed(parser: argparse.ArgumentParser) -> None:
    """RESULT, and the arguments that choose another model, shape or pose."""
    parser.add_argument(
        "result",
        metavar="RESULT",
        help="a result of `hand fit`; or a model file or name (hand, hand-left, body, anatomical-hand, "
        "anatomical-hand-left, anatomical-body), which is shown at rest",
    )
    parser.add_argument("--model", metavar="MODEL", help="another model than the result names")
    parser.add_argument("--shape", type=numbers, metavar="B1,B2,...", help="another shape")
    parser.add_argument(
        "--pose", metavar="FILE.npy", help="another pose or motion: axis-angles (j, 3), (n, j, 3) or (n, 3 j)"
    )
    parser.add_argument(
        "--pca",
        type=numbers,
        metavar="C1,C2,...",
        help="another pose of a hand: coefficients of its components",
    )
    parser.add_argument(
        "--subdivide", type=whole, default=0, metavar="N", help="split triangles N times (default: 0)"
    )
    parser.add_argument("--cap", action="store_true", help="close the open wrist")


def open_posed(args: argparse.Namespace) -> tuple:
    """The model's arrays, refined as asked, and the result with what the arguments change."""
    import numpy as np
    import torch

    from ....fields.articulated.model import ArticulatedModel
    from ..posed_mesh import refined
    from ..result import open_result

    if args.subdivide > 4:
        raise UserError(
            f"--subdivide {args.subdivide}: at most 4; each time there are four times as many triangles"
        )
    data, result = open_result(args.result, args.model)
    joints, directions = len(data.parents), data.shape_basis.shape[2]
    if args.shape is not None:
        if len(args.shape) > directions:
            raise UserError(f"--shape: expected at most {directions} numbers, found {len(args.shape)}")
        result.shape = np.array(args.shape)
    if args.pose is not None and args.pca is not None:
        raise UserError("--pose and --pca: give one of them")
    if args.pose is not None:
        try:
            pose = np.load(args.pose, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{args.pose}: not an .npy of numbers ({' '.join(str(error).split())})"
            ) from error
        if (
            pose.ndim < 1
            or pose.size % (3 * joints)
            or pose.dtype.kind not in "fiu"
            or not np.isfinite(pose).all()
        ):
            raise UserError(
                f"{args.pose}: expected finite axis-angles ({joints}, 3) or (n, {joints}, 3), found {pose.dtype}{list(pose.shape)}"
            )
        result.pose = pose.reshape(-1, joints, 3).astype(float)
        result.translation = np.zeros((len(result.pose), 3))
    if args.pca is not None:
        pca = ArticulatedModel(data, dtype=torch.float64).pca
        most = len(pca.basis)
        if len(args.pca) > most:
            raise UserError(f"--pca: expected at most {most} coefficients, found {len(args.pca)}")
        vector = torch.zeros(pca.size, dtype=torch.float64)
        vector[pca.size - most :][: len(args.pca)] = torch.tensor(args.pca, dtype=torch.float64)
        result.pose = pca.axis_angles(vector).numpy()[None]
        result.translation = np.zeros((1, 3))
    return refined(data, subdivisions=args.subdivide, closed=args.cap), result
