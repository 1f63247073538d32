"""A small world that a car drives through with Waymo's sensors, and what a record of its file looks like, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

# ---- a writer that knows nothing of the reader


def castagnoli(data: bytes) -> int:
    """CRC-32C as polynomial division: the message, its first four bytes and the remainder inverted, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def framed(payload: bytes) -> bytes:
    def mask(crc: int) -> bytes:
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(payload))
    return length + mask(castagnoli(length)) + payload + mask(castagnoli(payload))


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def whole(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def double(number: int, *values: float) -> bytes:
    return b"".join(varint(number << 3 | 1) + struct.pack("<d", value) for value in values)


def single(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def held(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def transform(number: int, pose: np.ndarray) -> bytes:
    return held(number, double(1, *pose.ravel()))


def matrix(number: int, values: np.ndarray) -> bytes:
    """A zlib-compressed MatrixFloat or MatrixInt32."""
    if values.dtype.kind == "f":
        data = held(1, values.astype("<f4").tobytes())
    else:
        data = held(1, b"".join(varint(int(value)) for value in values.ravel()))
    return held(number, zlib.compress(data + held(2, b"".join(whole(1, side) for side in values.shape))))


# ---- a small world: flat ground, walls to the left, to the right and at the end; Waymo's global frame is far from its origin

GLOBAL = np.eye(4)
GLOBAL[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
GLOBAL[:3, 3] = [-25211.3, 42391.1, -160.6]
TILT = np.eye(4)
TILT[:3, :3] = Rotation.from_euler("ZYX", [0.0, -0.03, 0.04]).as_matrix()
"""The car is loaded on one side and at the back."""
PLANES = np.array([[0, 0, 1, 0], [0, -1, 0, 9], [0, 1, 0, 7], [-1, 0, 0, 32.0]])
"""Normals and offsets, n . p + d = 0, in the street's frame."""
FRAMES, SPEED, TURN = 12, 12.0, 0.3
FOCAL, WIDTH, HEIGHT = 40.0, 60, 40
INTRINSIC = [FOCAL, FOCAL + 1, 29.0, 21.0, 0.04, -0.33, 0.001, -0.0016, 0.0]
SIDE_INTRINSIC = [*INTRINSIC[:8], 0.02]


def vehicle(time: float) -> np.ndarray:
    """Vehicle to global."""
    pose = np.eye(4)
    c, s = np.cos(TURN * time), np.sin(TURN * time)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = [SPEED * time, 0.3 * time, 0.4]
    return GLOBAL @ pose @ TILT


def mounted(yaw: float, position, pitch: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    c, s = np.cos(yaw), np.sin(yaw)
    p, q = np.cos(pitch), np.sin(pitch)
    pose[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[p, 0, q], [0, 1, 0], [-q, 0, p]]
    pose[:3, 3] = position
    return pose


CAMERAS = {
    1: (INTRINSIC, mounted(0.0, [1.5, 0.0, 2.1], 0.02), WIDTH, HEIGHT),
    2: (INTRINSIC, mounted(0.78, [1.5, 0.1, 2.1]), WIDTH, HEIGHT),
    3: (INTRINSIC, mounted(-0.78, [1.5, -0.1, 2.1]), WIDTH, HEIGHT),
    4: (SIDE_INTRINSIC, mounted(1.57, [1.4, 0.1, 2.1]), WIDTH, 28),
    5: (SIDE_INTRINSIC, mounted(-1.57, [1.4, -0.1, 2.1]), WIDTH, 28),
}
TOP = mounted(2.3, [1.4, 0.0, 1.9])
FRONT = mounted(0.0, [4.0, 0.0, 0.7])
INCLINATIONS = np.radians(np.array([-17.0, -12, -8, -5, -3, -2, -1, 1.5]))
BOXES = {  # identity -> kind, centre at time 0 in the street's frame, velocity, size (length, width, height)
    "moving": (1, [14.0, 3.0, 0.8], [10.0, 0.0, 0.0], (4.4, 1.9, 1.6)),
    "parked": (1, [24.0, -1.5, 0.8], [0.0, 0.0, 0.0], (4.0, 1.8, 1.6)),
    "walker": (2, [12.0, -3.0, 0.9], [0.0, 0.0, 0.0], (0.8, 0.8, 1.8)),
    "sign": (3, [18.0, 6.0, 2.0], [9.0, 0.0, 0.0], (0.3, 0.8, 0.8)),
}


def cast(origins: np.ndarray, directions: np.ndarray, time: float, boxes=("moving", "parked")) -> np.ndarray:
    """(n,) distance to what rays of the street's frame meet first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        away = -(origins @ PLANES[:, :3].T + PLANES[:, 3]) / (directions @ PLANES[:, :3].T)
        near = np.where(away > 1e-6, away, np.inf).min(1)
        for name in boxes:
            _, centre, velocity, size = BOXES[name]
            middle = np.array(centre) + time * np.array(velocity)
            a = (middle - np.array(size) / 2 - origins) / directions
            b = (middle + np.array(size) / 2 - origins) / directions
            enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
            near = np.where((enter < leave) & (enter > 0), np.minimum(near, enter), near)
    return near


def scan(mounting: np.ndarray, inclinations: np.ndarray, columns: int, time: float, moves: bool):
    """(range image, pixel poses as roll, pitch, yaw, x, y, z, points in the global frame), rows from the highest beam."""
    rows = len(inclinations)
    yaw = np.arctan2(mounting[1, 0], mounting[0, 0])
    ranges, poses = np.zeros((rows, columns, 4)), np.zeros((rows, columns, 6))
    points = np.zeros((rows, columns, 3))
    for column in range(columns):
        moment = time + (0.1 * (column / columns - 0.5) if moves else 0.0)
        pose = vehicle(moment)
        azimuth = np.pi - 2 * np.pi * (column + 0.5) / columns - yaw
        beams = inclinations[::-1]
        local = np.stack([np.cos(beams) * np.cos(azimuth), np.cos(beams) * np.sin(azimuth), np.sin(beams)], 1)
        to_street = np.linalg.inv(GLOBAL) @ pose @ mounting
        directions = local @ to_street[:3, :3].T
        away = cast(np.broadcast_to(to_street[:3, 3], directions.shape), directions, time)
        away[~np.isfinite(away) | (away > 75)] = -1
        ranges[:, column, 0] = away
        points[:, column] = (local * away[:, None]) @ (pose @ mounting)[:3, :3].T + (pose @ mounting)[:3, 3]
        angles = [
            np.arctan2(pose[2, 1], pose[2, 2]),
            -np.arcsin(pose[2, 0]),
            np.arctan2(pose[1, 0], pose[0, 0]),
        ]
        poses[:, column] = [*angles, *pose[:3, 3]]
    return ranges, poses, points


def opencv_pixels(points: np.ndarray, camera: int, time: float) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) by OpenCV's own projection, and depth."""
    intrinsic, mounting, *_ = CAMERAS[camera]
    local = (points - (vehicle(time) @ mounting)[:3, 3]) @ (vehicle(time) @ mounting)[:3, :3]
    turned = np.stack([-local[:, 1], -local[:, 2], local[:, 0]], 1)
    k = np.array([[intrinsic[0], 0, intrinsic[2]], [0, intrinsic[1], intrinsic[3]], [0, 0, 1]])
    pixels, _ = cv2.projectPoints(turned, np.zeros(3), np.zeros(3), k, np.array(intrinsic[4:]))
    # far off the axis OpenCV's polynomial turns back and puts points in the image that no ray of it meets
    ahead = (turned[:, 2] > 0) & (np.linalg.norm(turned[:, :2], axis=1) < 0.85 * turned[:, 2])
    return pixels[:, 0], np.where(ahead, turned[:, 2], -1.0)


def picture(camera: int, number: int) -> bytes:
    _, _, width, height = CAMERAS[camera]
    pixels = np.random.default_rng(100 * camera + number).integers(0, 256, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def label(name: str, time: float) -> bytes:
    kind, centre, velocity, (length, width, height) = BOXES[name]
    middle = GLOBAL @ [*(np.array(centre) + time * np.array(velocity)), 1]
    pose = vehicle(time)
    local = (middle[:3] - pose[:3, 3]) @ pose[:3, :3]
    box = double(1, local[0]) + double(2, local[1]) + double(3, local[2])
    box += double(5, length) + double(4, width) + double(6, height) + double(7, -TURN * time)
    return (
        held(1, box)
        + held(2, double(1, velocity[0]) + double(2, velocity[1]))
        + whole(3, kind)
        + held(4, name.encode())
    )


def frame(
    number: int, *, pixel_poses=True, shape=None, segment="segment-0", projections_off=0.0, moves=True
) -> bytes:
    time = 0.1 * number
    context = held(1, segment.encode())
    for camera, (intrinsic, mounting, width, height) in CAMERAS.items():
        calibration = whole(1, camera) + double(2, *intrinsic) + transform(3, mounting)
        context += held(2, calibration + whole(4, width) + whole(5, height) + whole(6, 2))
    context += held(3, whole(1, 1) + held(2, struct.pack("<8d", *INCLINATIONS)) + transform(5, TOP))
    context += held(3, whole(1, 2) + double(3, -1.0) + double(4, 0.2) + transform(5, FRONT))
    out = held(1, context) + whole(2, 1553735853000000 + number) + transform(3, vehicle(time))
    for camera in (1, 2, 4, 3, 5):
        stamp = 1000.0 + time  # the pose is of 10 ms before the middle of the image
        velocity = GLOBAL[:3, :3] @ [SPEED, 0.3, 0]
        moving = b"".join(single(i + 1, velocity[i]) for i in range(3)) + double(6, TURN)
        image = (
            whole(1, camera)
            + held(2, picture(camera, number))
            + transform(3, vehicle(time))
            + held(4, moving)
        )
        image += double(5, stamp) + double(6, 0.002) + double(7, stamp - 0.015) + double(8, stamp + 0.035)
        out += held(4, image)
    ranges, poses, points = scan(TOP, INCLINATIONS, 90, time, moves)
    projections = np.zeros((*ranges.shape[:2], 6), np.int32)
    pixels, depth = opencv_pixels(points.reshape(-1, 3), 1, time + 0.01)
    seen = (
        (depth > 0) & (ranges[..., 0].ravel() > 0) & (pixels > 0).all(1) & (pixels < (WIDTH, HEIGHT)).all(1)
    )
    projections.reshape(-1, 6)[seen, :3] = np.column_stack(
        [np.ones(seen.sum()), pixels[seen] + projections_off]
    )
    first = matrix(2, ranges if shape is None else ranges.reshape(shape)) + matrix(3, projections)
    if pixel_poses:
        first += matrix(4, poses)
    out += held(5, whole(1, 1) + held(2, first))
    even = -1.0 + 1.2 * (np.arange(6) + 0.5) / 6
    ranges, _, _ = scan(FRONT, even, 40, time, moves=False)
    out += held(5, whole(1, 2) + held(2, matrix(2, ranges)))
    for name in BOXES:
        out += held(6, label(name, time))
    return out


def in_street(points: np.ndarray) -> np.ndarray:
    return (np.asarray(points, np.float64) - GLOBAL[:3, 3]) @ GLOBAL[:3, :3]
