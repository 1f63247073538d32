"""Keypoints in a .json or .npz file, in space or in pixels, of one hand or of two; docs/hand_fitting.md describes the format."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json

from ....datasets.archive import NumberArchive
from ....datasets.hands.json_file import read_json
from ....fields.articulated.joint_sets import JOINT_SETS
from ....render.cameras import Cameras
from .observation import Observation, metres_per

__all__ = ["FORMAT", "read_keypoints", "write_keypoints"]

FORMAT = "fieldstone-keypoints-1"
_KEYS = ("points", "pixels")


def read_keypoints(
    path: str | os.PathLike,
    *,
    unit: str | None = None,  # overrules the file's
    joint_set: str | None = None,  # overrules the file's
) -> list[Observation]:
    """One observation per hand in the file. Raises UserError that names the key, what was expected and what was found."""
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(
                f"{path}: expected an object with points or pixels, found {type(content).__name__}"
            )
        found = content.get("format", FORMAT)
        if found != FORMAT:
            raise UserError(f"{path}: format: expected {FORMAT!r}, found {found!r}")
    else:
        content = _from_npz(path)
    hands = content.get("hands")
    if hands is None:
        return [_hand(content, content, str(path), content.get("side"), unit, joint_set)]
    if not isinstance(hands, dict) or not hands or not set(hands) <= {"right", "left"}:
        raise UserError(f"{path}: hands: expected the keys right and left, found {_keys(hands)}")
    for side, value in hands.items():
        if not isinstance(value, dict):
            raise UserError(f"{path}: hands: {side}: expected an object, found {type(value).__name__}")
    return [_hand(value, content, f"{path}: {side}", side, unit, joint_set) for side, value in hands.items()]


def write_keypoints(
    path: str | os.PathLike,
    points: np.ndarray,  # (b, m, 3) metres, NaN where not seen
    joint_set: str,
    *,
    side: str | None = None,
    frames_per_second: float | None = None,
) -> None:
    """Keypoints in space as .json that `read_keypoints` reads."""
    document = {"format": FORMAT, "joint_set": joint_set, "unit": "m"}
    if side is not None:
        document["side"] = side
    if frames_per_second is not None:
        document["frames_per_second"] = frames_per_second
    document["points"] = [
        [None if np.isnan(point).any() else point.tolist() for point in frame] for frame in np.asarray(points)
    ]
    atomic_write_json(path, document)


def _hand(
    own: dict, common: dict, where: str, side: object, unit: str | None, joint_set: str | None
) -> Observation:
    given = [key for key in _KEYS if key in own]
    if not given:
        raise UserError(f"{where}: expected points or pixels, found {_keys(own)}")
    if side not in (None, "right", "left"):
        raise UserError(f"{where}: side: expected right or left, found {side!r}")
    name = joint_set or own.get("joint_set") or common.get("joint_set")
    if name is None:
        raise UserError(
            f"{where}: joint_set is missing; write one of {', '.join(JOINT_SETS)} or joints into the file, or give --joints"
        )
    if name not in JOINT_SETS and name != "joints":
        raise UserError(
            f"{where}: joint_set: expected joints or one of {', '.join(JOINT_SETS)}, found {name!r}"
        )
    rate = common.get("frames_per_second")
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < 1e5):
        raise UserError(f"{where}: frames_per_second: expected a number above 0, found {rate!r}")
    scale = metres_per(unit or common.get("unit"), where) if "points" in own or "cameras" in common else 1.0
    points = pixels = cameras = None
    count = JOINT_SETS.get(name)
    if "points" in own:
        points = _seen(own["points"], 3, (None, count, 3), f"{where}: points") * scale
    if "pixels" in own:
        if "cameras" not in common:
            raise UserError(
                f"{where}: pixels need cameras: a list, or intrinsics, sizes and camera_to_world in an .npz"
            )
        cameras = _cameras(common["cameras"], scale, where)
        pixels = _seen(own["pixels"], 2, (None, len(cameras), count, 2), f"{where}: pixels")
    confidence = own.get("confidence")
    if confidence is not None:
        shape = (points if points is not None else pixels).shape[:-1]
        confidence = _array(confidence, f"{where}: confidence")
        confidence = confidence[None] if confidence.ndim == len(shape) - 1 else confidence
        if confidence.shape != shape or not ((confidence >= 0) & (confidence <= 1)).all():
            raise UserError(
                f"{where}: confidence: expected {shape} of numbers from 0 to 1, found {confidence.shape}"
            )
    photos = common.get("photos") or ()
    if not isinstance(photos, list | tuple) or not all(isinstance(p, str) for p in photos):
        raise UserError(f"{where}: photos: expected a list of file names")
    folder = Path(where.split(": ")[0]).parent
    return Observation(
        where=where,
        side=side,
        joint_set=name,
        points=points,
        pixels=pixels,
        confidence=confidence,
        cameras=cameras,
        frames_per_second=None if rate is None else float(rate),
        photos=tuple(str(folder / p) for p in photos),
    )


def _seen(value: object, size: int, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """Coordinates with one more dimension in front if there is a single frame; null and NaN mean not seen."""
    if isinstance(value, np.ndarray):
        array = value.astype(np.float64)
    else:
        array = _array(_filled(value, size), where)
    if array.ndim == len(shape) - 1:
        array = array[None]
    if (
        array.ndim != len(shape)
        or any(n is not None and n != m for n, m in zip(shape, array.shape))
        or not array.size
    ):
        wanted = ", ".join("frames" if i == 0 else str(n or "any") for i, n in enumerate(shape))
        raise UserError(
            f"{where}: expected shape ({wanted}) as the joint set and cameras say, found {array.shape}"
        )
    if np.isinf(array).any():
        raise UserError(f"{where}: found infinity; write null or NaN for what was not seen")
    if not np.isfinite(array).any():
        raise UserError(f"{where}: nothing was seen: all values are missing")
    array[~np.isfinite(array).all(-1)] = np.nan
    return array


def _filled(value: object, size: int) -> object:
    """Nested lists with null replaced by a point of NaN."""
    if value is None:
        return [np.nan] * size
    if isinstance(value, list) and value and (isinstance(value[0], list) or None in value):
        # null stands for a whole point beside other points, or for a coordinate inside one
        inside = all(v is None or isinstance(v, int | float) for v in value) and len(value) == size
        if inside and any(isinstance(v, int | float) for v in value):
            return [np.nan if v is None else v for v in value]
        return [_filled(v, size) for v in value]
    return value


def _array(value: object, where: str) -> np.ndarray:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: expected nested lists of numbers of one length, found something else"
        ) from None
    return array


def _cameras(value: object, scale: float, where: str) -> Cameras:
    """From our JSON records, or from {"intrinsics", "sizes", "camera_to_world"}."""
    if isinstance(value, list):
        cameras = Cameras.from_json(value)
    else:
        n = len(value["intrinsics"])
        k = value["intrinsics"]
        params = np.stack((k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]), 1)
        cameras = Cameras(
            ("PINHOLE",) * n,
            torch.from_numpy(params),
            torch.from_numpy(value["sizes"]),
            torch.from_numpy(value["camera_to_world"]),
        )
    if not len(cameras):
        raise UserError(f"{where}: cameras: expected at least one")
    poses = cameras.camera_to_world.clone()
    poses[:, :3, 3] *= scale
    return cameras.with_poses(poses)


def _from_npz(path: Path) -> dict:
    content: dict = {}
    with NumberArchive(path) as archive:
        for key in ("joint_set", "unit", "side"):
            if key in archive:
                content[key] = archive.text(key)
        if "frames_per_second" in archive:
            content["frames_per_second"] = float(archive.array("frames_per_second", ()))
        for key, ranks in (("points", (2, 3)), ("pixels", (3, 4)), ("confidence", (1, 2, 3))):
            if key in archive:
                content[key] = _of_rank(archive, key, ranks)
        if "pixels" in archive and "intrinsics" in archive:
            k = archive.array("intrinsics", (None, 3, 3))
            content["cameras"] = {
                "intrinsics": k,
                "sizes": archive.array("sizes", (len(k), 2)).astype(np.int64),
                "camera_to_world": archive.array("camera_to_world", (len(k), 4, 4)),
            }
        if not any(key in content for key in _KEYS):
            raise UserError(
                f"{path}: expected points or pixels, found {', '.join(archive.names()) or 'nothing'}"
            )
    return content


def _of_rank(archive: NumberArchive, key: str, ranks: tuple[int, ...]) -> np.ndarray:
    for rank in ranks[:-1]:
        try:
            return archive.array(key, (None,) * rank, missing=True)
        except UserError as error:
            if "expected shape" not in str(error):
                raise
    return archive.array(key, (None,) * ranks[-1], missing=True)


def _keys(value: object) -> str:
    return ", ".join(list(value)[:8]) or "nothing" if isinstance(value, dict) else type(value).__name__
