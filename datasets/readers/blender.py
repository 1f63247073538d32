"""NeRF-synthetic and D-NeRF: transforms_train.json, transforms_test.json and transforms_val.json.

Blender's axes (x right, y up, z back), `camera_angle_x` in radians, RGBA images composited on white by the
benchmark, everything inside [-1.5, 1.5]^3. D-NeRF adds `time` in [0, 1] to each frame. Other captures kept
one file per split (with `fl_x`, distortion, RGB photos) are read too; the box is only assumed for RGBA
images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..extent import Extent
from ..image_file import read_header
from ..reading import Frame, Reading, listed
from .frames_json import find_file, frame_name, lens_of, opencv_pose, transform_files

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "blender"
LOOKED_FOR = (
    "transforms_train.json beside transforms_test.json or transforms_val.json (NeRF-synthetic, D-NeRF)"
)

SPLITS = ("train", "val", "test")

HALF_SIDE = 1.5


def _split_files(path: Path) -> dict[str, tuple[Path, dict]]:
    if not path.is_dir():
        return {}
    found = {}
    for file, value in transform_files(path).items():
        for split in SPLITS:
            if file.stem.lower().endswith(f"_{split}"):
                found[split] = (file, value)
    return {split: found[split] for split in SPLITS if split in found}


def recognise(path: Path) -> str | None:
    """Why `path` (a folder) looks like this format, or None."""
    files = _split_files(path)
    return f"frames in {', '.join(file.name for file, _ in files.values())}" if "train" in files else None


def read(path: Path, downscale: float = 1) -> Reading:
    """Frames in the files' own order, train first, divided as the files divide them."""
    frames: list[Frame] = []
    splits: dict[str, list[int]] = {}
    notes: list[str] = []
    for split, (file, value) in _split_files(path).items():
        start, missing = len(frames), []
        for number, record in enumerate(value["frames"]):
            name = frame_name(record, number, file)
            image = find_file(path, name)
            if image is None:
                missing.append(name)
                continue
            where = f"{file}: frame {name}"
            frames.append(
                Frame(
                    name=image.relative_to(path).as_posix() if image.is_relative_to(path) else name,
                    image=image,
                    lens=lens_of(record, value, image, where),
                    camera_to_world=opencv_pose(record.get("transform_matrix"), name, file),
                    time=_time(record, where),
                )
            )
        if missing:
            notes.append(
                f"{len(missing)} frames of {file.name} name images that do not exist: {listed(missing)}"
            )
        splits[split] = list(range(start, len(frames)))
    if not splits["train"]:
        raise UserError(
            f"{path}: none of the training images exists; {notes[0] if notes else 'the list is empty'}"
        )
    cut_out = all(read_header(frames[i].image).alpha for i in splits["train"][:4])
    extent = Extent(np.zeros(3), HALF_SIDE, bounded=True) if cut_out else None
    return Reading(
        name=path.resolve().name,
        folder=path,
        format=FORMAT,
        frames=frames,
        splits={split: index for split, index in splits.items() if index},
        background="white",
        extent=extent,
        notes=notes,
    )


def _time(record: dict, where: str) -> float | None:
    time = record.get("time")
    if time is None:
        return None
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise UserError(f"{where}: time is {time!r:.60}; it must be a number in [0, 1]")
    return float(time)
