"""The pattern that a part offers for assembly: a face, and the round features standing in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fieldstone.core.errors import UserError

from .errors import NotMeasurable
from .frame import axes_from
from .result import Measurement
from .thread_axis import axis_frame
from .units import conversion

__all__ = ["Pattern", "pattern_of", "start_direction"]

_ROUND = ("hole", "boss")


@dataclass(frozen=True)
class Pattern:
    """Places in a plane, in the coordinates and unit of a measurement."""

    point: np.ndarray
    """(3,) of the face: the foot of the features' mean."""
    axes: np.ndarray
    """(3, 3): rows x, y in the face, and its normal."""
    plane_covariance: np.ndarray
    """(3, 3) of the face's height at `point`, and of its tilts: the normal's changes along x and y."""
    places: np.ndarray
    """(n, 2) of the features in the face."""
    radii: np.ndarray
    """(n,)"""
    covariance: np.ndarray
    """(3 n, 3 n) of x and y of all places, place by place, and then of the radii."""
    names: list[str]
    male: np.ndarray
    """(n,) bool: studs, not holes."""
    bore: np.ndarray | None
    """(2,) place of the bore."""
    bore_covariance: np.ndarray | None
    """(2, 2)"""
    start: np.ndarray | None
    """(2,) in the face: where the thread's ridge starts, a unit vector; for the thread given with it."""
    start_sd_deg: float
    start_turn_deg: float
    """The start repeats every so many degrees (360 / starts)."""
    left_out: int
    """Features that take no part: slots, notches, openings."""

    def __len__(self) -> int:
        return len(self.places)

    def place_covariance(self) -> np.ndarray:
        """(2 n, 2 n)."""
        n = len(self)
        return self.covariance[: 2 * n, : 2 * n]

    def place_variance(self) -> np.ndarray:
        """(n,) mean of a place's variances along x and y."""
        return np.diagonal(self.place_covariance()).reshape(-1, 2).mean(axis=1)


def pattern_of(
    measurements: Measurement | Sequence[Measurement],
    *,
    unit: str | None = None,  # to give it in; None: the measurement's
    thread: Measurement | None = None,  # whose start tells the roll
    what: str = "the part",  # for messages
) -> Pattern:
    """From one measurement of holes or a flange, or from a plane with circles, cylinders or threads measured one by one.

    A list must hold one plane; of each circle the centre, of each cylinder and thread the axis where it meets the plane, is a place.
    Threads are studs, others holes.
    """
    listed = [measurements] if isinstance(measurements, Measurement) else list(measurements)
    whole = [m for m in listed if m.kind in ("holes", "flange")]
    if len(whole) == 1:
        collected = _of_holes(whole[0])
        source = whole[0]
    elif whole:
        raise UserError(f"{what}: {len(whole)} sets of holes; give one")
    else:
        collected = _of_list(listed, what)
        source = listed[0]
    scale = 1.0
    if unit is not None and source.unit != unit:
        if source.unit is None:
            raise UserError(f"{what} has no unit; measure it again with --unit")
        scale = conversion(source.unit, unit)
    if thread is None:
        thread = next((m for m in listed if m.kind == "thread"), None) if len(listed) > 1 else None
    return _pattern(*collected, scale, thread, what)


def start_direction(thread: Measurement) -> np.ndarray:
    """(3,) from a thread's axis to the middle of its ridge in the plane through `axis_point`."""
    u, v, _ = axis_frame(thread["axis_direction"])
    angle = np.deg2rad(thread["start_angle_deg"])
    return np.cos(angle) * u + np.sin(angle) * v


def _of_holes(m: Measurement):
    holes = m.parameters["holes"]
    names, rows, radii, male, skipped = [], [], [], [], 0
    for i, hole in enumerate(holes):
        label = f"holes[{i}]"
        if hole["type"] not in _ROUND or (m.covariance_names and not m.indices(f"{label}.centre")):
            skipped += 1
            continue
        names.append(label)
        rows.append(hole["centre"])
        radii.append(hole["radius"])
        male.append(hole["type"] == "boss")
    labels = [(f"{name}.centre", f"{name}.radius") for name in names]
    size = 4 * len(names)
    covariance = np.zeros((6 + size, 6 + size))
    indices = (
        m.indices("point")
        + m.indices("normal")
        + [i for pair in labels for one in pair for i in m.indices(one)]
    )
    if len(indices) == len(covariance):
        covariance = m.covariance[np.ix_(indices, indices)]
    bore = m.parameters.get("bore")
    bore_at = None if not bore else np.array(bore["centre"], float)
    bore_spread = m.covariance_of("bore.centre") if bore and m.indices("bore.centre") else np.zeros((3, 3))
    return m["point"], m["normal"], np.array(rows, float).reshape(-1, 3), np.array(radii, float), covariance, names, np.array(male, bool), bore_at, bore_spread, skipped  # fmt: skip


def _of_list(listed: list[Measurement], what: str):
    planes = [m for m in listed if m.kind == "plane"]
    if len(planes) != 1:
        kinds = ", ".join(m.kind for m in listed) or "nothing"
        raise UserError(
            f"{what}: found {kinds}; give one result of measure holes or flange, or one plane with circles, cylinders or threads"
        )
    plane = planes[0]
    normal, point = plane["normal"], plane["point"]
    rows, radii, male, names, blocks = [], [], [], [], [plane.covariance_of("point", "normal")]
    skipped = 0
    for i, m in enumerate(listed):
        if m is plane:
            continue
        if m.kind == "circle":
            rows.append(m["centre"])
            blocks.append(m.covariance_of("centre", "radius"))
            radii.append(m["radius"])
        elif m.kind in ("cylinder", "thread"):
            axis, at = m["axis_direction"], m["axis_point"]
            along = float((point - at) @ normal) / float(axis @ normal)
            rows.append(at + along * axis)
            size = "radius" if m.kind == "cylinder" else "major_diameter"
            factor = 1.0 if m.kind == "cylinder" else 0.5
            radii.append(factor * m[size])
            jacobian = np.zeros((4, 7))
            jacobian[:3, :3], jacobian[:3, 3:6], jacobian[3, 6] = np.eye(3), along * np.eye(3), factor
            spread = m.covariance_of("axis_point", "axis_direction", size)
            blocks.append(jacobian @ spread @ jacobian.T if spread.shape == (7, 7) else np.zeros((4, 4)))
        else:
            skipped += 1
            continue
        male.append(m.kind == "thread")
        names.append(f"{m.kind} {i}")
    blocks = [b if b.size else np.zeros((6, 6) if k == 0 else (4, 4)) for k, b in enumerate(blocks)]
    covariance = np.zeros((6 + 4 * len(names),) * 2)
    at = 0
    for block in blocks:
        covariance[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return point, normal, np.array(rows, float).reshape(-1, 3), np.array(radii, float), covariance, names, np.array(male, bool), None, np.zeros((3, 3)), skipped  # fmt: skip


def _pattern(
    point, normal, rows, radii, covariance, names, male, bore, bore_spread, skipped, scale, thread, what
) -> Pattern:
    if len(rows) < 2:
        raise NotMeasurable(
            f"{what}: {len(rows)} round holes or studs to match, a roll needs 2; {skipped} slots, notches or openings take no part"
        )
    axes = axes_from(normal)
    flat = rows - np.outer((rows - point) @ axes[2], axes[2])
    middle = flat.mean(axis=0)
    lever = axes[:2] @ (middle - point)
    plane = np.zeros((3, 6))
    plane[0, :3], plane[0, 3:] = axes[2], -(lever @ axes[:2])
    plane[1, 3:], plane[2, 3:] = axes[0], axes[1]
    n = len(rows)
    to_places = np.zeros((3 * n, len(covariance)))
    for i in range(n):
        to_places[2 * i : 2 * i + 2, 6 + 4 * i : 9 + 4 * i] = axes[:2]
        to_places[2 * n + i, 9 + 4 * i] = 1.0
    start, start_sd, turn = None, float("nan"), float("nan")
    if thread is not None:
        direction = axes[:2] @ start_direction(thread)
        if np.linalg.norm(direction) < 0.5:
            raise UserError(f"{what}: the thread's axis does not stand on the face; its start tells no roll")
        start = direction / np.linalg.norm(direction)
        start_sd = thread.standard_uncertainty().get("start_angle_deg", 0.0)
        turn = 360.0 / int(thread["starts"])
    square = scale**2
    plane_covariance = plane @ covariance[:6, :6] @ plane.T
    unit = np.diag([scale, 1.0, 1.0])
    return Pattern(
        point=middle * scale,
        axes=axes,
        plane_covariance=unit @ plane_covariance @ unit,
        places=(flat - middle) @ axes[:2].T * scale,
        radii=radii * scale,
        covariance=to_places @ covariance @ to_places.T * square,
        names=names,
        male=male,
        bore=None if bore is None else axes[:2] @ (bore - middle) * scale,
        bore_covariance=None if bore is None else axes[:2] @ bore_spread @ axes[:2].T * square,
        start=start,
        start_sd_deg=float(start_sd),
        start_turn_deg=float(turn),
        left_out=skipped,
    )
