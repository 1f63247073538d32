"""KITTI-360, raw: rectified perspective images, poses by frame number, velodyne scans.

Layout and numbers as in the data set's documentation and kitti360Scripts: data_2d_raw/DRIVE/image_00/data_rect/0000000000.png, calibration/perspective.txt,
calib_cam_to_pose.txt and calib_cam_to_velo.txt, data_poses/DRIVE/poses.txt (frame number and 3x4 of the GPS/IMU). Frame numbers have gaps, where
the car stood: rows are matched by number, and frames without one are left out. Even frames train and odd ones of camera 00 test, as in DNMP.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..labels import Labels
from ..lidar import Gathering, read_velodyne, uncurl
from ..reading import Frame, Lens, Reading, listed
from .keyed_lines import keyed_lines, numbers_of
from .kitti360_labels import NAMES

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "kitti-360"
LOOKED_FOR = "calibration/perspective.txt beside data_poses and data_2d_raw (KITTI-360; or one of its drives)"


def _root(path: Path) -> tuple[Path, str | None] | None:
    """The data set's folder, and the drive if `path` is one."""
    if (path / "calibration" / "perspective.txt").is_file() and (path / "data_2d_raw").is_dir():
        return path, None
    if (
        path.parent.name == "data_2d_raw"
        and (path.parent.parent / "calibration" / "perspective.txt").is_file()
    ):
        return path.parent.parent, path.name
    return None


def recognise(path: Path) -> str | None:
    """Why `path` (the data set's folder, or ROOT/data_2d_raw/DRIVE) looks like this format, or None."""
    found = _root(path.resolve()) if path.is_dir() else None
    return None if found is None else f"calibration and drives in {found[0]}"


def read(path: Path, downscale: float = 1) -> Reading:
    """Images of cameras 00 and 01 that have a pose, and the cloud of their scans, straightened and thinned to 6 cm."""
    root, drive = _root(path.resolve())
    drive = drive or _only_drive(root)
    lenses, rectify = _perspective(root / "calibration" / "perspective.txt")
    to_imu = _keyed(root / "calibration" / "calib_cam_to_pose.txt", "image_")
    imu = _poses(root / "data_poses" / drive / "poses.txt")
    frames: list[Frame] = []
    train, test, without = [], [], []
    for camera in sorted(set(lenses) & set(to_imu)):
        folder = root / "data_2d_raw" / drive / f"image_{camera:02d}" / "data_rect"
        undo = np.eye(4)
        undo[:3, :3] = np.linalg.inv(rectify[camera])
        for image in sorted(folder.glob("*.png")):
            if not image.stem.isdigit():
                continue
            number = int(image.stem)
            if number not in imu:
                without.append(f"{camera:02d}/{image.name}")
                continue
            if number % 2 == 0:
                train.append(len(frames))
            elif camera == 0:
                test.append(len(frames))
            pose = imu[number] @ to_imu[camera] @ undo
            frames.append(Frame(f"image_{camera:02d}/{image.name}", image, lenses[camera], pose))
    if not frames:
        raise UserError(
            f"{root}: no image of {drive} has a pose; poses.txt has frames {min(imu)} to {max(imu)}, "
            f"images without one: {listed(without) or 'none found'}"
        )
    notes = [f"{len(without)} images have no pose and are left out: {listed(without)}"] if without else []
    used = sorted({int(Path(frame.name).stem) for frame in frames})
    points = _cloud(root, drive, used, imu, to_imu, notes)
    return Reading(
        name=drive,
        folder=root,
        format=FORMAT,
        frames=frames,
        splits={"train": train, "test": test},
        points=points,
        labels=_labels(root, drive, frames),
        notes=notes,
    )


def _labels(root: Path, drive: str, frames: list[Frame]) -> Labels | None:
    """Of images that data_2d_semantics has classes for."""
    folder = root / "data_2d_semantics" / "train" / drive
    files = [folder / Path(frame.name).parent / "semantic" / Path(frame.name).name for frame in frames]
    found = tuple(file if file.is_file() else None for file in files)
    return Labels(NAMES, images=found) if any(found) else None


def _only_drive(root: Path) -> str:
    drives = sorted(entry.name for entry in (root / "data_2d_raw").iterdir() if (entry / "image_00").is_dir())
    if len(drives) == 1:
        return drives[0]
    if not drives:
        raise UserError(f"{root / 'data_2d_raw'}: no drive with a folder image_00")
    raise UserError(
        f"{root}: {len(drives)} drives ({listed(drives)}); give one of them, as in {root.name}/data_2d_raw/{drives[0]}"
    )


def _keyed(path: Path, prefix: str = "") -> dict[int, np.ndarray]:
    """camera -> (4, 4) of the lines "image_00: 12 numbers"."""
    found = {}
    for key, values in keyed_lines(path).items():
        if key.startswith(prefix) and key[len(prefix) :].isdigit():
            found[int(key[len(prefix) :])] = _matrix(values, 12, f"{path}: {key}")
    if not found:
        raise UserError(f"{path}: no line starts with {prefix}00")
    return found


def _matrix(words: list[str], count: int, where: str) -> np.ndarray:
    pose = np.eye(4)
    pose[:3] = numbers_of(words, count, where).reshape(3, 4)
    return pose


def _perspective(path: Path) -> tuple[dict[int, Lens], dict[int, np.ndarray]]:
    """camera -> lens of the rectified images, and camera -> (3, 3) rectifying rotation."""
    lines, lenses, rectify = keyed_lines(path), {}, {}
    for camera in (0, 1):
        keys = [f"{name}_rect_{camera:02d}" for name in "PRS"]
        if not all(key in lines for key in keys):
            continue
        p, r, s = (numbers_of(lines[key], n, f"{path}: {key}") for key, n in zip(keys, (12, 9, 2)))
        p = p.reshape(3, 4)  # its last column is the baseline, which the poses hold
        lenses[camera] = Lens("PINHOLE", (p[0, 0], p[1, 1], p[0, 2], p[1, 2]), int(s[0]), int(s[1]))
        rectify[camera] = r.reshape(3, 3)
    if not lenses:
        raise UserError(f"{path}: no camera has P_rect_0k, R_rect_0k and S_rect_0k")
    return lenses, rectify


def _poses(path: Path) -> dict[int, np.ndarray]:
    """Frame number -> (4, 4) GPS/IMU to world."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); download data_poses of this drive"
        ) from error
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words:
            values = numbers_of(words, 13, f"{path}: line {number}")
            found[int(values[0])] = np.vstack([values[1:].reshape(3, 4), [0, 0, 0, 1]])
    if not found:
        raise UserError(f"{path}: no pose in it")
    return found


def _cloud(
    root: Path, drive: str, used: list[int], imu: dict, to_imu: dict, notes: list[str]
) -> np.ndarray | None:
    folder = root / "data_3d_raw" / drive / "velodyne_points" / "data"
    if not folder.is_dir():
        notes.append(f"no velodyne scans ({folder.relative_to(root)} is not there)")
        return None
    file = root / "calibration" / "calib_cam_to_velo.txt"
    try:
        to_velo = _matrix(file.read_text().split(), 12, str(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); the scans need it") from error
    velo = to_imu[0] @ np.linalg.inv(to_velo)
    gathering, straight = Gathering(), 0
    for number in used:
        scan = folder / f"{number:010d}.bin"
        if not scan.is_file():
            continue
        points = read_velodyne(scan)[:, :3].astype(np.float64)
        here = imu[number] @ velo
        if number - 1 in imu:
            points = uncurl(points, np.linalg.inv(imu[number - 1] @ velo) @ here)
        else:
            straight += 1
        gathering.add(points, here)
    if straight:
        notes.append(f"{straight} scans have no pose before theirs and keep the curl of the car's motion")
    if gathering.scans < len(used):
        notes.append(f"{len(used) - gathering.scans} of {len(used)} frames have no scan")
    return gathering.cloud()
