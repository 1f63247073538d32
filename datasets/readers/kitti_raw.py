"""KITTI raw: one drive of rectified colour images and velodyne scans, beside its calibration.

calib_cam_to_cam.txt and calib_velo_to_cam.txt in the drive's folder or the one above (Geiger et al. 2013, and the devkit's readme). Poses come from
oxts/data/*.txt by the devkit's Mercator formula, or, where there is none, from a file poses_velo*.txt: a row of 12 numbers a frame, scanner to world.
The world is the first scanner's frame: x ahead, y left, z up, metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..lidar import Gathering, read_velodyne, uncurl
from ..reading import Frame, Lens, Reading, listed
from .keyed_lines import keyed_lines, numbers_of

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "kitti-raw"
LOOKED_FOR = "image_02/data beside calib_cam_to_cam.txt and oxts or poses_velo*.txt (KITTI raw)"
CAMERAS = (2, 3)
EARTH = 6378137.0


def _calibration(path: Path) -> Path | None:
    return next(
        (folder for folder in (path, path.parent) if (folder / "calib_cam_to_cam.txt").is_file()), None
    )


def recognise(path: Path) -> str | None:
    """Why `path` (a drive's folder) looks like this format, or None."""
    path = path.resolve()
    if path.is_dir() and (path / "image_02" / "data").is_dir() and _calibration(path):
        return f"image_02/data and {_calibration(path) / 'calib_cam_to_cam.txt'}"
    return None


def read(path: Path, downscale: float = 1) -> Reading:
    """Frames of cameras 02 and 03 in their order, every fourth held out, and the straightened cloud of their scans."""
    path = path.resolve()
    folder = _calibration(path)
    cameras = keyed_lines(folder / "calib_cam_to_cam.txt")
    to_cam = _rigid(folder / "calib_velo_to_cam.txt")
    rectify = np.eye(4)
    rectify[:3, :3] = numbers_of(
        cameras.get("R_rect_00", []), 9, f"{folder / 'calib_cam_to_cam.txt'}: R_rect_00"
    ).reshape(3, 3)
    notes: list[str] = []
    poses = _poses(path, folder, notes)
    frames, without, held = [], [], []
    for camera in CAMERAS:
        where = f"{folder / 'calib_cam_to_cam.txt'}: P_rect_{camera:02d}"
        images = sorted((path / f"image_{camera:02d}" / "data").glob("*.png"))
        if not images:
            continue
        p = numbers_of(cameras.get(f"P_rect_{camera:02d}", []), 12, where).reshape(3, 4)
        size = numbers_of(cameras.get(f"S_rect_{camera:02d}", []), 2, where.replace("P_rect", "S_rect"))
        lens = Lens("PINHOLE", (p[0, 0], p[1, 1], p[0, 2], p[1, 2]), int(size[0]), int(size[1]))
        beside = np.eye(4)  # rectified camera 0 to this one: the last column is K times the shift
        beside[:3, 3] = np.linalg.solve(p[:, :3], p[:, 3])
        to_scanner = np.linalg.inv(beside @ rectify @ to_cam)
        for order, image in enumerate(images):
            if int(image.stem) not in poses:
                without.append(image.name)
                continue
            held.append(order % 4 == 2)
            frames.append(
                Frame(f"image_{camera:02d}/{image.name}", image, lens, poses[int(image.stem)] @ to_scanner)
            )
    if without:
        notes.append(f"{len(without)} images have no pose and are left out: {listed(without)}")
    gathering = Gathering()
    numbers = sorted({int(Path(frame.name).stem) for frame in frames})
    for number in numbers:
        scan = path / "velodyne_points" / "data" / f"{number:010d}.bin"
        if scan.is_file():
            points = read_velodyne(scan)[:, :3].astype(np.float64)
            if number - 1 in poses:
                points = uncurl(points, np.linalg.inv(poses[number - 1]) @ poses[number])
            gathering.add(points, poses[number])
    splits = {
        "train": [i for i, out in enumerate(held) if not out],
        "test": [i for i, out in enumerate(held) if out],
    }
    return Reading(
        name=path.name,
        folder=path,
        format=FORMAT,
        frames=frames,
        splits=splits,
        points=gathering.checked_cloud(path / "velodyne_points", notes),
        points_of=str(path / "velodyne_points"),
        notes=notes,
    )


def _rigid(path: Path) -> np.ndarray:
    """(4, 4) of the lines "R: 9 numbers" and "T: 3 numbers"."""
    lines, pose = keyed_lines(path), np.eye(4)
    pose[:3, :3] = numbers_of(lines.get("R", []), 9, f"{path}: R").reshape(3, 3)
    pose[:3, 3] = numbers_of(lines.get("T", []), 3, f"{path}: T")
    return pose


def _poses(path: Path, calibration: Path, notes: list[str]) -> dict[int, np.ndarray]:
    """Frame number -> (4, 4) scanner to world."""
    files = sorted((path / "oxts" / "data").glob("*.txt"))
    if files:
        imu = _oxts(files)
        to_velo = _rigid(calibration / "calib_imu_to_velo.txt")
        found = {number: pose @ np.linalg.inv(to_velo) for number, pose in imu.items()}
    else:
        given = next(iter(sorted(path.glob("poses_velo*.txt"))), None)
        if given is None:
            raise UserError(
                f"{path}: neither oxts/data/*.txt nor poses_velo*.txt; KITTI raw needs one of them for its poses"
            )
        notes.append(f"poses from {given.name}")
        rows = [
            line.split() for line in given.read_text("utf-8", errors="replace").splitlines() if line.strip()
        ]
        found = {
            number: np.vstack(
                [numbers_of(row, 12, f"{given}: line {number + 1}").reshape(3, 4), [0, 0, 0, 1]]
            )
            for number, row in enumerate(rows)
        }
    first = np.linalg.inv(found[min(found)])
    return {number: first @ pose for number, pose in found.items()}


def _oxts(files: list[Path]) -> dict[int, np.ndarray]:
    """The devkit's convertOxtsToPose: Mercator at the first latitude, then yaw, pitch, roll."""
    found, scale = {}, None
    for file in files:
        values = file.read_text("utf-8", errors="replace").split()
        lat, lon, alt, roll, pitch, yaw = numbers_of(values[:6], 6, str(file))
        scale = np.cos(np.radians(lat)) if scale is None else scale
        pose = np.eye(4)
        x, y, z = (np.eye(3) for _ in range(3))
        x[1:, 1:] = [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
        y[::2, ::2] = [[np.cos(pitch), np.sin(pitch)], [-np.sin(pitch), np.cos(pitch)]]
        z[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        pose[:3, :3] = z @ y @ x
        north = EARTH * np.log(np.tan(np.pi * (90 + lat) / 360))
        pose[:3, 3] = [scale * EARTH * np.radians(lon), scale * north, alt]
        found[int(file.stem)] = pose
    return found
