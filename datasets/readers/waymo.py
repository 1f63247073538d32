"""Waymo Open Dataset, perception: a segment of five cameras and five lasers, as a TFRecord (version 1) or parquet files (version 2).

Field numbers and geometry as in waymo_open_dataset's dataset.proto, label.proto and utils. Images are read where they lie. Waymo's cameras look
along x with y left and z up; poses leave here with x right, y down, z forward, in the global frame (z up, metres). A camera stands where it was when the
middle of its image was exposed; the rolling shutter around that is not modelled. First returns of all lasers make the cloud, those of the top laser
with the pose of their own pixel. People, cyclists and vehicles that move at some time in the segment are masked in images by their labelled boxes, and
points in those boxes are left out. Every tenth frame of the front camera tests, as in DNMP; the other cameras at these times are not used.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...render.cameras import Cameras
from ..lidar import FARTHEST, NEAREST, Gathering
from ..movers import BoxMask, grown, inside
from ..reading import Frame, Lens, Reading, listed
from ..waymo.frame import CAMERAS, CameraCalibration
from ..waymo.frame import Frame as WaymoFrame
from ..waymo.protobuf_wire import WireError
from ..waymo.range_image import laser_points
from ..waymo.segment_v1 import TfrecordSegment
from ..waymo.segment_v2 import ParquetSegment, segment_names
from ..waymo.tfrecord import is_tfrecord

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "waymo"
LOOKED_FOR = "a .tfrecord of the Waymo Open Dataset, perception v1; its camera_image, camera_calibration and vehicle_pose/*.parquet (v2)"
FRONT, TOP = 1, 1
VEHICLE, PEDESTRIAN, SIGN, CYCLIST = 1, 2, 3, 4
MOVED, FAST = 1.0, 0.5
"""Metres that a vehicle's box moves over the segment, and metres a second, from which it counts as a mover: boxes of parked cars wander less."""
MARGIN, LATE = 0.3, 0.05
"""Metres added around a mover's box, and seconds of its own speed: labels, scans and images are not of one moment."""
AXES = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From x right, y down, z forward to Waymo's camera axes, x forward, y left, z up."""
FAR_OFF = 20.0
"""Pixels between where the file says points appear and where the poses put them, from which a note says so."""


def _segments(path: Path) -> list[TfrecordSegment | ParquetSegment]:
    """At `path`: a TFRecord, a folder of them, version 2's folder, or its ROOT/camera_image/SEGMENT.parquet."""
    if path.is_file():
        if path.suffix == ".parquet" and path.parent.name == "camera_image":
            root = path.resolve().parent.parent
            return [ParquetSegment(root, path.name)] if path.name in segment_names(root) else []
        return [TfrecordSegment(path)] if is_tfrecord(path) else []
    files = sorted(entry for entry in path.glob("*tfrecord*") if entry.is_file() and entry.suffix != ".gz")
    return [TfrecordSegment(file) for file in files] or [
        ParquetSegment(path, name) for name in segment_names(path)
    ]


def recognise(path: Path) -> str | None:
    """Why `path` (one of those of `_segments`) looks like this format, or None."""
    found = _segments(path)
    return f"segment {found[0].source}" if found else None


def read(path: Path, downscale: float = 1) -> Reading:
    """All five cameras of every frame, movers masked, and the cloud of all lasers without movers, thinned to 6 cm."""
    segments = _segments(path)
    if len(segments) > 1:
        names = [segment.source.name for segment in segments]
        raise UserError(
            f"{path}: {len(segments)} segments ({listed(names)}); give one of them, as in {segments[0].source}"
        )
    segment = segments[0]
    found = list(segment.frames())
    if len({frame.segment for frame in found}) > 1:
        other = next(i for i, frame in enumerate(found) if frame.segment != found[0].segment)
        raise UserError(
            f"{segment.where(other)} is of segment {found[other].segment}, the first of {found[0].segment}; "
            "one segment a file is read, as their frames are not of one place"
        )
    movers = _movers(found)
    notes: list[str] = []
    frames, splits = _images(segment, found, movers, notes)
    gathering = _gathered(segment, found, movers, notes)
    return Reading(
        name=found[0].segment or segment.source.stem,
        folder=segment.source,
        format=FORMAT,
        frames=frames,
        splits=splits if splits["test"] else None,
        points=gathering.checked_cloud(segment.source, notes),
        points_of=str(segment.source),
        mask_marks_used=False,
        notes=notes,
    )


def _movers(frames: list[WaymoFrame]) -> set[str]:
    """Identities of what moved at any time: all people and cyclists, and vehicles by how far their box went or how fast it says it is."""
    places, moving = defaultdict(list), set()
    for frame in frames:
        for box in frame.boxes:
            if box.kind in (PEDESTRIAN, CYCLIST) or (box.kind != SIGN and box.speed > FAST):
                moving.add(box.identity)
            elif box.kind != SIGN:
                places[box.identity].append(frame.pose[:3, :3] @ box.centre + frame.pose[:3, 3])
    for identity, track in places.items():
        if np.linalg.norm(np.ptp(np.array(track), axis=0)) > MOVED:
            moving.add(identity)
    return moving


def _moving_boxes(frame: WaymoFrame, movers: set[str]) -> np.ndarray:  # (k, 4, 4)
    """Boxes of movers with their margin, in the vehicle frame of the frame's pose."""
    boxes = [box for box in frame.boxes if box.identity in movers and (box.size > 0).all()]
    if not boxes:
        return np.zeros((0, 4, 4))
    margins = np.array([MARGIN + LATE * box.speed for box in boxes])
    return grown(np.stack([box.to_vehicle() for box in boxes]), margins)


def _images(
    segment: TfrecordSegment | ParquetSegment,
    found: list[WaymoFrame],
    movers: set[str],
    notes: list[str],
) -> tuple[list[Frame], dict[str, list[int]]]:
    frames, train, test, unknown = [], [], [], set()
    order = sorted(
        ((image.camera, number, image) for number, frame in enumerate(found) for image in frame.images),
        key=lambda each: each[:2],
    )
    masked = 0
    for camera, number, image in order:
        frame = found[number]
        if camera not in frame.calibrations:
            unknown.add(camera)
            continue
        calibration = frame.calibrations[camera]
        name = f"{number:03d}_{CAMERAS.get(camera, camera)}.jpg"
        pose = image.pose_in_the_middle(frame.pose) @ calibration.to_vehicle @ AXES
        lens = _lens(calibration)
        boxes = frame.pose @ _moving_boxes(frame, movers)
        mask = None
        if len(boxes):
            mask = BoxMask(_camera(lens, pose), boxes, f"{segment.source}: {name}")
            masked += 1
        if number % 10 or not number:
            train.append(len(frames))
        elif camera == FRONT:
            test.append(len(frames))
        frames.append(Frame(name, segment.picture(image, name), lens, pose, mask=mask))
    if unknown:
        notes.append(f"images of cameras {sorted(unknown)} have no calibration and are left out")
    if movers:
        notes.append(f"{len(movers)} movers are masked in {masked} images by their labelled boxes")
    return frames, {"train": train, "test": test}


def _lens(calibration: CameraCalibration) -> Lens:
    focal_and_centre, (k1, k2, p1, p2, k3) = calibration.intrinsic[:4], calibration.intrinsic[4:]
    if k3 == 0:
        return Lens("OPENCV", (*focal_and_centre, k1, k2, p1, p2), calibration.width, calibration.height)
    params = (*focal_and_centre, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
    return Lens("FULL_OPENCV", params, calibration.width, calibration.height)


def _camera(lens: Lens, pose: np.ndarray) -> Cameras:
    return Cameras(
        (lens.model,),
        torch.tensor([lens.params], dtype=torch.float64),
        torch.tensor([[lens.width, lens.height]]),
        torch.from_numpy(pose[None]),
    )


def _gathered(
    segment: TfrecordSegment | ParquetSegment,
    found: list[WaymoFrame],
    movers: set[str],
    notes: list[str],
) -> Gathering:
    gathering, dropped, straight, compared, scanned = Gathering(), 0, 0, False, set()
    for number, laser in segment.lasers():
        frame = found[number]
        try:
            points = laser_points(laser, frame.pose)
        except WireError as error:
            raise UserError(
                f"{segment.where(number)}: {error}; the file is damaged, copy it again"
            ) from error
        scanned.add(number)
        straight += laser.name == TOP and not len(laser.pixel_poses)
        if points.projections is not None and not compared:
            compared = _compared(frame, points.world, points.projections, notes)
        kept = (points.distance > NEAREST) & (points.distance < FARTHEST)
        vehicle = (points.world - frame.pose[:3, 3]) @ frame.pose[:3, :3]
        moving = inside(vehicle, _moving_boxes(frame, movers)) & kept
        dropped += int(moving.sum())
        gathering.add_world(points.world[kept & ~moving])
    if dropped:
        notes.append(f"{dropped} laser returns of movers are left out")
    if straight:
        notes.append(
            f"{straight} scans of the top laser have no pixel poses and keep the smear of the car's motion"
        )
    if len(scanned) < len(found):
        notes.append(f"{len(found) - len(scanned)} of {len(found)} frames have no range image")
    return gathering


def _compared(frame: WaymoFrame, world: np.ndarray, projections: np.ndarray, notes: list[str]) -> bool:
    """Whether points of this laser could be compared with where the file says they appear; a note if they are far off."""
    off = []
    for image in frame.images:
        seen = projections[:, 0] == image.camera
        if seen.sum() < 20 or image.camera not in frame.calibrations:
            continue
        calibration = frame.calibrations[image.camera]
        pose = image.pose_in_the_middle(frame.pose) @ calibration.to_vehicle @ AXES
        pixels, _ = _camera(_lens(calibration), pose).project(
            torch.from_numpy(world[seen]), torch.tensor([0])
        )
        off.append(np.linalg.norm(pixels.numpy() - projections[seen, 1:3], axis=1))
    if not off:
        return False
    median = float(np.nanmedian(np.concatenate(off)))
    if not median < FAR_OFF:
        notes.append(
            f"points appear {median:.3g} pixels (median) from where the file says they do; "
            "its calibration or poses are not what this reader takes them for"
        )
    return True
