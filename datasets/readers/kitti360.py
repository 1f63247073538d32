"""KITTI-360: rectified perspective images, poses by frame number, accumulated clouds or velodyne scans, annotated movers.

Layout and numbers as in the data set's documentation and kitti360Scripts: data_2d_raw/DRIVE/image_00/data_rect/0000000000.png, calibration/perspective.txt,
calib_cam_to_pose.txt and calib_cam_to_velo.txt, data_poses/DRIVE/poses.txt (frame number and 3x4 of the GPS/IMU). Frame numbers have gaps, where
the car stood: rows are matched by number, and frames without one are left out. Even frames train and odd ones of camera 00 test, as in DNMP.
The accumulated clouds and the annotations are used where they are downloaded: `kitti360_cloud` and `kitti360_movers` say how.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras
from ..image_file import Picture
from ..labels import Labels
from ..reading import Frame, Lens, Reading, listed
from .keyed_lines import keyed_lines, numbers_of
from .kitti360_cloud import Cloud, accumulated_cloud, scanned_cloud
from .kitti360_labels import NAMES
from .kitti360_movers import Movers

__all__ = ["FORMAT", "LOOKED_FOR", "kitti360_cameras", "kitti360_poses", "read", "recognise"]

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
    """Images of cameras 00 and 01 that have a pose, movers masked, and what stood still as a cloud, thinned to 6 cm."""
    root, drive = _root(path.resolve())
    drive = drive or _only_drive(root)
    cameras, imu = kitti360_cameras(root), kitti360_poses(root, drive)
    frames: list[Frame] = []
    train, test, without = [], [], []
    for camera, (lens, to_imu) in cameras.items():
        folder = root / "data_2d_raw" / drive / f"image_{camera:02d}" / "data_rect"
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
            frames.append(Frame(f"image_{camera:02d}/{image.name}", image, lens, imu[number] @ to_imu))
    if not frames:
        raise UserError(
            f"{root}: no image of {drive} has a pose; poses.txt has frames {min(imu)} to {max(imu)}, "
            f"images without one: {listed(without) or 'none found'}"
        )
    notes = [f"{len(without)} images have no pose and are left out: {listed(without)}"] if without else []
    used = sorted({_number(frame) for frame in frames})
    movers = Movers(root, drive, used)
    frames = [replace(frame, mask=_mask(frame, movers)) for frame in frames]
    if movers.masked:
        notes.append(f"movers are masked in {movers.masked} images")
    cloud = _cloud(root, drive, frames, imu, movers, notes)
    return Reading(
        name=drive,
        folder=root,
        format=FORMAT,
        frames=frames,
        splits={"train": train, "test": test},
        points=None if cloud is None else cloud.points,
        points_of="" if cloud is None else str(cloud.source),
        point_colours=None if cloud is None else cloud.colours,
        point_labels=None if cloud is None else cloud.labels,
        label_names={} if cloud is None or cloud.labels is None else NAMES,
        labels=_labels(root, drive, frames),
        mask_marks_used=False,
        notes=notes,
    )


def _number(frame: Frame) -> int:
    return int(Path(frame.name).stem)


def _mask(frame: Frame, movers: Movers) -> Picture | None:
    lens = frame.lens
    focal, principal = lens.params[:2], lens.params[2:]
    camera = Cameras.pinhole(frame.camera_to_world, focal, lens.width, lens.height, principal)
    return movers.mask(camera, Path(frame.name).parent.name, _number(frame))


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


def kitti360_cameras(root: Path) -> dict[int, tuple[Lens, np.ndarray]]:
    """camera -> lens of its rectified images, and (4, 4) rectified camera to GPS/IMU; of those of cameras 0 and 1 that calibration/ has."""
    lenses, rectify = _perspective(root / "calibration" / "perspective.txt")
    to_imu = _keyed(root / "calibration" / "calib_cam_to_pose.txt", "image_")
    found = {}
    for camera in sorted(set(lenses) & set(to_imu)):
        undo = np.eye(4)
        undo[:3, :3] = np.linalg.inv(rectify[camera])
        found[camera] = lenses[camera], to_imu[camera] @ undo
    return found


def kitti360_poses(root: Path, drive: str) -> dict[int, np.ndarray]:
    """Frame number -> (4, 4) GPS/IMU to world."""
    return _poses(root / "data_poses" / drive / "poses.txt")


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
    root: Path,
    drive: str,
    frames: list[Frame],
    imu: dict[int, np.ndarray],
    movers: Movers,
    notes: list[str],
) -> Cloud | None:
    used = sorted({_number(frame) for frame in frames})
    places = np.stack([frame.camera_to_world[:3, 3] for frame in frames])
    cloud = accumulated_cloud(root, drive, used, places, notes)
    if cloud is not None:
        return cloud
    file = root / "calibration" / "calib_cam_to_velo.txt"
    if not file.is_file() and not (root / "data_3d_raw" / drive).is_dir():
        notes.append(f"no points: neither data_3d_semantics nor data_3d_raw has {drive}")
        return None
    try:
        to_velo = _matrix(file.read_text("utf-8", errors="replace").split(), 12, str(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); the scans need it") from error
    unrectified = _keyed(root / "calibration" / "calib_cam_to_pose.txt", "image_")
    if 0 not in unrectified:
        raise UserError(
            f"{root / 'calibration' / 'calib_cam_to_pose.txt'}: no line image_00; the scans need it"
        )
    velo = unrectified[0] @ np.linalg.inv(to_velo)
    return scanned_cloud(root, drive, used, imu, velo, movers.boxes, notes)
