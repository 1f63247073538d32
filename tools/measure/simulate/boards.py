"""Images of a chessboard as a rig's cameras see it, to calibrate with and to know by how much the calibration is off."""

from __future__ import annotations

import numpy as np

from ..structured_light.board import Board
from .scanner import Rig, pixel_rays, view_pose

__all__ = ["board_images", "board_poses"]


def board_poses(rig: Rig, board: Board, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` poses (4, 4) of the board, centred on itself: tilted by up to 40 degrees, spread over the view and 15 % in depth."""
    poses = []
    for i in range(count):
        where = (i % 3 - 1, i // 3 % 3 - 1)
        extent = board.square * (board.columns + 1)
        shift = np.array(
            [0.28 * extent * where[0], 0.22 * extent * where[1], rng.uniform(-0.12, 0.12) * rig.distance]
        )
        pose = view_pose(
            rig, tilt_deg=float(rng.uniform(12, 40)), azimuth_deg=float(rng.uniform(0, 360)),
            roll_deg=float(rng.uniform(-12, 12)), shift=tuple(shift),
        )  # fmt: skip
        poses.append(pose)
    return poses


def board_images(
    rig: Rig,
    board: Board,
    poses: list[np.ndarray],
    rng: np.random.Generator,
    *,
    samples: int = 4,  # per pixel and axis
    blur: float = 0.5,  # pixels
    noise: float = 1.0,  # grey values
) -> tuple[np.ndarray, np.ndarray]:
    """Left and right images (views, h, w) uint8 of the board at each pose, white around its squares."""
    width, height = rig.calibration.size
    out = []
    for right in (False, True):
        rows, columns = np.mgrid[:height, :width]
        centres = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float64)
        # slopes vary so little within a pixel that two derivatives say all
        origin, rays = pixel_rays(rig, centres, right)
        _, along_x = pixel_rays(rig, centres + np.array([1.0, 0.0]), right)
        _, along_y = pixel_rays(rig, centres + np.array([0.0, 1.0]), right)
        steps = (along_x - rays, along_y - rays)
        out.append(
            np.stack(
                [
                    _view(board, pose, origin, rays, steps, (height, width), samples, blur, noise, rng)
                    for pose in poses
                ]
            )
        )
    return out[0], out[1]


def _view(board, pose, origin, rays, steps, shape, samples, blur, noise, rng) -> np.ndarray:
    import cv2

    inverse = np.linalg.inv(pose)
    eye = inverse[:3, :3] @ origin + inverse[:3, 3]
    local, dx, dy = (a @ inverse[:3, :3].T for a in (rays, *steps))
    total = np.zeros(len(rays))
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    half = np.array([board.columns + 1, board.rows + 1]) / 2  # in squares
    for oy in offsets:
        for ox in offsets:
            d = local + ox * dx + oy * dy
            t = -eye[2] / d[:, 2]
            squares = (eye[:2] + t[:, None] * d[:, :2]) / board.square + half
            cell = np.floor(squares).astype(int)
            inside = ((squares >= 0) & (squares < 2 * half)).all(axis=1) & (t > 0)
            margin = ((squares >= -1) & (squares < 2 * half + 1)).all(axis=1) & (t > 0)
            dark = inside & ((cell.sum(axis=1) & 1) == 0)
            total += np.where(dark, 30.0, np.where(margin, 205.0, 90.0))
    image = (total / samples**2).reshape(shape)
    if blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    return np.clip(np.rint(image + rng.normal(0, noise, shape)), 0, 255).astype(np.uint8)
