"""Which reader a path goes to: by what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ....datasets.archive import NumberArchive
from ....datasets.hands.handpose import read_handpose
from ....datasets.hands.json_file import read_json
from .folder import read_capture, read_folder
from .keypoint_file import read_keypoints
from .observation import Observation
from .surface_file import SCANS, read_depth, read_scan

__all__ = ["MOTION", "is_motion", "read_observations"]

MOTION = (".bvh", ".amc")


def is_motion(path: str | os.PathLike) -> bool:
    """Motion capture of a body: retargeted, not fitted as keypoints."""
    path = Path(path)
    if path.suffix.lower() in MOTION:
        return True
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    with NumberArchive(path) as archive:
        return "poses" in archive and "trans" in archive


def read_observations(
    path: str | os.PathLike,
    *,
    unit: str | None = None,
    joint_set: str | None = None,
    sample: str | None = None,
    instant: int = 0,
    complete: bool = True,
    rng: np.random.Generator,
) -> list[Observation]:
    """What is seen in a file or folder: one observation, or two where the file holds two hands. Raises UserError."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        return read_folder(
            path, unit=unit, joint_set=joint_set, sample=sample, instant=instant, complete=complete, rng=rng
        )
    suffix = path.suffix.lower()
    if suffix in SCANS:
        return [Observation(where=str(path), scans=[read_scan(path, unit, complete=complete, rng=rng)])]
    if suffix == ".handpose":
        pose = read_handpose(path)
        return [
            Observation(
                where=f"{path}: {side}", side=side, joint_set="openpose21", points=pose.joints21(side)[None]
            )
            for side in ("right", "left")
        ]
    if suffix == ".npz":
        with NumberArchive(path) as archive:
            names = archive.names()
        if "z_depth" in names:
            return [read_depth(path, unit)]
        return read_keypoints(path, unit=unit, joint_set=joint_set)
    if suffix == ".json":
        content = read_json(path)
        if isinstance(content, dict) and isinstance(content.get("frames"), list):
            return [read_capture(path, unit=unit, instant=instant)]
        return read_keypoints(path, unit=unit, joint_set=joint_set)
    raise UserError(
        f"{path}: nothing that can be fitted ends in {suffix or 'no suffix'!r}; there are keypoints (.json .npz .handpose), scans "
        f"({' '.join(SCANS)}), depth (.npz), motion ({' '.join(MOTION)}, AMASS .npz) and folders"
    )
