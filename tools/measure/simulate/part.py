"""A simulated part: its faces, and what a perfect measurement of it would say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..result import Measurement
from ..units import conversion, parse_unit
from .faces import Face, FaceTable, face_table

__all__ = ["Feature", "Part", "pose_from", "rotation_about"]

_POINTS = ("point", "centre", "axis_point", "apex")
_LENGTHS = (
    "radius",
    "pitch",
    "lead",
    "major_diameter",
    "minor_diameter",
    "pitch_diameter",
    "length",
    "width",
)
_DIRECTIONS = ("normal", "axis_direction", "start_direction")


@dataclass(frozen=True)
class Feature:
    """A feature as made: nominal parameters, without the form errors of its faces."""

    name: str
    """Also the label of its faces."""
    kind: str
    """"plane", "circle", "cylinder", "cone", "slot" or "thread"."""
    parameters: dict
    """As in results. A thread has `start_direction`, from the axis to the middle of a ridge, in place of the start angle."""

    def placed(self, pose: np.ndarray) -> Feature:
        moved = {}
        for key, value in self.parameters.items():
            if key in _POINTS:
                value = pose[:3, :3] @ np.asarray(value, float) + pose[:3, 3]
            elif key in _DIRECTIONS:
                value = pose[:3, :3] @ np.asarray(value, float)
            moved[key] = value
        return replace(self, parameters=moved)

    def measurement(self, unit: str, scale: float = 1.0) -> Measurement:
        """The truth in the form of a result, with no uncertainty; lengths times `scale`, to be in `unit`."""
        parameters = {
            key: np.asarray(value) * scale if key in _POINTS else value * scale if key in _LENGTHS else value
            for key, value in self.parameters.items()
        }
        if "start_direction" in parameters:
            parameters = _with_start_angle(parameters)
        return Measurement(
            kind=self.kind,
            unit=unit,
            parameters={k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in parameters.items()},
            covariance=np.zeros((0, 0)),
            covariance_names=[],
            rms=0.0,
            n_used=0,
            n_total=0,
            extras={"name": self.name, "truth": True},
        )


@dataclass(frozen=True)
class Part:
    """Faces and features in one frame and unit."""

    name: str
    faces: list[Face]
    features: list[Feature]
    unit: str = "mm"
    extras: dict = field(default_factory=dict)

    def placed(self, pose: np.ndarray) -> Part:  # (4, 4) rigid
        """The part after a rigid motion."""
        return replace(
            self,
            faces=[face.placed(pose) for face in self.faces],
            features=[feature.placed(pose) for feature in self.features],
        )

    def with_part(self, other: Part, prefix: str = "") -> Part:
        """Both as one; the other's labels and names get the prefix."""
        faces = [replace(face, label=prefix + face.label) for face in other.faces]
        features = [replace(feature, name=prefix + feature.name) for feature in other.features]
        return replace(self, faces=self.faces + faces, features=self.features + features)

    def table(self) -> FaceTable:
        return face_table(self.faces)

    def feature(self, name: str) -> Feature:
        """The feature of that name; KeyError if there is none."""
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(name)

    def truth(self, unit: str | None = None) -> list[Measurement]:
        """What a perfect measurement would say of each feature, in `unit` (None: the part's own)."""
        unit = parse_unit(unit) or self.unit
        return [feature.measurement(unit, conversion(self.unit, unit)) for feature in self.features]


def rotation_about(axis: np.ndarray, degrees: float) -> np.ndarray:
    """(3, 3) rotation about an axis of any length (Rodrigues)."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    angle = np.deg2rad(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def pose_from(rotation: np.ndarray | None = None, translation=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(4, 4) rigid motion."""
    pose = np.eye(4)
    if rotation is not None:
        pose[:3, :3] = rotation
    pose[:3, 3] = translation
    return pose


def _with_start_angle(parameters: dict) -> dict:
    """Axis as results state it (largest component positive), and the start angle about it."""
    from ..thread_axis import axis_frame

    direction = np.asarray(parameters["axis_direction"], float)
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    start = parameters.pop("start_direction")
    u, v, _ = axis_frame(direction)
    parameters["axis_direction"] = direction
    parameters["start_angle_deg"] = float(
        np.degrees(np.arctan2(start @ v, start @ u)) % (360 / parameters["starts"])
    )
    return parameters
