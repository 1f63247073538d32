"""Folders: captures with masks, depth or pixels of keypoints; annotated data sets; scans of one subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ....datasets.formats import open_capture, reader_for
from ....datasets.hands import HandSample, open_hands
from ....datasets.hands.annotation import READERS
from ....render.cameras import Cameras
from .keypoint_file import read_keypoints
from .observation import Observation, metres_per
from .surface_file import SCANS, depth_scan, read_scan

__all__ = ["read_capture", "read_folder", "read_sample"]

_KEYPOINTS = ("keypoints.json", "keypoints.npz")


def read_folder(
    folder: Path,
    *,
    unit: str | None,
    joint_set: str | None,
    sample: str | None,
    instant: int,
    complete: bool,
    rng: np.random.Generator,
) -> list[Observation]:
    """Whatever the folder holds, asked in the order of this function. Raises UserError that lists what was looked for."""
    if reader_for(folder) is not None:
        return [read_capture(folder, unit=unit, instant=instant)]
    for name in _KEYPOINTS:
        if (folder / name).is_file():
            return read_keypoints(folder / name, unit=unit, joint_set=joint_set)
    scans = sorted(p for p in folder.iterdir() if p.suffix.lower() in SCANS)
    if scans:
        read = [read_scan(path, unit, complete=complete, rng=rng) for path in scans]
        return [Observation(where=str(folder), scans=read)]
    try:
        hands = open_hands(folder)
    except UserError as error:
        looked = str(error).split("looked for ")[-1]
        raise UserError(
            f"{folder}: nothing to fit recognised; looked for a capture (transforms.json, COLMAP), {' or '.join(_KEYPOINTS)}, "
            f"scans ({' '.join(SCANS)}), {looked}"
        ) from None
    return [read_sample(hands[_chosen(hands.names, sample, folder)], folder)]


def read_capture(path: Path, *, unit: str | None = None, instant: int = 0) -> Observation:
    """One instant of a posed capture: masks (alpha, else mask files), depth, and pixels in keypoints.json; metres unless `unit` says else."""
    capture = open_capture(path, holdout=0)
    folder = capture.folder
    scale = metres_per(unit or "m", str(path))
    frames, notes = np.arange(len(capture)), []
    if capture.times is not None and len(moments := np.unique(capture.times)) > 1:
        if instant >= len(moments):
            raise UserError(f"{path}: --instant {instant}: there are {len(moments)}, numbered from 0")
        frames = np.flatnonzero(capture.times == moments[instant])
        notes.append(f"instant {instant} of {len(moments)}: {len(frames)} of {len(capture)} frames")
    cameras = capture.cameras[frames]
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] *= scale
    cameras = cameras.with_poses(poses)
    masks = None
    if capture.images.has_alpha:
        masks = [capture.images[i][..., 3] > 0.5 for i in frames]
    elif capture.masks is not None:
        masks = [capture.masks[i] for i in frames]
    scans = None
    if capture.z_depths is not None:
        parts = [
            depth_scan(
                np.float64(scale) * capture.z_depths[i],
                cameras[k],
                f"{path}: {capture.names[i]}",
                None if masks is None else masks[k],
            )
            for k, i in enumerate(frames)
            if (capture.z_depths[i] > 0).any()
        ]
        if parts:
            scans = [
                type(parts[0])(
                    np.concatenate([p.points for p in parts]),
                    np.concatenate([p.normals for p in parts]),
                    complete=False,
                )
            ]
    seen = {}
    for name in _KEYPOINTS:
        if (folder / name).is_file():
            own = read_keypoints(folder / name, unit=unit or "m")[0]
            seen = {key: getattr(own, key) for key in ("joint_set", "points", "pixels", "confidence", "side")}
            if own.pixels is not None:
                cameras = own.cameras
                if masks is not None and len(cameras) != len(masks):
                    raise UserError(
                        f"{folder / name}: cameras: expected the capture's {len(masks)} frames, found {len(cameras)}"
                    )
            break
    photos = tuple(str(s.path) for s in (capture.images.sources[i] for i in frames))
    return Observation(
        where=str(path),
        masks=None if masks is None else [masks],
        scans=scans,
        cameras=cameras,
        photos=photos,
        notes=notes,
        **seen,
    )


def read_sample(sample: HandSample, folder: Path) -> Observation:
    """One annotated hand: its 21 joints in the camera's frame, its mask where there is one, its photo."""
    cameras, photos = None, ()
    if sample.intrinsics is not None:
        k = sample.intrinsics
        if sample.image is not None:
            from PIL import Image

            try:
                with Image.open(sample.image) as image:
                    width, height = image.size
            except OSError as error:
                raise UserError(f"{sample.image}: not a readable picture ({error})") from error
            photos = (str(sample.image),)
        else:
            width, height = (max(1, round(2 * float(c))) for c in (k[0, 2], k[1, 2]))
        cameras = Cameras.pinhole(np.eye(4), (k[0, 0], k[1, 1]), width, height, (k[0, 2], k[1, 2]))
    if sample.joints is None:
        raise UserError(
            f"{folder}: {sample.name}: no joints in the annotation (a test split, or the hand is not visible)"
        )
    return Observation(
        where=f"{folder}: {sample.name}",
        side=sample.side,
        joint_set="openpose21",
        points=sample.joints[None],
        cameras=cameras,
        photos=photos,
    )


def _chosen(names: list[str], sample: str | None, folder: Path) -> int:
    if sample is None:
        raise UserError(
            f"{folder}: {len(names)} annotated hands; choose one with --sample, a number from 0 or a name such as {names[0]!r}"
        )
    if sample in names:
        return names.index(sample)
    if sample.isdigit() and int(sample) < len(names):
        return int(sample)
    raise UserError(
        f"{folder}: --sample {sample}: neither a name nor a number below {len(names)} (data sets: {', '.join(READERS)})"
    )
