"""Waymo Open Dataset, perception, version 1: a TFRecord of one segment, five cameras and five lasers.

Field numbers and geometry as in waymo_open_dataset's dataset.proto, label.proto and utils. Images are read where they lie in the file. Waymo's cameras look
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
from ..image_file import EmbeddedImage
from ..lidar import FARTHEST, NEAREST, Gathering
from ..movers import BoxMask, grown, inside
from ..reading import Frame, Lens, Reading, listed
from ..waymo.frame import CAMERAS, CameraCalibration, parse_frame
from ..waymo.frame import Frame as WaymoFrame
from ..waymo.protobuf_wire import WireError
from ..waymo.range_image import laser_points
from ..waymo.tfrecord import is_tfrecord, records

__all__ = ["FORMAT", "LOOKED_FOR", "read", "recognise"]

FORMAT = "waymo"
LOOKED_FOR = "a .tfrecord of the Waymo Open Dataset, perception v1"
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


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if is_tfrecord(path) else []
    return sorted(entry for entry in path.glob("*tfrecord*") if entry.is_file() and entry.suffix != ".gz")


def recognise(path: Path) -> str | None:
    """Why `path` (a TFRecord, or a folder with one) looks like this format, or None."""
    files = _files(path)
    return f"TFRecord {files[0].name}" if files else None


def read(path: Path, downscale: float = 1) -> Reading:
    """All five cameras of every frame, movers masked, and the cloud of all lasers without movers, thinned to 6 cm."""
    files = _files(path)
    if len(files) > 1:
        raise UserError(
            f"{path}: {len(files)} segments ({listed([file.name for file in files])}); give one of them, as in {files[0]}"
        )
    file = files[0]
    found = [_without_lasers(frame) for _, frame in _frames(file, verify=True)]
    if len({frame.segment for frame in found}) > 1:
        other = next(i for i, frame in enumerate(found) if frame.segment != found[0].segment)
        raise UserError(
            f"{file}: record {other} is of segment {found[other].segment}, the first of {found[0].segment}; "
            "one segment a file is read, as their frames are not of one place"
        )
    movers = _movers(found)
    notes: list[str] = []
    frames, splits = _images(file, found, movers, notes)
    gathering = _gathered(file, found, movers, notes)
    return Reading(
        name=found[0].segment or file.stem,
        folder=file,
        format=FORMAT,
        frames=frames,
        splits=splits if splits["test"] else None,
        points=gathering.checked_cloud(file, notes),
        points_of=str(file),
        mask_marks_used=False,
        notes=notes,
    )


def _frames(file: Path, *, verify: bool):
    for record in records(file, verify=verify):
        try:
            yield record.number, parse_frame(record.data, record.offset)
        except WireError as error:
            raise UserError(
                f"{file}: record {record.number}: {error}; Waymo's perception data set, version 1, is read"
            ) from error


def _without_lasers(frame: WaymoFrame) -> WaymoFrame:
    return WaymoFrame(frame.segment, frame.pose, frame.calibrations, frame.images, (), frame.boxes)


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
    file: Path, found: list[WaymoFrame], movers: set[str], notes: list[str]
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
            mask = BoxMask(_camera(lens, pose), boxes, f"{file}: {name}")
            masked += 1
        if number % 10 or not number:
            train.append(len(frames))
        elif camera == FRONT:
            test.append(len(frames))
        frames.append(
            Frame(name, EmbeddedImage(file, image.offset, image.length, name), lens, pose, mask=mask)
        )
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


def _gathered(file: Path, found: list[WaymoFrame], movers: set[str], notes: list[str]) -> Gathering:
    gathering, dropped, without, straight, compared = Gathering(), 0, 0, 0, False
    for number, frame in _frames(file, verify=False):
        boxes = _moving_boxes(found[number], movers)
        if not frame.lasers:
            without += 1
        for laser in frame.lasers:
            try:
                points = laser_points(laser, frame.pose)
            except WireError as error:
                raise UserError(
                    f"{file}: record {number}: {error}; the file is damaged, copy it again"
                ) from error
            straight += laser.name == TOP and not len(laser.pixel_poses)
            if points.projections is not None and not compared:
                compared = _compared(frame, points.world, points.projections, notes)
            kept = (points.distance > NEAREST) & (points.distance < FARTHEST)
            vehicle = (points.world - frame.pose[:3, 3]) @ frame.pose[:3, :3]
            moving = inside(vehicle, boxes) & kept
            dropped += int(moving.sum())
            gathering.add_world(points.world[kept & ~moving])
    if dropped:
        notes.append(f"{dropped} laser returns of movers are left out")
    if straight:
        notes.append(
            f"{straight} scans of the top laser have no pixel poses and keep the smear of the car's motion"
        )
    if without:
        notes.append(f"{without} of {len(found)} frames have no range image")
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
