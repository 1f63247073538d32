"""A segment of version 2: parquet files of the same name in folders of components (waymo_open_dataset/v2/perception).

Read are camera_calibration, camera_image and vehicle_pose, which must be there, and lidar, lidar_calibration, lidar_pose,
lidar_camera_projection and lidar_box where they are. Columns are called "[CameraImageComponent].pose.transform" and keys "key.camera_name".
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.lazy import require

from ..image_file import EncodedPicture, Picture
from .frame import Box, CameraCalibration, Frame, Image, Laser

__all__ = ["ParquetSegment", "segment_names"]

NEEDED = ("camera_calibration", "camera_image", "vehicle_pose")
_FRAME, _CAMERA, _LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"
_MATRIX = (_FRAME, _LASER, "range_image_return1.values", "range_image_return1.shape")
_NOTHING = memoryview(b"")


def segment_names(root: Path) -> list[str]:
    """Of segments that have images, calibration and poses in `root`."""
    names = [{file.name for file in (root / part).glob("*.parquet")} for part in NEEDED]
    return sorted(set.intersection(*names))


class ParquetSegment:
    """The frames of a segment. UserError for a file that is damaged or lacks a column, and without pyarrow."""

    def __init__(self, root: Path, name: str) -> None:
        self.source = root / "camera_image" / name
        self._root, self._name = root, name
        self._times: list[int] = []

    def frames(self) -> Iterator[Frame]:
        """In the order of their times."""
        calibrations = {
            row[_CAMERA]: _calibration(row, self._path("camera_calibration"))
            for row in self._rows("camera_calibration", "CameraCalibrationComponent")
        }
        poses = {
            row[_FRAME]: _transform(
                row["world_from_vehicle.transform"], f"{self._path('vehicle_pose')}: the pose"
            )
            for row in self._rows("vehicle_pose", "VehiclePoseComponent")
        }
        images, boxes = self._images(), self._boxes()
        self._times = sorted(poses)
        for time in self._times:
            yield Frame(
                self._name.removesuffix(".parquet"),
                poses[time],
                calibrations,
                tuple(images.get(time, ())),
                (),
                tuple(boxes.get(time, ())),
            )

    def lasers(self) -> Iterator[tuple[int, Laser]]:
        """Number of the frame and laser, in the order of the file; to be asked for after `frames`."""
        mounted = {row[_LASER]: row for row in self._rows("lidar_calibration", "LiDARCalibrationComponent")}
        numbers = {time: number for number, time in enumerate(self._times)}
        poses = _ByKey(self._rows("lidar_pose", "LiDARPoseComponent", _MATRIX))
        seen = _ByKey(self._rows("lidar_camera_projection", "LiDARCameraProjectionComponent", _MATRIX))
        for row in self._rows("lidar", "LiDARComponent", _MATRIX):
            time, name = row[_FRAME], row[_LASER]
            if name not in mounted or time not in numbers or row["range_image_return1.values"] is None:
                continue
            mounting = mounted[name]
            inclinations = mounting.get("beam_inclination.values")
            laser = Laser(
                name,
                _array(row, self._path("lidar")),
                _array(seen.take((time, name)), self._path("lidar_camera_projection")),
                _array(poses.take((time, name)), self._path("lidar_pose")),
                np.array([] if inclinations is None else inclinations, np.float64),
                mounting["beam_inclination.min"] or 0.0,
                mounting["beam_inclination.max"] or 0.0,
                _transform(
                    mounting["extrinsic.transform"], f"{self._path('lidar_calibration')}: the mounting"
                ),
            )
            yield numbers[time], laser

    def picture(self, image: Image, name: str) -> Picture:
        return ParquetImage(self.source, *image.place, name)

    def where(self, number: int) -> str:
        """Of a frame, for messages."""
        return f"{self._path('lidar')}: the frame at {self._times[number]} microseconds"

    def _path(self, part: str) -> Path:
        return self._root / part / self._name

    def _rows(self, part: str, component: str, columns: tuple[str, ...] | None = None) -> Iterator[dict]:
        """Rows as dicts, without the component's name in the keys; none if the file is not there."""
        path = self._path(part)
        if not path.is_file():
            if part in NEEDED:
                raise UserError(f"{path}: not there; {', '.join(NEEDED)} of a segment are needed")
            return
        parquet = require("pyarrow.parquet", "waymo", "reading parquet files")
        try:
            file = parquet.ParquetFile(path)
            wanted = None
            if columns is not None:
                wanted = [
                    *(c for c in columns if c.startswith("key.")),
                    *(f"[{component}].{c}" for c in columns if not c.startswith("key.")),
                ]
                missing = [name for name in wanted if name not in file.schema_arrow.names]
                if missing:
                    raise UserError(
                        f"{path}: no column {missing[0]}; it has {', '.join(file.schema_arrow.names[:8])}"
                    )
            for group in range(file.num_row_groups):
                for place, row in enumerate(_batched(file, group, wanted)):
                    yield {key.removeprefix(f"[{component}]."): value for key, value in row.items()} | {
                        "place": (group, place)
                    }
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise UserError(
                f"{path}: not readable as parquet ({' '.join(str(error).split())[:150]})"
            ) from error

    def _images(self) -> dict[int, list[Image]]:
        found = defaultdict(list)
        names = (
            _FRAME, _CAMERA, "pose.transform", "velocity.linear_velocity.x", "velocity.linear_velocity.y", "velocity.linear_velocity.z",
            "velocity.angular_velocity.x", "velocity.angular_velocity.y", "velocity.angular_velocity.z", "pose_timestamp",
            "rolling_shutter_params.camera_trigger_time", "rolling_shutter_params.camera_readout_done_time",
        )  # fmt: skip
        for row in self._rows("camera_image", "CameraImageComponent", names):
            pose, *moving, stamp, trigger, done = (row[name] for name in names[2:])
            found[row[_FRAME]].append(
                Image(
                    row[_CAMERA],
                    row["place"],
                    _transform(pose, f"{self.source}: an image's pose"),
                    np.array([value or 0.0 for value in moving]),
                    stamp or 0.0,
                    trigger or 0.0,
                    done or 0.0,
                )
            )
        return found

    def _boxes(self) -> dict[int, list[Box]]:
        found = defaultdict(list)
        for row in self._rows("lidar_box", "LiDARBoxComponent"):
            found[row[_FRAME]].append(
                Box(
                    row["key.laser_object_id"],
                    row["type"],
                    np.array([row[f"box.center.{axis}"] for axis in "xyz"], float),
                    np.array([row[f"box.size.{axis}"] for axis in "xyz"], float),
                    float(row["box.heading"]),
                    float(np.hypot(row.get("speed.x") or 0.0, row.get("speed.y") or 0.0)),
                )
            )
        return found


class _ByKey:
    """Rows by time and laser, of which only those are held that were passed by."""

    def __init__(self, rows: Iterator[dict]) -> None:
        self._rows, self._passed = rows, {}

    def take(self, key: tuple[int, int]) -> dict | None:
        while key not in self._passed:
            row = next(self._rows, None)
            if row is None:
                return None
            self._passed[row[_FRAME], row[_LASER]] = row
        return self._passed.pop(key)


def _batched(file, group: int, columns: list[str] | None) -> Iterator[dict]:
    """Rows of a row group, a few at a time; lists become arrays."""
    for batch in file.iter_batches(batch_size=8, row_groups=[group], columns=columns):
        names = batch.schema.names
        for index in range(batch.num_rows):
            row = {}
            for name, column in zip(names, batch.columns):
                value = column[index]
                values = getattr(value, "values", None)
                row[name] = value.as_py() if values is None else values.to_numpy(zero_copy_only=False)
            yield row


def _array(row: dict | None, path: Path) -> np.ndarray | memoryview:
    if row is None or row["range_image_return1.values"] is None:
        return _NOTHING
    values, shape = row["range_image_return1.values"], tuple(int(n) for n in row["range_image_return1.shape"])
    if any(side < 1 for side in shape) or np.prod(shape, dtype=object) != len(values):
        raise UserError(f"{path}: {len(values)} numbers in an image of shape {shape}")
    return values.reshape(shape)


def _transform(values: np.ndarray | None, what: str) -> np.ndarray:
    count = 0 if values is None else len(values)
    if count != 16 or not np.isfinite(values).all():
        raise UserError(f"{what} has {count} numbers, 16 finite ones are needed")
    return np.asarray(values, np.float64).reshape(4, 4)


def _calibration(row: dict, path: Path) -> CameraCalibration:
    names = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
    intrinsic = np.array([row.get(f"intrinsic.{name}", np.nan) for name in names], np.float64)
    if not np.isfinite(intrinsic).all():
        raise UserError(f"{path}: the intrinsics of camera {row[_CAMERA]} are {intrinsic.tolist()}")
    return CameraCalibration(
        intrinsic,
        _transform(row["extrinsic.transform"], f"{path}: a mounting"),
        int(row["width"]),
        int(row["height"]),
    )


@functools.lru_cache(maxsize=2)
def _jpegs(path: Path, group: int):
    """The images of a row group, as they lie in the file: a few hundred MB if it is all in one."""
    file = require("pyarrow.parquet", "waymo", "reading parquet files").ParquetFile(path)
    return file.read_row_group(group, columns=["[CameraImageComponent].image"]).column(0)


@dataclass(frozen=True)
class ParquetImage(EncodedPicture):
    """A JPEG in a row of camera_image."""

    path: Path
    group: int
    row: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def encoded(self) -> bytes:
        return _jpegs(self.path, self.group)[self.row].as_py()
