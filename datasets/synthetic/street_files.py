"""The synthetic street written in KITTI-360's layout, so that the reader of the real thing reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...render.cameras import Cameras
from .street import CAMERA_HEIGHT, FORWARD, HDL_64, LIDAR_HEIGHT, SKY, Street, vehicle_poses

__all__ = ["DRIVE", "street_cameras", "write_street"]

DRIVE = "2013_05_28_drive_0000_sync"
BASELINE = 0.6
FOCAL = 552.554261 / 1408
"""Of the image's width: KITTI-360's."""
# GPS/IMU: x ahead, y right, z down, above the rear axle. Rectification turns each camera a little, as on the car.
BODY = np.diag([1.0, -1.0, -1.0, 1.0])
IMU_HEIGHT = 0.9
RECTIFY = {
    0: np.array([0.004, -0.011, 0.003]),
    1: np.array([-0.006, 0.008, -0.002]),
}


def _rotation(vector: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(vector).as_matrix()


def _at(rotation: np.ndarray, position) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def _rectified(camera: int) -> np.ndarray:
    """Rectified camera to the ground under the car."""
    return _at(FORWARD, [0.9, BASELINE / 2 - BASELINE * camera, CAMERA_HEIGHT])


def street_cameras(frames: int, width: int, height: int, *, camera: int = 0, shift: float = 0.0) -> Cameras:
    """Rectified cameras of frames 0 .. frames - 1, moved `shift` metres to their right."""
    poses = vehicle_poses(frames) @ _rectified(camera)
    poses[:, :3, 3] += shift * poses[:, :3, 0]
    focal = FOCAL * width
    return Cameras.pinhole(poses, focal, width, height, (0.484 * width, 0.635 * height))


def write_street(
    folder: str | Path,
    *,
    frames: int = 25,
    width: int = 352,
    height: int = 94,
    without_pose: tuple[int, ...] = (12,),
    beams: tuple[float, float] = HDL_64,
    columns: int = 900,
    seed: int = 0,
) -> Street:
    """Writes `frames` frames a metre apart: both cameras' images, semantics of camera 00, scans, calibration and poses.

    `beams` are the degrees of the scanner's lowest and highest of 64. Frames of `without_pose` have images and a scan and no row in poses.txt, as where the real car stood. Returns the street.
    """
    from PIL import Image

    street, folder = Street(seed), Path(folder)
    generator = np.random.default_rng(seed + 1)
    ground = vehicle_poses(frames + 1)
    imu = _at(BODY[:3, :3], [0, 0, IMU_HEIGHT])
    velo = _at(np.eye(3), [0.77, 0.0, LIDAR_HEIGHT])
    raw = folder / "data_2d_raw" / DRIVE
    semantics = folder / "data_2d_semantics" / "train" / DRIVE / "image_00" / "semantic"
    scans = folder / "data_3d_raw" / DRIVE / "velodyne_points" / "data"
    for place in (
        raw / "image_00" / "data_rect",
        raw / "image_01" / "data_rect",
        semantics,
        scans,
        folder / "calibration",
        folder / "data_poses" / DRIVE,
    ):
        place.mkdir(parents=True, exist_ok=True)
    for camera in (0, 1):
        cameras = street_cameras(frames, width, height, camera=camera)
        for frame in range(frames):
            view = street.render(cameras, frame)
            pixels = np.rint(view["colour"] * 255).astype(np.uint8)
            Image.fromarray(pixels).save(raw / f"image_{camera:02d}" / "data_rect" / f"{frame:010d}.png")
            if camera == 0:
                # KITTI-360's own label numbers of these classes; the sky is 23 there
                labels = np.array([7, 8, 11, 26, 17, 21, 21] + [0] * (SKY - 7) + [23], np.uint8)[
                    view["semantic"]
                ]
                Image.fromarray(labels).save(semantics / f"{frame:010d}.png")
    for frame in range(frames):
        here, before = ground[frame] @ velo, ground[max(frame - 1, 0)] @ velo
        step = np.linalg.inv(before) @ here if frame else np.eye(4)
        half = _fraction(step, 0.5)
        street.scan(here @ np.linalg.inv(half), here @ half, generator, beams=beams, columns=columns).tofile(
            scans / f"{frame:010d}.bin"
        )
    _write_calibration(folder / "calibration", width, height, imu, velo)
    kept = [frame for frame in range(frames) if frame not in without_pose]
    rows = [[frame, *(ground[frame] @ imu)[:3].ravel()] for frame in kept]
    np.savetxt(folder / "data_poses" / DRIVE / "poses.txt", rows, fmt="%d" + " %.12g" * 12)
    rows = [[frame, *(ground[frame] @ _rectified(0)).ravel()] for frame in kept]
    np.savetxt(folder / "data_poses" / DRIVE / "cam0_to_world.txt", rows, fmt="%d" + " %.12g" * 16)
    return street


def _fraction(step: np.ndarray, share: float) -> np.ndarray:
    """The screw-free part of a motion: share of its rotation vector and of its translation, as the un-curling undoes it."""
    from scipy.spatial.transform import Rotation

    return _at(_rotation(share * Rotation.from_matrix(step[:3, :3]).as_rotvec()), share * step[:3, 3])


def _write_calibration(folder: Path, width: int, height: int, imu: np.ndarray, velo: np.ndarray) -> None:
    def numbers(values: np.ndarray) -> str:
        return " ".join(f"{value:.12g}" for value in np.asarray(values).ravel())

    focal = FOCAL * width
    lines, to_imu = [], []
    for camera in (0, 1):
        turn = _rotation(RECTIFY[camera])
        matrix = np.array([[focal, 0, 0.484 * width, 0], [0, focal, 0.635 * height, 0], [0, 0, 1, 0.0]])
        matrix[0, 3] = -focal * BASELINE * camera
        lines += [
            f"S_rect_{camera:02d}: {width} {height}",
            f"R_rect_{camera:02d}: {numbers(turn)}",
            f"P_rect_{camera:02d}: {numbers(matrix)}",
        ]
        unrectified = np.linalg.inv(imu) @ _rectified(camera) @ _at(turn, np.zeros(3))
        to_imu.append(f"image_{camera:02d}: {numbers(unrectified[:3])}")
        if camera == 0:
            to_velo = np.linalg.inv(velo) @ imu @ unrectified
    (folder / "perspective.txt").write_text(
        "\n".join(["calib_time: synthetic", "corner_dist: 0.1", *lines]) + "\n"
    )
    (folder / "calib_cam_to_pose.txt").write_text("\n".join(to_imu) + "\n")
    (folder / "calib_cam_to_velo.txt").write_text(numbers(to_velo[:3]) + "\n")
