"""A sequence as DNMP's preprocessing leaves it (Lu, Xu et al. 2023, preprocess/preprocess_kitti.py and preprocess_waymo.py).

SEQ/train_imgs and SEQ/test_imgs; pcd.npz with `pts`, (n, 3) world; depth/IMAGE.geometric.npy, COLMAP's z_depth clipped to its 1st and 95th
percentile. Of KITTI-360: images 00_0000000716.png, and calibration and data_poses in the folder above. Of Waymo: train_poses.npy, test_poses.npy, (n, 4, 4)
camera to world with x right, y down, z forward, in name order, and intrinsics.npy (3, 3). center_point.npy, the pose that the authors' code moves the world
to, is not needed, and normal/ is not read. Clipped depths, which are no measurements, count as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ..archive import NumberArchive
from ..image_file import IMAGE_SUFFIXES, ImageHeader, Picture, read_header
from ..reading import Frame, Lens, Reading, listed
from .kitti360 import kitti360_cameras, kitti360_poses

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "dnmp"
LOOKED_FOR = "train_imgs beside train_poses.npy, or below calibration/perspective.txt (a sequence that DNMP preprocessed)"
AUTHORS_DRIVE = "2013_05_28_drive_0009_sync"
CLIPPED = 0.002
"""Share of a depth map from which its smallest or largest value is where it was clipped, and no measurement."""


def recognise(path: Path) -> str | None:
    """Why `path` (a sequence's folder) looks like this format, or None."""
    if not (path / "train_imgs").is_dir():
        return None
    if (path / "train_poses.npy").is_file():
        return "train_imgs and train_poses.npy"
    above = path.resolve().parent / "calibration" / "perspective.txt"
    return f"train_imgs and {above}" if above.is_file() else None


def read(path: Path, downscale: float = 1) -> Reading:
    """Training and test images with their poses, the depth of those that have it, and the cloud."""
    path = path.resolve()
    notes: list[str] = []
    of_waymo = (path / "train_poses.npy").is_file()
    frames, splits = (_of_waymo if of_waymo else _of_kitti)(path, notes)
    measured = sum(frame.z_depth is not None for frame in frames)
    if (path / "depth").is_dir() and not measured:
        notes.append(
            f"none of the images has a file in {path.name}/depth, as in {frames[0].image.name}.geometric.npy"
        )
    points = _points(path / "pcd.npz", notes)
    return Reading(
        name=path.name,
        folder=path,
        format=FORMAT,
        frames=frames,
        splits=splits,
        points=points,
        points_of=str(path / "pcd.npz"),
        notes=notes,
    )


def _images(path: Path, split: str) -> list[Path]:
    folder = path / f"{split}_imgs"
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _frame(path: Path, image: Path, lens: Lens, pose: np.ndarray) -> Frame:
    depth = path / "depth" / f"{image.name}.geometric.npy"
    name = f"{image.parent.name}/{image.name}"
    return Frame(name, image, lens, pose, z_depth=ClippedDepth(depth) if depth.is_file() else None)


def _of_kitti(path: Path, notes: list[str]) -> tuple[list[Frame], dict[str, list[int]]]:
    root = path.parent
    drives = sorted(
        entry.name for entry in (root / "data_poses").glob("*") if (entry / "poses.txt").is_file()
    )
    drive = AUTHORS_DRIVE if AUTHORS_DRIVE in drives else drives[0] if len(drives) == 1 else None
    if drive is None:
        raise UserError(
            f"{root / 'data_poses'}: {len(drives)} drives with a poses.txt ({listed(drives) or 'none'}); "
            f"leave the one that {path.name} is of"
        )
    cameras, imu = kitti360_cameras(root), kitti360_poses(root, drive)
    frames, splits, without = [], {"train": [], "test": []}, []
    for split in splits:
        for image in _images(path, split):
            camera, _, number = image.stem.partition("_")
            if not (camera.isdigit() and number.isdigit() and int(camera) in cameras):
                notes.append(f"{image.name} is left out: not named as 00_0000000716.png or 01_...")
                continue
            if int(number) not in imu:
                without.append(image.name)
                continue
            lens, to_imu = cameras[int(camera)]
            splits[split].append(len(frames))
            frames.append(_frame(path, image, lens, imu[int(number)] @ to_imu))
    if without:
        notes.append(f"{len(without)} images have no pose and are left out: {listed(without)}")
    if not frames:
        raise UserError(
            f"{path}: no image has a pose; poses.txt of {drive} has frames {min(imu)} to {max(imu)}, "
            f"images without one: {listed(without) or 'none found'}"
        )
    return frames, splits


def _of_waymo(path: Path, notes: list[str]) -> tuple[list[Frame], dict[str, list[int]]]:
    matrix = _numbers(path / "intrinsics.npy")
    if matrix.ndim == 3 and len(matrix):
        matrix = matrix[0]
    if matrix.shape != (3, 3):
        raise UserError(f"{path / 'intrinsics.npy'}: shape {matrix.shape}, (3, 3) is needed")
    frames, splits = [], {"train": [], "test": []}
    for split in splits:
        images, file = _images(path, split), path / f"{split}_poses.npy"
        if not images and not file.is_file():
            continue
        poses = _numbers(file)
        if poses.ndim != 3 or poses.shape[1] not in (3, 4) or poses.shape[2] != 4:
            raise UserError(f"{file}: shape {poses.shape}, (n, 4, 4) is needed")
        if len(poses) != len(images):
            raise UserError(
                f"{file}: {len(poses)} poses and {len(images)} images in {split}_imgs; they go by name order and must be as many"
            )
        for image, pose in zip(images, poses):
            whole = np.eye(4)
            whole[:3] = pose[:3]
            size = read_header(image)
            params = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
            splits[split].append(len(frames))
            frames.append(
                _frame(path, image, Lens("PINHOLE", params, size.width, size.height, exact=False), whole)
            )
    if not frames:
        raise UserError(f"{path}: no image in train_imgs and test_imgs")
    notes.append("lens distortion, which DNMP's preprocessing drops, is not known")
    return frames, splits


def _points(file: Path, notes: list[str]) -> np.ndarray | None:
    if not file.is_file():
        notes.append(
            f"no points ({file.name} is not there; for KITTI-360 the authors' scripts leave it to be made from COLMAP's fused.ply)"
        )
        return None
    with NumberArchive(file) as archive:
        points = archive.array("pts", (None, 3), missing=True)
    finite = np.isfinite(points).all(1)
    if not finite.any():
        raise UserError(
            f"{file}: {len(points)} points, none of them finite; make the cloud again or remove the file"
        )
    if not finite.all():
        notes.append(f"{int((~finite).sum())} of {len(points)} points are not finite and are left out")
    return points[finite].astype(np.float64)


def _numbers(file: Path) -> np.ndarray:
    try:
        stored = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())[:150]})") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise UserError(f"{file}: no array of numbers")
    return stored.astype(np.float64)


@dataclass(frozen=True)
class ClippedDepth(Picture):
    """A depth map as colmap_bin2npy.py writes it; values at the ends it was clipped to become 0, unknown."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def header(self) -> ImageHeader:
        height, width = self.pixels().shape
        return ImageHeader("npy", width, height, alpha=False)

    def pixels(self) -> np.ndarray:  # (h, w) float32
        depth = _numbers(self.path).astype(np.float32)
        if depth.ndim != 2 or not depth.size:
            raise UserError(f"{self.path}: shape {depth.shape}, (height, width) is needed")
        for end in (depth.min(), depth.max()):
            ends = depth == end
            if ends.mean() > CLIPPED:
                depth = np.where(ends, np.float32(0), depth)
        return depth
