"""Rays, projections and the rectified frame of a stereo pair, one function a formula; scalar kernels for the loops (Numba).

The rectified frame has its x axis along the line from the left to the right camera and its z axis as near as possible to the mean of
both optical axes. There a point (X, Y, Z) of the left camera has slopes u = X / Z and v = Y / Z, both cameras see it at the same v,
and u_left - u_right = baseline / Z.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from .calibration import StereoCalibration

__all__ = ["Rectification", "distort", "project", "rectification", "undistort", "undistorted"]


class Rectification(NamedTuple):
    """Where the rectified frame lies, as plain arrays."""

    left: np.ndarray
    """(3, 3): rectified direction = left @ direction in the left camera."""
    right: np.ndarray
    """(3, 3): the same for the right camera."""
    baseline: float


def rectification(calibration: StereoCalibration) -> Rectification:
    """The rectified frame; exact, no pixels involved."""
    centre = -calibration.rotation.T @ calibration.translation  # of the right camera, in the left one
    baseline = float(np.linalg.norm(centre))
    x = centre / baseline
    forward = np.array([0.0, 0.0, 1.0]) + calibration.rotation.T[:, 2]
    y = np.cross(forward, x)
    y /= np.linalg.norm(y)
    left = np.stack([x, y, np.cross(x, y)])
    return Rectification(left, left @ calibration.rotation.T, baseline)


@numba.njit(cache=True, inline="always")
def distort(lens, x, y):
    """Pixel (px, py) of the slopes (x, y) in the camera, through OpenCV's rational and thin-prism lens (OpenCV calib3d docs)."""
    r2 = x * x + y * y
    radial = (1.0 + r2 * (lens[4] + r2 * (lens[5] + r2 * lens[8]))) / (
        1.0 + r2 * (lens[9] + r2 * (lens[10] + r2 * lens[11]))
    )
    p1, p2 = lens[6], lens[7]
    xd = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x) + r2 * (lens[12] + r2 * lens[13])
    yd = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y + r2 * (lens[14] + r2 * lens[15])
    return lens[0] * xd + lens[2], lens[1] * yd + lens[3]


@numba.njit(cache=True)
def undistort(lens, px, py):
    """Slopes (x, y) of a pixel: fixed-point steps to within 1e-11 of the slope; they converge wherever the lens is one to one."""
    xd = (px - lens[2]) / lens[0]
    yd = (py - lens[3]) / lens[1]
    x, y = xd, yd
    for _ in range(30):
        qx, qy = distort(lens, x, y)
        dx = xd - (qx - lens[2]) / lens[0]
        dy = yd - (qy - lens[3]) / lens[1]
        x += dx
        y += dy
        if abs(dx) + abs(dy) < 1e-12:
            break
    return x, y


def project(
    calibration: StereoCalibration,
    points: np.ndarray,  # (..., 3) in the left camera's frame, in its unit
    right: bool = False,
) -> np.ndarray:
    """(..., 2) pixels, centres at whole numbers. Points behind the camera give NaN."""
    points = np.asarray(points, np.float64)
    lens = calibration.right if right else calibration.left
    if right:
        points = points @ calibration.rotation.T + calibration.translation
    z = np.where(points[..., 2] > 0, points[..., 2], np.nan)
    return np.stack(distort.py_func(lens.packed(), points[..., 0] / z, points[..., 1] / z), axis=-1)


def undistorted(
    calibration: StereoCalibration,
    pixels: np.ndarray,  # (n, 2)
    right: bool = False,
) -> np.ndarray:
    """(n, 2) slopes x / z, y / z of the rays through pixels, in that camera's frame."""
    lens = (calibration.right if right else calibration.left).packed()
    return _undistort_all(lens, np.ascontiguousarray(pixels, np.float64))


@numba.njit(cache=True)
def _undistort_all(lens, pixels):
    out = np.empty_like(pixels)
    for i in range(len(pixels)):
        out[i, 0], out[i, 1] = undistort(lens, pixels[i, 0], pixels[i, 1])
    return out
