"""Waymo segments: written here byte by byte from dataset.proto's field numbers, read by the reader, and damaged."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

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

sys.path.insert(0, str(Path(__file__).parent))
from waymo_world import (
    BOXES,
    CAMERAS,
    FRAMES,
    GLOBAL,
    HEIGHT,
    PLANES,
    SPEED,
    WIDTH,
    castagnoli,
    double,
    frame,
    framed,
    held,
    in_street,
    opencv_pixels,
    picture,
    single,
    varint,
    vehicle,
    whole,
)


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
