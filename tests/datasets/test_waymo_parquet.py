"""Waymo's version 2: the world of `waymo_world` in parquet files with the columns of waymo_open_dataset/v2."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldstone import datasets
from fieldstone.core.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from waymo_world import (
    BOXES,
    CAMERAS,
    FRONT,
    GLOBAL,
    INCLINATIONS,
    PLANES,
    SPEED,
    TOP,
    TURN,
    frame,
    framed,
    in_street,
    picture,
    scan,
    vehicle,
)

pytest.importorskip("pyarrow", reason='version 2 needs pip install "fieldstone[waymo]"')
import pyarrow as pa
import pyarrow.parquet as pq

NAME, FRAMES = "segment-0", 3


def write(root: Path, part: str, component: str, rows: list[dict], types: dict, *, group: int = 4) -> None:
    """Rows with keys "key.x" and plain names, which get the component's."""
    (root / part).mkdir(parents=True, exist_ok=True)
    keys = {name: f"[{component}].{name}" if not name.startswith("key.") else name for name in rows[0]}
    columns = {keys[name]: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), root / part / f"{NAME}.parquet", row_group_size=group)


POSE = pa.list_(pa.float64(), 16)
MATRIX = {
    "range_image_return1.values": pa.list_(pa.float32()),
    "range_image_return1.shape": pa.list_(pa.int32(), 3),
}


def matrix(values: np.ndarray) -> dict:
    return {
        "range_image_return1.values": values.ravel().tolist(),
        "range_image_return1.shape": list(values.shape),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("waymo_v2")
    segment = {"key.segment_context_name": NAME}
    names = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
    rows = [
        segment | {"key.camera_name": camera} | {f"intrinsic.{n}": float(v) for n, v in zip(names, intrinsic)}
        | {"extrinsic.transform": mounting.ravel().tolist(), "width": width, "height": height, "rolling_shutter_direction": 2}
        for camera, (intrinsic, mounting, width, height) in CAMERAS.items()
    ]  # fmt: skip
    write(root, "camera_calibration", "CameraCalibrationComponent", rows, {"extrinsic.transform": POSE})
    times = {number: 1553735853000000 + 100000 * number for number in range(FRAMES)}
    at = {number: segment | {"key.frame_timestamp_micros": time} for number, time in times.items()}
    rows = [at[n] | {"world_from_vehicle.transform": vehicle(0.1 * n).ravel().tolist()} for n in (2, 0, 1)]
    write(root, "vehicle_pose", "VehiclePoseComponent", rows, {"world_from_vehicle.transform": POSE})
    velocity, rows = GLOBAL[:3, :3] @ [SPEED, 0.3, 0], []
    for n in range(FRAMES):
        for camera in (1, 2, 4, 3, 5):
            row = at[n] | {
                "key.camera_name": camera,
                "image": picture(camera, n),
                "pose.transform": vehicle(0.1 * n).ravel().tolist(),
            }
            row |= {f"velocity.linear_velocity.{a}": float(v) for a, v in zip("xyz", velocity)}
            row |= {f"velocity.angular_velocity.{a}": v for a, v in zip("xyz", (0.0, 0.0, TURN))}
            row |= {"pose_timestamp": 1000.0 + 0.1 * n, "rolling_shutter_params.shutter": 0.002}
            row |= {"rolling_shutter_params.camera_trigger_time": 1000.0 + 0.1 * n - 0.015}
            row |= {"rolling_shutter_params.camera_readout_done_time": 1000.0 + 0.1 * n + 0.035}
            rows.append(row)
    write(root, "camera_image", "CameraImageComponent", rows, {"pose.transform": POSE, "image": pa.binary()})
    mounted = [(1, TOP, INCLINATIONS.tolist(), 0.0, 0.0), (2, FRONT, None, -1.0, 0.2)]
    rows = [
        segment | {"key.laser_name": laser, "extrinsic.transform": mounting.ravel().tolist()}
        | {"beam_inclination.min": low, "beam_inclination.max": high, "beam_inclination.values": values}
        for laser, mounting, values, low, high in mounted
    ]  # fmt: skip
    write(
        root,
        "lidar_calibration",
        "LiDARCalibrationComponent",
        rows,
        {"extrinsic.transform": POSE, "beam_inclination.values": pa.list_(pa.float64())},
    )
    ranges, poses, projections = [], [], []
    even = -1.0 + 1.2 * (np.arange(6) + 0.5) / 6
    for n in range(FRAMES):
        for laser, mounting, beams, columns in ((1, TOP, INCLINATIONS, 90), (2, FRONT, even, 40)):
            image, own, _ = scan(mounting, beams, columns, 0.1 * n, moves=laser == 1)
            key = at[n] | {"key.laser_name": laser}
            ranges.append(key | matrix(image))
            projections.append(key | matrix(np.zeros((*image.shape[:2], 6))))
            if laser == 1:
                poses.append(key | matrix(own))
    write(root, "lidar", "LiDARComponent", ranges, MATRIX)
    write(root, "lidar_pose", "LiDARPoseComponent", poses, MATRIX)
    write(root, "lidar_camera_projection", "LiDARCameraProjectionComponent", projections, MATRIX)
    rows = []
    for n in range(FRAMES):
        for name, (kind, centre, speed, size) in BOXES.items():
            pose = vehicle(0.1 * n)
            place = GLOBAL @ [*(np.array(centre) + 0.1 * n * np.array(speed)), 1]
            row = at[n] | {"key.laser_object_id": name, "type": kind, "box.heading": -TURN * 0.1 * n}
            row |= {
                f"box.center.{a}": v
                for a, v in zip("xyz", ((place[:3] - pose[:3, 3]) @ pose[:3, :3]).tolist())
            }
            row |= {f"box.size.{a}": v for a, v in zip("xyz", size)} | {
                f"speed.{a}": v for a, v in zip("xyz", speed)
            }
            rows.append(row)
    write(root, "lidar_box", "LiDARBoxComponent", rows, {})
    return root


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_both_versions_of_a_segment_are_read_alike(folder, tmp_path):
    first = tmp_path / "a.tfrecord"
    first.write_bytes(b"".join(framed(frame(number)) for number in range(FRAMES)))
    one, two = datasets.open(first), datasets.open(folder)
    assert two.format == "waymo" and two.name == one.name == NAME and two.names == one.names
    np.testing.assert_allclose(two.cameras.camera_to_world, one.cameras.camera_to_world, atol=1e-5)
    np.testing.assert_array_equal(two.cameras.params, one.cameras.params)
    assert two.cameras.models == one.cameras.models
    for index in (0, 7, 14):
        np.testing.assert_array_equal(two.images.uint8(index), one.images.uint8(index))
        assert (two.masks[index] == one.masks[index]).mean() > 0.998
    index = two.names.index("001_side_right.jpg")
    np.testing.assert_array_equal(two.images.uint8(index), np.asarray(Image.open(io.BytesIO(picture(5, 1)))))
    assert len(two.points) == len(one.points)
    np.testing.assert_allclose(two.points, one.points, atol=1e-5)
    assert two.notes == one.notes
    off = np.abs(in_street(two.points) @ PLANES[:, :3].T + PLANES[:, 3]).min(1)
    assert np.median(off) < 0.005
    assert datasets.open(folder / "camera_image" / f"{NAME}.parquet").names == two.names


def test_what_is_not_there_is_said(copy):
    shutil.rmtree(copy / "lidar_pose")
    assert any("3 scans of the top laser have no pixel poses" in note for note in datasets.open(copy).notes)
    shutil.rmtree(copy / "lidar_box")
    without = datasets.open(copy)
    assert without.masks is None and not any("movers" in note for note in without.notes)
    shutil.rmtree(copy / "lidar")
    without = datasets.open(copy)
    assert without.points is None and any(
        "3 of 3 frames have no range image" in note for note in without.notes
    )
    shutil.copytree(copy / "camera_image", copy / "more")
    for part in ("camera_image", "camera_calibration", "vehicle_pose"):
        shutil.copy(copy / part / f"{NAME}.parquet", copy / part / "segment-1.parquet")
    assert "2 segments (segment-0.parquet, segment-1.parquet); give one of them" in refusal(copy)
    shutil.rmtree(copy / "vehicle_pose")
    assert "no known format" in refusal(copy)


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        datasets.open(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_damaged_files_are_named(copy):
    file = copy / "camera_image" / f"{NAME}.parquet"
    stored = file.read_bytes()
    file.write_bytes(stored[:-30])
    assert f"{file}: not readable as parquet" in refusal(copy)
    table = pq.read_table(io.BytesIO(stored))
    pq.write_table(table.drop_columns(["[CameraImageComponent].pose_timestamp"]), file)
    assert "no column [CameraImageComponent].pose_timestamp; it has key.segment_context_name" in refusal(copy)
    file.write_bytes(stored)
    lidar = copy / "lidar" / f"{NAME}.parquet"
    table = pq.read_table(lidar)
    shapes = [[8, 91, 4], *table["[LiDARComponent].range_image_return1.shape"].to_pylist()[1:]]
    column = table.schema.get_field_index("[LiDARComponent].range_image_return1.shape")
    pq.write_table(
        table.set_column(column, table.schema.field(column), pa.array(shapes, pa.list_(pa.int32(), 3))), lidar
    )
    assert "2880 numbers in an image of shape (8, 91, 4)" in refusal(copy)


def test_without_pyarrow_the_install_command_is_given(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pyarrow is needed for reading parquet files" in refusal(folder)
    assert 'pip install "fieldstone[waymo]"' in refusal(folder)
