"""The points of a KITTI-360 drive: its accumulated static clouds, or its scans gathered here.

data_3d_semantics/{train,test}/DRIVE/static/START_END.ply holds what stood still over frames START to END: world coordinates, colour, and for train
semantic, instance, isVisible, confidence (kitti360Scripts, helpers/annotation.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..lidar import FARTHEST, Gathering, read_velodyne, uncurl
from ..movers import inside
from ..reading import listed
from .ply_vertices import read_vertices

__all__ = ["Cloud", "accumulated_cloud", "scanned_cloud", "windows"]


@dataclass(frozen=True)
class Cloud:
    points: np.ndarray
    """(m, 3) float64 world."""
    source: Path
    colours: np.ndarray | None = None
    """(m, 3) uint8."""
    labels: np.ndarray | None = None
    """(m,) class numbers, 0 for none."""


def windows(root: Path, drive: str, kind: str, used: list[int]) -> list[tuple[int, int, Path]]:
    """(first frame, last frame, file) of the accumulated clouds of `kind`, "static" or "dynamic", that have one of the frames `used`."""
    found = []
    for folder in ("train", "test"):
        for file in sorted((root / "data_3d_semantics" / folder / drive / kind).glob("*.ply")):
            first, _, last = file.stem.partition("_")
            if first.isdigit() and last.isdigit() and any(int(first) <= n <= int(last) for n in used):
                found.append((int(first), int(last), file))
    return found


def accumulated_cloud(
    root: Path,
    drive: str,
    used: list[int],
    places: np.ndarray,  # (n, 3) of the cameras, world
    notes: list[str],
) -> Cloud | None:
    """What stood still within 80 m of a camera, thinned to 6 cm; None without accumulated clouds of these frames."""
    from scipy.spatial import cKDTree

    files = windows(root, drive, "static", used)
    if not files:
        return None
    gathering, near, parts = Gathering(), cKDTree(places), {"colours", "labels"}
    stored = [read_vertices(file) for *_, file in files]
    for vertices in stored:
        names = vertices.dtype.names
        parts -= set() if {"red", "green", "blue"} <= set(names) else {"colours"}
        parts -= set() if "semantic" in names else {"labels"}
    for vertices in stored:
        points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], 1)
        kept = np.isfinite(points).all(1)
        kept[kept] = near.query(points[kept], distance_upper_bound=FARTHEST)[0] < np.inf
        beside = {}
        if "colours" in parts:
            beside["colours"] = np.stack([vertices[c][kept] for c in ("red", "green", "blue")], 1).astype(
                np.uint8
            )
        if "labels" in parts:
            beside["labels"] = vertices["semantic"][kept].astype(np.int32)
        gathering.add_world(points[kept], **beside)
    cloud = gathering.cloud()
    folder = files[0][2].parent
    if cloud is None:
        raise UserError(
            f"{folder}: {sum(len(each) for each in stored)} points in {len(files)} accumulated clouds, none within "
            f"{FARTHEST:g} m of a camera; clouds and poses are not of one drive"
        )
    if gathering.empty:
        notes.append(f"{gathering.empty} of {len(files)} accumulated clouds have no point near a camera")
    outside = [n for n in used if not any(first <= n <= last for first, last, _ in files)]
    if outside:
        notes.append(
            f"{len(outside)} of {len(used)} frames are in no accumulated cloud: {listed([str(n) for n in outside])}"
        )
    notes.append(f"points from {len(files)} accumulated clouds of what stood still")
    return Cloud(cloud, folder, gathering.beside("colours"), gathering.beside("labels"))


def scanned_cloud(
    root: Path,
    drive: str,
    used: list[int],
    imu: dict[int, np.ndarray],  # frame number -> (4, 4) GPS/IMU to world
    velo: np.ndarray,  # (4, 4) scanner to GPS/IMU
    boxes: dict[int, np.ndarray],  # frame number -> (k, 4, 4) movers, cube to world
    notes: list[str],
) -> Cloud | None:
    """The straightened scans of frames `used` without movers; None without a folder of scans. UserError if all of them are empty."""
    folder = root / "data_3d_raw" / drive / "velodyne_points" / "data"
    if not folder.is_dir():
        notes.append(f"no velodyne scans ({folder.relative_to(root)} is not there)")
        return None
    gathering, straight, dropped = Gathering(), 0, 0
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
        if number in boxes:
            moving = inside(points @ here[:3, :3].T + here[:3, 3], boxes[number])
            dropped += int(moving.sum())
            points = points[~moving]
        gathering.add(points, here)
    if straight:
        notes.append(f"{straight} scans have no pose before theirs and keep the curl of the car's motion")
    if gathering.scans < len(used):
        notes.append(f"{len(used) - gathering.scans} of {len(used)} frames have no scan")
    if dropped:
        notes.append(f"{dropped} scanned points in boxes of movers are left out")
    points = gathering.checked_cloud(folder, notes)
    return None if points is None else Cloud(points, folder)
