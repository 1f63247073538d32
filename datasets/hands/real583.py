"""The real-world test set of "3D Hand Shape and Pose Estimation from a Single RGB Image" (Ge et al. 2019).

pose_gt.mat holds (583, 21, 3) camera-space centimetres in our order of 21, params.mat the full image's intrinsics and the square
that was cut out of it; the pictures are those squares, resized to 256 x 256. Image NNNNN.jpg is row NNNNN.

The hands are left ones: palms face the camera and thumbs point to the picture's left (and `tools.hand.fitting.handedness` finds so for 115 of 117).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .annotation import HandSample, HandSet
from .json_file import array_of

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "real583"
LOOKED_FOR = "pose_gt.mat and params.mat (hand-graph-cnn's real-world test set)"
_SIDE = 256
_LARGEST = 64 << 20


def recognise(folder: Path) -> bool:
    return (folder / "pose_gt.mat").is_file() and (folder / "params.mat").is_file()


def read(folder: Path) -> HandSet:
    """The rows that have a picture; intrinsics are those of the picture."""
    poses = _matrix(folder / "pose_gt.mat", "pose_gt", (None, 21, 3)) / 100
    cameras = _matrix(folder / "params.mat", "cam_param", (len(poses), 4))
    boxes = _matrix(folder / "params.mat", "bbox", (len(poses), 4))
    pictures = sorted(
        p for p in (folder / "images").glob("*.jpg") if p.stem.isdigit() and int(p.stem) < len(poses)
    )
    if not pictures:
        raise UserError(f"{folder / 'images'}: no NNNNN.jpg with a row in pose_gt.mat")

    def sample(index: int) -> HandSample:
        row = int(pictures[index].stem)
        fx, fy, u0, v0 = cameras[row]
        left, top, width, height = boxes[row]
        sx, sy = _SIDE / width, _SIDE / height
        intrinsics = np.array([[fx * sx, 0, (u0 - left) * sx], [0, fy * sy, (v0 - top) * sy], [0, 0, 1]])
        projected = poses[row] @ intrinsics.T
        return HandSample(
            name=pictures[index].stem,
            side="left",
            image=pictures[index],
            joints=poses[row],
            pixels=projected[:, :2] / projected[:, 2:],
            intrinsics=intrinsics,
            frame=pictures[index].stem,
        )

    return HandSet(folder, FORMAT, [p.stem for p in pictures], sample)


def _matrix(path: Path, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    from scipy.io import loadmat, whosmat

    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: larger than {_LARGEST >> 20} MB")
        found = {name: size for name, size, _ in whosmat(path)}
        if key not in found:
            raise UserError(f"{path}: expected {key}, found {', '.join(found) or 'nothing'}")
        value = loadmat(path, variable_names=[key])[key]
    except UserError:
        raise
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise UserError(f"{path}: is not a readable .mat ({error})") from error
    return array_of(value, shape, f"{path}: {key}")
