"""Waymo's range images: distances by beam and azimuth, and the points they stand for.

The geometry is that of waymo_open_dataset.utils.range_image_utils: rows from the highest beam down; column j of w looks at azimuth
((w - j - 1/2) / w * 2 - 1) pi - atan2(e10, e00), e being the mounting's rotation. The top laser turns while the car drives, so each of its pixels has
a vehicle pose of its own: [roll, pitch, yaw, x, y, z], rotations about z, y, x in this order (dataset.proto, RangeImage).
"""

from __future__ import annotations

import zlib

import numpy as np

from .frame import LASERS, Laser
from .protobuf_wire import Message, WireError

__all__ = ["LaserPoints", "laser_points"]

_LARGEST = 256 << 20
"""Bytes that a compressed matrix may unpack to; the top laser's poses are 4 MB."""
_TOP = 1


class LaserPoints:
    """The points of one laser's first return."""

    def __init__(self, world: np.ndarray, distance: np.ndarray, projections: np.ndarray | None) -> None:
        self.world = world
        """(n, 3) float64 global frame."""
        self.distance = distance
        """(n,) metres from the laser."""
        self.projections = projections
        """(n, 6) int32: camera, x, y of the first and of the second image a point is seen in, camera 0 for none; None if the file has none."""


def laser_points(
    laser: Laser,
    pose: np.ndarray,  # (4, 4) vehicle to global, for lasers whose pixels have no pose of their own
) -> LaserPoints:
    """Where the first returns are. WireError for a range image whose parts do not fit together."""
    name = LASERS.get(laser.name, str(laser.name))
    ranges = _matrix(laser.range_image, f"the range image of laser {name}")
    height, width, channels = _three(ranges.shape, f"the range image of laser {name}")
    row, column = np.nonzero(ranges[..., 0] > 0)
    distance = ranges[row, column, 0].astype(np.float64)
    turned = np.arctan2(laser.to_vehicle[1, 0], laser.to_vehicle[0, 0])
    azimuth = ((width - column - 0.5) / width * 2 - 1) * np.pi - turned
    beam = inclinations(laser, height)[row]
    local = (
        distance * np.stack([np.cos(beam) * np.cos(azimuth), np.cos(beam) * np.sin(azimuth), np.sin(beam)])
    ).T
    vehicle = local @ laser.to_vehicle[:3, :3].T + laser.to_vehicle[:3, 3]
    if laser.name == _TOP and len(laser.pixel_poses):
        poses = _matrix(laser.pixel_poses, f"the pixel poses of laser {name}")
        if poses.shape != (height, width, 6):
            raise WireError(
                f"the pixel poses of laser {name} are {poses.shape}, its range image ({height}, {width}, {channels})"
            )
        own = poses[row, column].astype(np.float64)
        world = _turned(vehicle, *own[:, :3].T) + own[:, 3:]
    else:
        world = vehicle @ pose[:3, :3].T + pose[:3, 3]
    projections = None
    if len(laser.camera_projection):
        stored = _matrix(laser.camera_projection, f"the camera projections of laser {name}", of_integers=True)
        if stored.shape != (height, width, 6):
            raise WireError(
                f"the camera projections of laser {name} are {stored.shape}, its range image ({height}, {width}, {channels})"
            )
        projections = stored[row, column]
    finite = np.isfinite(world).all(1)
    return LaserPoints(world[finite], distance[finite], None if projections is None else projections[finite])


def _turned(
    points: np.ndarray,  # (n, 3)
    roll: np.ndarray,  # (n,) each, radians
    pitch: np.ndarray,
    yaw: np.ndarray,
) -> np.ndarray:  # (n, 3)
    """Each point by its own rotation: about x, then y, then z (scipy's "ZYX" of yaw, pitch, roll, at a fifth of its time)."""
    x, y, z = points.T
    c, s = np.cos(roll), np.sin(roll)
    y, z = c * y - s * z, s * y + c * z
    c, s = np.cos(pitch), np.sin(pitch)
    x, z = c * x + s * z, c * z - s * x
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([c * x - s * y, s * x + c * y, z], 1)


def inclinations(laser: Laser, height: int) -> np.ndarray:
    """(height,) radians of the range image's rows, highest first."""
    if len(laser.inclinations):
        if len(laser.inclinations) != height:
            raise WireError(
                f"laser {LASERS.get(laser.name, laser.name)} has {len(laser.inclinations)} beam inclinations "
                f"and a range image of {height} rows"
            )
        return laser.inclinations[::-1]
    share = (np.arange(height) + 0.5) / height
    return (laser.lowest + share * (laser.highest - laser.lowest))[::-1]


def _matrix(compressed: memoryview | np.ndarray, what: str, of_integers: bool = False) -> np.ndarray:
    """The zlib-compressed MatrixFloat or MatrixInt32; an array is taken as it is."""
    if isinstance(compressed, np.ndarray):
        return compressed
    unpacker = zlib.decompressobj()
    try:
        stored = unpacker.decompress(compressed, _LARGEST)
    except zlib.error as error:
        raise WireError(f"{what} cannot be unpacked ({error})") from error
    if not unpacker.eof:
        raise WireError(f"{what} is cut short or unpacks to more than {_LARGEST >> 20} MB")
    message = Message(stored)
    values = message.integers(1) if of_integers else message.singles(1)
    shape = tuple(int(side) for side in message.message(2).integers(1))
    if any(side < 1 for side in shape) or np.prod(shape, dtype=object) != len(values):
        raise WireError(f"{what} has {len(values)} numbers and says its shape is {shape}")
    return values.reshape(shape)


def _three(shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    if len(shape) != 3 or shape[2] < 1:
        raise WireError(f"{what} has shape {shape}; rows, columns and channels are needed")
    return shape
