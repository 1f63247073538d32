"""A frame of the Waymo Open Dataset: what of its record a reader needs, by the field numbers of dataset.proto and label.proto.

Frames: global (metres, z up), vehicle (x ahead, y left, z up), camera (x ahead along the optical axis, y left, z up), laser (x ahead, y left,
z up). All transforms are row-major 4x4 and take the named frame to the vehicle, or the vehicle to the global frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .protobuf_wire import Message, WireError

__all__ = ["CAMERAS", "LASERS", "Box", "CameraCalibration", "Frame", "Image", "Laser", "parse_frame"]

CAMERAS = {1: "front", 2: "front_left", 3: "front_right", 4: "side_left", 5: "side_right"}
LASERS = {1: "top", 2: "front", 3: "side_left", 4: "side_right", 5: "rear"}


@dataclass(frozen=True)
class CameraCalibration:
    intrinsic: np.ndarray
    """(9,) f_u, f_v, c_u, c_v, k1, k2, p1, p2, k3 in OpenCV's sense; pixels."""
    to_vehicle: np.ndarray
    """(4, 4)."""
    width: int
    height: int


@dataclass(frozen=True)
class Image:
    """A camera's JPEG, where it lies, and the vehicle while it was taken."""

    camera: int
    place: tuple[int, int]
    """Of the JPEG: offset and length in a TFRecord, bytes; row group and row in a parquet file."""
    pose: np.ndarray | None
    """(4, 4) vehicle to global at `pose_time`; None if the file has none."""
    velocity: np.ndarray
    """(6,) metres a second in the global frame, radians a second about the vehicle's axes."""
    pose_time: float
    """Seconds, as the two below."""
    trigger: float
    readout_done: float

    def pose_in_the_middle(self, otherwise: np.ndarray) -> np.ndarray:
        """(4, 4) vehicle to global when the middle column or row was exposed; the stated velocity fills the milliseconds to `pose_time`."""
        if self.pose is None:
            return otherwise
        from scipy.spatial.transform import Rotation

        after = 0.5 * (self.trigger + self.readout_done) - self.pose_time
        if not (self.trigger and self.readout_done and self.pose_time) or abs(after) > 0.5:
            return self.pose
        moved = self.pose.copy()
        moved[:3, 3] += after * self.velocity[:3]
        moved[:3, :3] = self.pose[:3, :3] @ Rotation.from_rotvec(after * self.velocity[3:]).as_matrix()
        return moved


@dataclass(frozen=True)
class Laser:
    """A laser's first return, and how it is mounted. Matrices are compressed as in a TFRecord or (h, w, c) arrays; what is absent has no length."""

    name: int
    range_image: memoryview | np.ndarray
    camera_projection: memoryview | np.ndarray
    pixel_poses: memoryview | np.ndarray
    inclinations: np.ndarray
    """(h,) radians from the lowest beam up; empty where they are spread evenly between the two below."""
    lowest: float
    highest: float
    to_vehicle: np.ndarray
    """(4, 4)."""


@dataclass(frozen=True)
class Box:
    """A labelled object: an upright box in the vehicle frame of `Frame.pose`."""

    identity: str
    kind: int
    """0 unknown, 1 vehicle, 2 pedestrian, 3 sign, 4 cyclist."""
    centre: np.ndarray
    """(3,) metres."""
    size: np.ndarray
    """(3,) length along x, width, height; metres."""
    heading: float
    """Radians from the vehicle's x."""
    speed: float
    """Metres a second over ground; 0 where it is not stated."""

    def to_vehicle(self) -> np.ndarray:  # (4, 4)
        """Takes the cube [-1/2, 1/2]^3 to the box."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * self.size
        affine[:3, 3] = self.centre
        return affine


@dataclass(frozen=True)
class Frame:
    segment: str
    pose: np.ndarray
    """(4, 4) vehicle to global, about the middle of the scan; the labels' frame."""
    calibrations: dict[int, CameraCalibration]
    images: tuple[Image, ...]
    lasers: tuple[Laser, ...]
    boxes: tuple[Box, ...]


def parse_frame(
    data: memoryview,
    offset: int,  # of `data` in the file
) -> Frame:
    """The frame of a record. WireError for what is no Frame of this data set; its laser data points into `data`."""
    message = Message(data, offset)
    context = message.message(1)
    calibrations = {c.integer(1): _camera(c) for c in context.messages(2)}
    if not calibrations or 3 not in message or 4 not in message:
        raise WireError("the record has no calibrated camera, pose and image; it is no perception frame")
    mounted = {c.integer(1): c for c in context.messages(3)}
    lasers = [
        _laser(laser, mounted[laser.integer(1)])
        for laser in message.messages(5)
        if laser.integer(1) in mounted and len(laser.message(2).bytes(2))
    ]
    return Frame(
        context.text(1),
        _transform(message.message(3), "the frame's pose"),
        calibrations,
        tuple(_image(image) for image in message.messages(4)),
        tuple(lasers),
        tuple(_box(label) for label in message.messages(6)),
    )


def _transform(message: Message, what: str) -> np.ndarray:
    values = message.doubles(1)
    if len(values) != 16 or not np.isfinite(values).all():
        raise WireError(f"{what} has {len(values)} numbers, 16 finite ones are needed")
    return values.reshape(4, 4).astype(np.float64)


def _camera(message: Message) -> CameraCalibration:
    name = CAMERAS.get(message.integer(1), str(message.integer(1)))
    intrinsic = message.doubles(2)
    if len(intrinsic) != 9 or not np.isfinite(intrinsic).all():
        raise WireError(f"camera {name} has {len(intrinsic)} intrinsic numbers, 9 finite ones are needed")
    return CameraCalibration(
        intrinsic.astype(np.float64),
        _transform(message.message(3), f"the mounting of camera {name}"),
        message.integer(4),
        message.integer(5),
    )


def _image(message: Message) -> Image:
    velocity = message.message(4)
    spans = message.spans(2)
    if not spans:
        raise WireError(f"the image of camera {message.integer(1)} has no bytes")
    return Image(
        message.integer(1),
        spans[-1],
        _transform(message.message(3), "an image's pose") if 3 in message else None,
        np.array(
            [velocity.single(i) for i in (1, 2, 3)] + [velocity.double(i) for i in (4, 5, 6)], np.float64
        ),
        message.double(5),
        message.double(7),
        message.double(8),
    )


def _laser(message: Message, mounted: Message) -> Laser:
    first = message.message(2)
    name = message.integer(1)
    return Laser(
        name,
        first.bytes(2),
        first.bytes(3),
        first.bytes(4),
        mounted.doubles(2).astype(np.float64),
        mounted.double(3),
        mounted.double(4),
        _transform(mounted.message(5), f"the mounting of laser {LASERS.get(name, name)}"),
    )


def _box(message: Message) -> Box:
    box, moving = message.message(1), message.message(2)
    return Box(
        message.text(4),
        message.integer(3),
        np.array([box.double(i) for i in (1, 2, 3)]),
        np.array([box.double(i) for i in (5, 4, 6)]),
        box.double(7),
        float(np.hypot(moving.double(1), moving.double(2))),
    )
