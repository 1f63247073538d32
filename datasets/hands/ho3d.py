"""HO-3D (Hampali et al. 2020), versions 2 and 3: {train,evaluation}/SEQUENCE/{rgb,meta}/NNNN.

Right hands, metres, OpenGL's camera axes (y up, z backwards): everything is turned to ours. Joints are MANO's 16, then the tips of thumb, index,
middle, ring and pinky. `handPose` is the pose itself (the model's mean is not added). The meta files are pickles; they are read as
data and run nothing. The evaluation split gives the wrist only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.legacy_pickle import read_pickle

from .annotation import HandSample, HandSet, ManoParameters
from .json_file import array_of

__all__ = ["FORMAT", "LOOKED_FOR", "ORDER", "read", "recognise"]

FORMAT = "ho3d"
LOOKED_FOR = "train/ or evaluation/ SEQUENCE/meta/NNNN.pkl (HO-3D)"
ORDER = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""HO-3D's joint at each place of our order of 21."""
_FLIP = np.diag([1.0, -1.0, -1.0])
_LARGEST = 4 << 20


def recognise(folder: Path) -> bool:
    return any(
        next(folder.glob(f"{split}/*/meta/*.pkl"), None) is not None for split in ("train", "evaluation")
    )


def read(folder: Path) -> HandSet:
    """One sample per meta file of both splits, as far as they are there."""
    files = [
        path for split in ("train", "evaluation") for path in sorted(folder.glob(f"{split}/*/meta/*.pkl"))
    ]
    names = [f"{p.parts[-4]}/{p.parts[-3]}/{p.stem}" for p in files]

    def sample(index: int) -> HandSample:
        path = files[index]
        meta = _meta(path)
        joints = meta.get("handJoints3D")
        if joints is not None:
            joints = np.asarray(joints)
            whole = joints.size == 63
            joints = array_of(joints.reshape(-1, 3), (21 if whole else 1, 3), f"{path}: handJoints3D") @ _FLIP
            joints = joints[list(ORDER)] if whole else np.concatenate((joints, np.full((20, 3), np.nan)))
        intrinsics = (
            array_of(meta.get("camMat"), (3, 3), f"{path}: camMat")
            if meta.get("camMat") is not None
            else None
        )
        pixels = None
        if joints is not None and intrinsics is not None:
            projected = joints @ intrinsics.T
            pixels = projected[:, :2] / projected[:, 2:]
        pictures = (path.parent.parent / "rgb" / f"{path.stem}{suffix}" for suffix in (".jpg", ".png"))
        return HandSample(
            name=names[index],
            side="right",
            image=next((p for p in pictures if p.is_file()), None),
            joints=joints,
            pixels=pixels,
            intrinsics=intrinsics,
            mano=None if meta.get("handPose") is None else _mano(meta, path),
            frame=names[index],
        )

    return HandSet(folder, FORMAT, names, sample)


def _meta(path: Path) -> dict:
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: larger than {_LARGEST >> 20} MB, expected the annotation of one frame")
        value = read_pickle(path.read_bytes(), str(path)).value
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a dictionary, found {type(value).__name__}")
    return value


def _mano(meta: dict, path: Path) -> ManoParameters:
    to_ours = np.eye(4)
    to_ours[:3, :3] = _FLIP
    return ManoParameters(
        pose=array_of(meta["handPose"], (48,), f"{path}: handPose"),
        shape=array_of(meta.get("handBeta"), (10,), f"{path}: handBeta"),
        translation=array_of(meta.get("handTrans"), (3,), f"{path}: handTrans"),
        pca=False,
        mean_included=True,
        to_sample=to_ours,
        mirrored_left_shape=None,
    )
