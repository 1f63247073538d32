"""Waymo segments: written here byte by byte from dataset.proto's field numbers, read by the reader, and damaged."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from fieldstone import datasets
from fieldstone.core.errors import UserError
from fieldstone.datasets.waymo.crc32c import crc32c, crc32c_reference
from fieldstone.datasets.waymo.protobuf_wire import Message, WireError, packed_int32
from fieldstone.datasets.waymo.range_image import _turned

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


@pytest.fixture(scope="module")
def payloads():
    return [frame(number) for number in range(FRAMES)]


@pytest.fixture(scope="module")
def segment(payloads, tmp_path_factory):
    path = tmp_path_factory.mktemp("waymo") / "segment-0_with_camera_labels.tfrecord"
    path.write_bytes(b"".join(framed(payload) for payload in payloads))
    return path


@pytest.fixture(scope="module")
def capture(segment):
    return datasets.open(segment)


def in_street(points: np.ndarray) -> np.ndarray:
    return (np.asarray(points, np.float64) - GLOBAL[:3, 3]) @ GLOBAL[:3, :3]


# ---- framing and wire format


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == crc32c_reference(b"123456789") == castagnoli(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA and crc32c(b"\xff" * 32) == 0x62A8AB43  # RFC 3720, B.4
    data = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    for length in (0, 1, 7, 8, 63, 64, 65, 71, 72, 1000, 5000):
        assert crc32c(data[:length]) == crc32c_reference(data[:length]) == castagnoli(data[:length])


def test_the_wire_format():
    message = Message(
        whole(1, 150) + whole(2, -7) + double(3, 1.5, 2.5) + held(4, b"abc") + single(5, 0.25)
        + held(3, struct.pack("<2d", 3.5, 4.5)) + held(6, varint(-1) + varint(300)) + whole(6, -2) + whole(1, 3)
    )  # fmt: skip
    assert message.integer(1) == 3 and message.integer(2) == -7 and message.integer(99, 5) == 5
    assert message.doubles(3).tolist() == [1.5, 2.5, 3.5, 4.5] and message.single(5) == 0.25
    assert message.text(4) == "abc" and message.integers(6).tolist() == [-1, 300, -2]
    assert message.spans(4) == [(34, 3)]
    values = np.random.default_rng(1).integers(-(2**31), 2**31, 500)
    np.testing.assert_array_equal(packed_int32(b"".join(varint(int(v)) for v in values)), values)
    for broken in (b"\x80", b"\x0a\x05ab", b"\x0b", b"\x09\x00", b"\xff" * 11):
        with pytest.raises(WireError):
            Message(broken)
    with pytest.raises(WireError, match="wire type 2, 0 is wanted"):
        Message(held(1, b"x")).integer(1)
    with pytest.raises(WireError, match="ends inside a number"):
        packed_int32(b"\x01\x80")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_wire_error(data):
    try:
        message = Message(data)
        for number in range(1, 9):
            message.messages(number)
    except WireError:
        pass


# ---- what is read


def test_cameras_stand_where_the_middle_of_the_image_was_exposed(capture):
    assert capture.format == "waymo" and capture.name == "segment-0" and len(capture) == 5 * FRAMES
    assert [len(capture.splits[name]) for name in ("train", "test")] == [5 * (FRAMES - 1), 1]
    assert capture.names[capture.splits["test"][0]] == "010_front.jpg"
    for camera, name in ((1, "front"), (3, "front_right"), (4, "side_left")):
        for number in (0, 7):
            index = capture.names.index(f"{number:03d}_{name}.jpg")
            lens = capture.cameras.models[index]
            assert lens == ("OPENCV" if CAMERAS[camera][0][8] == 0 else "FULL_OPENCV")
            points = np.array([[20.0, 3, 2], [25, -4, 1], [18, 8.5, 3], [2, 7, 2], [8, -6, 2]])
            points = points + np.array([SPEED * 0.1 * number, 0, 0])
            world = points @ GLOBAL[:3, :3].T + GLOBAL[:3, 3]
            wanted, depth = opencv_pixels(world, camera, 0.1 * number + 0.01)
            pixels, z = capture.cameras.project(torch.from_numpy(world), torch.tensor([index]))
            inside = (depth > 0) & (wanted > 0).all(1) & (wanted < (WIDTH, HEIGHT)).all(1)
            assert inside.any()
            np.testing.assert_allclose(z.numpy()[inside], depth[inside], atol=2e-3)
            # between pose and exposure the car turns, and its velocity is not quite straight: hundredths of a pixel
            np.testing.assert_allclose(pixels.numpy()[inside], wanted[inside], atol=0.05)


def test_a_thing_to_the_left_appears_on_the_left(capture):
    index = capture.names.index("000_front.jpg")
    ahead = vehicle(0.0) @ np.array([[15.0, 15.0, 15.0], [0.0, 3.0, 0.0], [2.1, 2.1, 4.0], [1, 1, 1]])
    (middle, left, high), z = capture.cameras.project(
        torch.from_numpy(ahead[:3].T.copy()), torch.tensor([index])
    )
    assert (z > 10).all() and left[0] < middle[0] - 5 and high[1] < middle[1] - 4


def test_images_are_read_where_they_lie(capture, segment):
    for camera, name, number in ((1, "front", 3), (5, "side_right", 11)):
        index = capture.names.index(f"{number:03d}_{name}.jpg")
        wanted = np.asarray(Image.open(io.BytesIO(picture(camera, number))))
        np.testing.assert_array_equal(capture.images.uint8(index), wanted)
    small = datasets.open(segment, downscale=2)
    assert small.images[0].shape == (20, 30, 3) and small.masks[0].shape == (20, 30)


def test_every_pixel_of_the_top_laser_has_its_pose(capture, payloads, tmp_path):
    assert len(capture.points) > 1500
    street = in_street(capture.points)
    off = np.abs(street @ PLANES[:, :3].T + PLANES[:, 3]).min(1)
    parked = np.array(BOXES["parked"][1])
    on_parked = (np.abs(street - parked) < np.array(BOXES["parked"][3]) / 2 + 0.05).all(1)
    # float32 poses 42 km from the origin are good to 4 mm
    assert np.quantile(off[~on_parked], 0.99) < 0.02 and on_parked.sum() > 3
    smeared = tmp_path / "smeared.tfrecord"
    smeared.write_bytes(b"".join(framed(frame(number, pixel_poses=False)) for number in range(2)))
    without = datasets.open(smeared)
    assert any("2 scans of the top laser have no pixel poses" in note for note in without.notes)
    street = in_street(without.points)
    assert np.quantile(np.abs(street @ PLANES[:, :3].T + PLANES[:, 3]).min(1), 0.99) > 0.1


def test_rotations_of_pixels_are_in_the_order_of_the_definition():
    generator = np.random.default_rng(3)
    points, angles = generator.normal(size=(50, 3)), generator.uniform(-3, 3, (50, 3))
    wanted = Rotation.from_euler("ZYX", angles[:, ::-1]).apply(points)
    np.testing.assert_allclose(_turned(points, *angles.T), wanted, atol=1e-12)


def test_movers_are_masked_and_their_returns_left_out(capture):
    assert any("2 movers are masked" in note for note in capture.notes)  # nor the sign, which cannot move
    index = capture.names.index("000_front.jpg")
    mask = capture.masks[index]

    def pixel(point, number=0):
        world = np.array([point]) @ GLOBAL[:3, :3].T + GLOBAL[:3, 3]
        (found,), _ = opencv_pixels(world, 1, 0.1 * number + 0.01)
        return mask[int(found[1]), int(found[0])]

    assert not pixel(BOXES["moving"][1]) and not pixel(BOXES["walker"][1])
    assert pixel(BOXES["parked"][1]) and pixel([20.0, 1.0, 0.0]) and 0.5 < mask.mean() < 0.99
    # the moving car was scanned in every frame and is in no frame's cloud: only road is left where it drove
    assert any("laser returns of movers are left out" in note for note in capture.notes)
    street = in_street(capture.points)
    drove = (np.abs(street[:, 1] - 3.0) < 1.0) & (street[:, 0] > 12) & (street[:, 0] < 27)
    assert drove.sum() > 5 and street[drove, 2].max() < 0.05


def test_a_note_where_points_are_not_where_the_file_says(tmp_path, capture):
    assert not any("from where the file says" in note for note in capture.notes)
    path = tmp_path / "off.tfrecord"
    path.write_bytes(framed(frame(0, projections_off=30.0)) + framed(frame(1)))
    (note,) = [note for note in datasets.open(path).notes if "points appear" in note]
    assert float(note.split()[2]) == pytest.approx(30 * 2**0.5, abs=1.5)  # whole pixels are stored


# ---- what is damaged


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        datasets.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damage_names_the_record(payloads, tmp_path):
    good = [framed(payload) for payload in payloads[:3]]
    path = tmp_path / "a.tfrecord"
    ends = np.cumsum([0, *(len(each) for each in good)])
    stored = bytearray(b"".join(good))
    path.write_bytes(stored[: ends[2] + 500])
    assert (
        f"record 2 at byte {ends[2]} ends at byte {ends[3]} and the file at {ends[2] + 500}; it is cut short"
        in refusal(path)
    )
    path.write_bytes(stored[: ends[2] + 5])
    assert f"record 2 at byte {ends[2]} ends at byte {ends[2] + 12}" in refusal(path)
    damaged = stored.copy()
    damaged[ends[1] + 3000] ^= 4
    path.write_bytes(damaged)
    assert (
        f"record 1 at byte {ends[1]}: the checksum of its {len(payloads[1])} bytes does not match"
        in refusal(path)
    )
    damaged = stored.copy()
    damaged[ends[1] + 1] ^= 1
    path.write_bytes(damaged)
    assert f"record 1 at byte {ends[1]}: the checksum of its length" in refusal(path)
    path.write_bytes(b"")
    assert "a.tfrecord: the file is empty" in refusal(tmp_path)
    path.rename(tmp_path / "a.txt")
    assert "no known format" in refusal(tmp_path) and "perception v1" in refusal(tmp_path)


def test_records_that_are_no_frames(payloads, tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(held(1, b"scenario")))
    assert "record 0" in refusal(path) and "perception data set, version 1, is read" in refusal(path)
    path.write_bytes(framed(payloads[0]) + framed(b"\x0a\xff"))
    assert "record 1: field 1 at byte" in refusal(path) or "record 1: the message ends" in refusal(path)
    path.write_bytes(framed(payloads[0]) + framed(frame(1, segment="another")))
    assert "record 1 is of segment another, the first of segment-0" in refusal(path)
    path.write_bytes(framed(frame(0, shape=(4, 180, 4))) + framed(payloads[1]))
    assert "record 0: laser top has 8 beam inclinations and a range image of 4 rows" in refusal(path)
    (tmp_path / "b.tfrecord").write_bytes(framed(payloads[0]))
    assert "2 segments (a.tfrecord, b.tfrecord); give one of them" in refusal(tmp_path)


def test_damage_inside_a_record(payloads, tmp_path):
    path = tmp_path / "a.tfrecord"
    start = payloads[0].index(
        zlib.compress(b"")[:2], payloads[0].index(picture(5, 0))
    )  # the top laser's ranges
    damaged = bytearray(payloads[0])
    damaged[start + 40] ^= 255
    path.write_bytes(framed(bytes(damaged)) + framed(payloads[1]))
    message = refusal(path)
    assert "record 0: the range image of laser top" in message and "damaged, copy it again" in message
    jpeg = picture(1, 0)
    path.write_bytes(framed(payloads[0].replace(jpeg, jpeg[:-200] + bytes(200))) + framed(payloads[1]))
    capture = datasets.open(path)
    path.write_bytes(framed(payloads[0].replace(jpeg, bytes(len(jpeg)))) + framed(payloads[1]))
    assert f"{path}: 000_front.jpg: the image is damaged" in refusal(path)
    assert capture.images.uint8(1).shape == (HEIGHT, WIDTH, 3)
