"""AMASS sequences (Mahmood et al. 2019): SMPL+H or SMPL-X pose parameters in an .npz."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..archive import NumberArchive

__all__ = ["BodySequence", "read_amass"]

_COUNTS = {156: "smplh", 165: "smplx", 72: "smpl", 66: "body"}


@dataclass(frozen=True)
class BodySequence:
    """t frames of body-model parameters, float64."""

    layout: str
    """"smplh" (52 joints), "smplx" (55), "smpl" (24) or "body" (22)."""
    poses: np.ndarray
    """(t, j, 3) axis-angle, root first; hand angles include the hands' mean pose."""
    translation: np.ndarray
    """(t, 3) metres."""
    shape: np.ndarray
    """(betas,)."""
    gender: str
    frames_per_second: float

    def __len__(self) -> int:
        return len(self.poses)

    def smplh(self) -> BodySequence:
        """The same motion in SMPL+H's 52 joints: jaw and eyes dropped, missing hands left at zero."""
        t = len(self.poses)
        poses = np.zeros((t, 52, 3))
        poses[:, :22] = self.poses[:, :22]
        if self.layout == "smplh":
            poses = self.poses
        elif self.layout == "smplx":  # 22 body, jaw, left eye, right eye, 30 of the hands
            poses[:, 22:] = self.poses[:, 25:]
        return BodySequence("smplh", poses, self.translation, self.shape, self.gender, self.frames_per_second)


def read_amass(path: str | os.PathLike) -> BodySequence:
    """A sequence's parameters. World z is up in AMASS.

    Raises UserError naming the key, what was expected and what was found; object arrays and archives that unpack to more
    than 2 GB are refused.
    """
    path = Path(path)
    with NumberArchive(path) as archive:
        poses = archive.array("poses", (None, None))
        if poses.shape[1] not in _COUNTS:
            raise UserError(
                f"{path}: poses: expected (frames, 156) of SMPL+H, 165 of SMPL-X, 72 of SMPL or 66, found {poses.shape}"
            )
        frames = len(poses)
        translation = archive.array("trans", (frames, 3))
        shape = archive.array("betas", (None,)) if "betas" in archive else np.zeros(0)
        rate = [k for k in ("mocap_framerate", "mocap_frame_rate") if k in archive]
        if not rate:
            raise UserError(f"{path}: expected the key mocap_framerate, found {', '.join(archive.names())}")
        fps = float(archive.array(rate[0], ()))
        gender = archive.text("gender") if "gender" in archive else "neutral"
    if not fps > 0:
        raise UserError(f"{path}: {rate[0]}: expected frames a second above 0, found {fps}")
    layout = _COUNTS[poses.shape[1]]
    return BodySequence(layout, poses.reshape(frames, -1, 3), translation, shape, gender, fps)
