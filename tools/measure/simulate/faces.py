"""The surfaces that simulated parts are made of, exact, as rows of numbers that the ray caster reads.

A face lies in its own frame: x_part = rotation x_local + origin. Kinds and their parameters:

    DISC      z = 0, inner <= hypot(x, y) <= outer, less its cut-outs; normal +z times `sign`
    RECTANGLE z = 0, |x| <= half_x, |y| <= half_y; normal +z times `sign`
    FRUSTUM   hypot(x, y) = radius + slope z for low <= z <= high and |angle - middle| <= half_angle; a cylinder where slope is 0;
              normal outwards (sign +1) or towards the axis (-1)
    THREAD    a solid threaded rod: hypot(x, y) <= profile for low <= z <= high, flat at both ends

Form errors are heights along the normal, small against everything else: on discs low Zernike terms, on frustums lobes of 2 to 5
undulations, on threads a wave of the lead. A cut-out is a capsule (x0, y0, x1, y1, radius); a circle where both ends are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fieldstone.core.errors import UserError

__all__ = [
    "DISC",
    "FRUSTUM",
    "RECTANGLE",
    "ROW",
    "THREAD",
    "Face",
    "FaceTable",
    "face_table",
    "thread_radius",
]

DISC, RECTANGLE, FRUSTUM, THREAD = 0, 1, 2, 3
ROW = 40
"""Numbers in a row: kind, sign, rotation (9), origin (3), parameters (8, from 14), form (10, from 22), first cut, cuts, bounding
sphere (4, from 34), label, reflectance."""


@dataclass(frozen=True)
class Face:
    """One surface of a part."""

    kind: int
    parameters: tuple[float, ...]
    """DISC: inner, outer. RECTANGLE: half_x, half_y. FRUSTUM: radius, slope, low, high, middle, half_angle (pi: all around).
    THREAD: major radius, pitch, signed starts, start angle (radians), low, high, depth."""
    sign: float = 1.0
    rotation: np.ndarray | None = None
    """(3, 3); None: identity."""
    origin: tuple[float, float, float] | np.ndarray = (0.0, 0.0, 0.0)
    cuts: tuple[tuple[float, float, float, float, float], ...] = ()
    form: tuple[float, ...] = ()
    """DISC: scale radius, then heights of rho^2 cos 2a, rho^2 sin 2a, 2 rho^2 - 1, rho^3 cos 3a, rho^3 sin 3a.
    FRUSTUM: cosine and sine heights of 2, 3, 4, 5 undulations. THREAD: amplitude and wavelength of a wave along z."""
    label: str = ""
    """Which feature it belongs to."""
    reflectance: float = 1.0

    def placed(self, pose: np.ndarray) -> Face:  # (4, 4)
        """The face after a rigid motion."""
        turn = np.eye(3) if self.rotation is None else self.rotation
        return replace(
            self,
            rotation=pose[:3, :3] @ turn,
            origin=pose[:3, :3] @ np.asarray(self.origin, float) + pose[:3, 3],
        )

    def bounds(self) -> tuple[np.ndarray, float]:
        """Centre (3,) and radius of a sphere around it."""
        p = self.parameters
        if self.kind == DISC:
            low, high, radius = 0.0, 0.0, p[1]
        elif self.kind == RECTANGLE:
            low, high, radius = 0.0, 0.0, math.hypot(p[0], p[1])
        elif self.kind == FRUSTUM:
            low, high = p[2], p[3]
            radius = max(p[0] + p[1] * low, p[0] + p[1] * high)
        else:
            low, high, radius = p[4], p[5], p[0]
        turn = np.eye(3) if self.rotation is None else self.rotation
        centre = np.asarray(self.origin, float) + turn[:, 2] * (low + high) / 2
        return centre, math.hypot(radius, (high - low) / 2) * 1.001 + 2 * sum(map(abs, self.form[1:])) + 1e-6


@dataclass(frozen=True)
class FaceTable:
    """Faces as the ray caster takes them."""

    rows: np.ndarray
    """(n, ROW) float64."""
    cuts: np.ndarray
    """(m, 5) float64."""
    labels: tuple[str, ...]
    """Names by label number."""

    def label_of(self, faces: np.ndarray) -> np.ndarray:  # indices, -1: none
        """The label number of each face index; -1 stays."""
        numbers = np.append(self.rows[:, 38], -1).astype(np.int64)
        return numbers[faces]


def face_table(faces: list[Face]) -> FaceTable:
    """Packs faces. Raises `UserError` for faces that cannot be: a radius or range that is empty."""
    labels = tuple(dict.fromkeys(face.label for face in faces))
    rows = np.zeros((len(faces), ROW))
    cuts: list[tuple[float, ...]] = []
    for row, face in zip(rows, faces):
        _check(face)
        row[0], row[1] = face.kind, face.sign
        row[2:11] = (np.eye(3) if face.rotation is None else face.rotation).ravel()
        row[11:14] = face.origin
        row[14 : 14 + len(face.parameters)] = face.parameters
        row[22 : 22 + len(face.form)] = face.form
        row[32], row[33] = len(cuts), len(face.cuts)
        cuts += face.cuts
        row[34:37], row[37] = face.bounds()
        row[38] = labels.index(face.label)
        row[39] = face.reflectance
    return FaceTable(rows, np.array(cuts, float).reshape(-1, 5), labels)


def thread_radius(
    along: np.ndarray,  # axial distance from the middle of a ridge
    major_radius: float,
    pitch: float,
    depth: float,
) -> np.ndarray:
    """Radius of the ISO 68-1 basic profile: a ridge P/8 wide, flanks of 60 degrees, down to `depth` (5/8 H = 0.5413 P for the basic profile)."""
    along = np.abs((np.asarray(along) + pitch / 2) % pitch - pitch / 2)
    return major_radius - np.clip((along - pitch / 16) * math.sqrt(3), 0, depth)


def _check(face: Face) -> None:
    p = face.parameters
    low, high = {
        DISC: (p[0], p[1]),
        RECTANGLE: (0, min(p[:2])),
        FRUSTUM: p[2:4],
        THREAD: p[4:6],
    }[face.kind]
    if not low < high or (face.kind in (FRUSTUM, THREAD) and not p[0] > 0):
        raise UserError(
            f"{face.label or 'face'}: from {low:g} to {high:g} there is nothing; check the part's dimensions"
        )
