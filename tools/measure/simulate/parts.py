"""Parts to measure: flanges with holes of every kind, studs with ISO threads, stepped shafts. Millimetres; z is a part's axis.

The mounting face of a flange lies at z = 0 and looks towards +z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fieldstone.core.errors import UserError

from .faces import DISC, FRUSTUM, RECTANGLE, THREAD, Face
from .part import Feature, Part

__all__ = ["FlangeShape", "Hole", "ShaftShape", "Stud", "bolt_circle", "flange", "shaft", "stud"]

_AROUND = (0.0, math.pi)


@dataclass(frozen=True)
class Hole:
    """A hole through a flange."""

    x: float
    y: float
    radius: float
    countersink_radius: float = 0.0
    """At the face; 0: none. Its cone has a full angle of 90 degrees."""
    slot_length: float = 0.0
    """Between the centres of the round ends; 0: round."""
    slot_angle_deg: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class Stud:
    """A threaded bolt standing on a face at (x, y), pointing to +z."""

    x: float = 0.0
    y: float = 0.0
    major_diameter: float = 10.0
    pitch: float = 1.5
    starts: int = 1
    hand: str = "right"
    start_angle_deg: float = 0.0
    """Direction, from x towards y, in which the middle of a ridge lies at the foot of the thread."""
    shank: float = 4.0
    """Length of plain shank, of the thread's pitch diameter, below the thread."""
    length: float = 25.0
    """Of the thread."""
    lead_wave: float = 0.0
    """Amplitude of a periodic error of the lead, five pitches long."""
    name: str = "stud"


@dataclass(frozen=True)
class FlangeShape:
    """A round flange. Dimensions in mm."""

    outer_radius: float = 120.0
    bore_radius: float = 40.0
    thickness: float = 15.0
    holes: tuple[Hole, ...] = ()
    studs: tuple[Stud, ...] = ()
    step_radius: float = 0.0
    """0: none. Beyond it the face lies lower by `step`."""
    step: float = 1.0
    warp: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """Flatness error of the face: heights of the Zernike terms of `faces`."""
    bore_lobes: tuple[float, ...] = field(default=(0.0,) * 8)
    """Roundness error of the bore: cosine and sine heights of 2, 3, 4, 5 undulations."""


@dataclass(frozen=True)
class ShaftShape:
    """A hollow shaft of cylindrical sections, from z = 0 upwards."""

    sections: tuple[tuple[float, float], ...] = ((40.0, 40.0), (30.0, 60.0), (22.0, 40.0))
    """(radius, length) of each."""
    bore_radius: float = 12.0
    """0: solid."""
    chamfer: float = 1.0
    """Of the upper edge of each section, 45 degrees."""
    lobes: tuple[float, ...] = field(default=(0.0,) * 8)
    """Roundness error of every section."""
    taper: float = 0.0
    """Radius per length by which every section narrows upwards, about its middle."""


def bolt_circle(
    count: int,
    radius: float,
    hole_radius: float,
    *,
    first_deg: float = 0.0,
    angles_deg: tuple[float, ...] | None = None,  # in place of equal spacing
    key: int | None = None,  # this hole is moved ...
    key_shift_deg: float = 0.0,  # ... by this much around the circle
    position_sigma: float = 0.0,  # mm, of each coordinate of each centre
    rng: np.random.Generator | None = None,
    **hole,
) -> tuple[Hole, ...]:
    """Holes on a circle: equal, at given angles, with one moved as a key, with position errors."""
    angles = np.array(angles_deg) if angles_deg is not None else first_deg + 360.0 / count * np.arange(count)
    if len(angles) != count:
        raise UserError(f"{count} holes but {len(angles)} angles")
    if key is not None:
        angles = angles.copy()
        angles[key] += key_shift_deg
    if position_sigma > 0 and rng is None:
        raise ValueError("position errors are random: pass a generator")
    shift = rng.normal(0, position_sigma, (count, 2)) if position_sigma > 0 else np.zeros((count, 2))
    at = radius * np.stack([np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))], 1) + shift
    return tuple(
        Hole(float(x), float(y), hole_radius, name=f"hole{i}", **hole) for i, (x, y) in enumerate(at)
    )


def flange(shape: FlangeShape) -> Part:
    """Face, bore, rim, back and holes of a flange; studs, if any, stand on the face.

    Raises `UserError` where holes reach over the edge of the face or into each other.
    """
    s = shape
    edge = s.step_radius or s.outer_radius
    _check_holes(s.holes, s.bore_radius, edge)
    cuts = tuple(_capsule(hole, hole.countersink_radius or hole.radius) for hole in s.holes)
    back_cuts = tuple(_capsule(hole, hole.radius) for hole in s.holes)
    z = -s.thickness
    faces = [
        Face(DISC, (s.bore_radius, edge), cuts=cuts, form=(s.outer_radius, *s.warp), label="face"),
        Face(DISC, (s.bore_radius, s.outer_radius), -1.0, origin=(0, 0, z), cuts=back_cuts, label="back"),
        Face(FRUSTUM, (s.bore_radius, 0.0, z, 0.0, *_AROUND), -1.0, form=s.bore_lobes, label="bore"),
        Face(
            FRUSTUM, (s.outer_radius, 0.0, z, -s.step if s.step_radius else 0.0, *_AROUND), 1.0, label="rim"
        ),
    ]
    features = [
        Feature("face", "plane", {"point": np.zeros(3), "normal": np.array([0, 0, 1.0])}),
        Feature("bore", "cylinder", _cylinder(0, 0, z / 2, s.bore_radius)),
        Feature(
            "bore edge",
            "circle",
            {"centre": np.zeros(3), "normal": np.array([0, 0, 1.0]), "radius": s.bore_radius},
        ),
        Feature("rim", "cylinder", _cylinder(0, 0, z / 2, s.outer_radius)),
    ]
    if s.step_radius:
        faces += [
            Face(DISC, (s.step_radius, s.outer_radius), origin=(0, 0, -s.step), label="step"),
            Face(FRUSTUM, (s.step_radius, 0.0, -s.step, 0.0, *_AROUND), 1.0, label="step wall"),
        ]
        features.append(
            Feature("step", "plane", {"point": np.array([0, 0, -s.step]), "normal": np.array([0, 0, 1.0])})
        )
    for hole in s.holes:
        more, found = _hole(hole, z)
        faces += more
        features += found
    part = Part("flange", faces, features, extras={"studs": len(s.studs), "holes": len(s.holes)})
    for one in s.studs:
        part = part.with_part(stud(one), f"{one.name} ")
    return part


def stud(shape: Stud) -> Part:
    """A shank and a thread with flat ends; the ISO 68-1 basic profile."""
    s = shape
    if s.hand not in ("right", "left") or s.starts < 1:
        raise UserError(
            f"stud: hand {s.hand!r}, {s.starts} starts: give right or left, and at least one start"
        )
    signed = s.starts if s.hand == "right" else -s.starts
    depth = 5 / 8 * math.sqrt(3) / 2 * s.pitch
    minor = s.major_diameter - 2 * depth
    pitch_diameter = s.major_diameter - 3 / 4 * math.sqrt(3) / 2 * s.pitch
    if not minor > 0:
        raise UserError(f"stud: pitch {s.pitch:g} is too coarse for a diameter of {s.major_diameter:g}")
    start = math.radians(s.start_angle_deg)
    at = (s.x, s.y, s.shank)
    faces = [
        Face(
            THREAD,
            (s.major_diameter / 2, s.pitch, float(signed), start, 0.0, s.length, depth),
            origin=at,
            form=(s.lead_wave, 5 * s.pitch if s.lead_wave else 0.0),
            label="thread",
        ),
    ]
    if s.shank > 0:
        faces.append(
            Face(
                FRUSTUM,
                (pitch_diameter / 2, 0.0, 0.0, s.shank, *_AROUND),
                origin=(s.x, s.y, 0),
                label="shank",
            )
        )
    thread = {
        "pitch": s.pitch,
        "lead": s.pitch * s.starts,
        "starts": s.starts,
        "hand": s.hand,
        "start_direction": np.array([math.cos(start), math.sin(start), 0.0]),
        "axis_point": np.array(at, float),
        "axis_direction": np.array([0, 0, 1.0]),
        "major_diameter": s.major_diameter,
        "minor_diameter": minor,
        "pitch_diameter": pitch_diameter,
    }
    return Part("stud", faces, [Feature("thread", "thread", thread)])


def shaft(shape: ShaftShape) -> Part:
    """Sections, shoulders, chamfers, ends and bore of a stepped shaft."""
    s = shape
    faces: list[Face] = []
    features: list[Feature] = []
    z = 0.0
    last = len(s.sections) - 1
    for i, (radius, length) in enumerate(s.sections):
        after = s.sections[i + 1][0] if i < last else s.bore_radius
        chamfer = s.chamfer if radius - s.chamfer > after else 0.0
        top = z + length
        name = f"section{i}"
        middle = (z + top - chamfer) / 2
        slope = -s.taper
        faces.append(
            Face(
                FRUSTUM,
                (radius - slope * middle, slope, z, top - chamfer, *_AROUND),
                form=s.lobes,
                label=name,
            )
        )
        features.append(Feature(name, "cylinder", _cylinder(0, 0, middle, radius)))
        at_edge = radius + slope * (top - chamfer - middle)
        if chamfer:
            faces.append(
                Face(
                    FRUSTUM,
                    (at_edge + top - chamfer, -1.0, top - chamfer, top, *_AROUND),
                    label=f"chamfer{i}",
                )
            )
        inner, outer = sorted((at_edge - chamfer, after))
        if outer > inner:
            label = f"shoulder{i}" if i < last else "end"
            faces.append(
                Face(DISC, (inner, outer), 1.0 if after < at_edge else -1.0, origin=(0, 0, top), label=label)
            )
            features.append(
                Feature(
                    label,
                    "plane",
                    {
                        "point": np.array([0, 0, top]),
                        "normal": np.array([0, 0, 1.0 if after < at_edge else -1.0]),
                    },
                )
            )
        z = top
    faces.append(Face(DISC, (s.bore_radius, s.sections[0][0]), -1.0, label="foot"))
    features.append(Feature("foot", "plane", {"point": np.zeros(3), "normal": np.array([0, 0, -1.0])}))
    if s.bore_radius > 0:
        faces.append(Face(FRUSTUM, (s.bore_radius, 0.0, 0.0, z, *_AROUND), -1.0, label="bore"))
        features.append(Feature("bore", "cylinder", _cylinder(0, 0, z / 2, s.bore_radius)))
    return Part("shaft", faces, features)


def _hole(hole: Hole, back: float) -> tuple[list[Face], list[Feature]]:
    """Walls and features of a hole from the face at 0 to `back`."""
    if hole.slot_length > 0:
        return _slot(hole, back)
    top = -(hole.countersink_radius - hole.radius) if hole.countersink_radius else 0.0
    at = (hole.x, hole.y, 0.0)
    up = np.array([0, 0, 1.0])
    faces = [Face(FRUSTUM, (hole.radius, 0.0, back, top, *_AROUND), -1.0, origin=at, label=hole.name)]
    features = [
        Feature(hole.name, "cylinder", _cylinder(hole.x, hole.y, (back + top) / 2, hole.radius)),
    ]
    rim = hole.radius
    if hole.countersink_radius:
        rim = hole.countersink_radius
        label = f"{hole.name} countersink"
        faces.append(Face(FRUSTUM, (rim, 1.0, top, 0.0, *_AROUND), -1.0, origin=at, label=label))
        features.append(
            Feature(
                label,
                "cone",
                {"apex": np.array([hole.x, hole.y, -rim]), "axis_direction": up, "half_angle_deg": 45.0},
            )
        )
    edge = {"centre": np.array([hole.x, hole.y, 0.0]), "normal": up, "radius": rim}
    return faces, [*features, Feature(f"{hole.name} edge", "circle", edge)]


def _slot(hole: Hole, back: float) -> tuple[list[Face], list[Feature]]:
    angle = math.radians(hole.slot_angle_deg)
    along, across = (
        np.array([math.cos(angle), math.sin(angle), 0]),
        np.array([-math.sin(angle), math.cos(angle), 0]),
    )
    centre = np.array([hole.x, hole.y, 0.0])
    faces = []
    for side in (1, -1):
        end = centre + side * along * hole.slot_length / 2
        middle = angle if side > 0 else angle + math.pi
        parameters = (hole.radius, 0.0, back, 0.0, middle, math.pi / 2)
        faces.append(Face(FRUSTUM, parameters, -1.0, origin=end, label=hole.name))
        normal = -side * across  # of the flat wall, towards the inside of the slot
        turn = np.stack([along, np.cross(normal, along), normal], 1)
        at = centre + side * across * hole.radius + np.array([0, 0, back / 2])
        faces.append(
            Face(RECTANGLE, (hole.slot_length / 2, -back / 2), rotation=turn, origin=at, label=hole.name)
        )
    parameters = {
        "centre": centre,
        "normal": np.array([0, 0, 1.0]),
        "axis_direction": along,
        "length": hole.slot_length + 2 * hole.radius,
        "width": 2 * hole.radius,
    }
    return faces, [Feature(hole.name, "slot", parameters)]


def _cylinder(x: float, y: float, z: float, radius: float) -> dict:
    return {
        "axis_point": np.array([x, y, z], float),
        "axis_direction": np.array([0, 0, 1.0]),
        "radius": radius,
    }


def _capsule(hole: Hole, radius: float) -> tuple[float, float, float, float, float]:
    angle = math.radians(hole.slot_angle_deg)
    dx, dy = math.cos(angle) * hole.slot_length / 2, math.sin(angle) * hole.slot_length / 2
    return (hole.x - dx, hole.y - dy, hole.x + dx, hole.y + dy, radius)


def _check_holes(holes: tuple[Hole, ...], inner: float, outer: float) -> None:
    for i, hole in enumerate(holes):
        reach = (hole.countersink_radius or hole.radius) + hole.slot_length / 2
        away = math.hypot(hole.x, hole.y)
        if away - reach <= inner or away + reach >= outer:
            raise UserError(
                f"{hole.name or i}: reaches from {away - reach:.3g} to {away + reach:.3g} mm, beyond the face ({inner:g} to {outer:g})"
            )
        for other in holes[:i]:
            gap = math.hypot(hole.x - other.x, hole.y - other.y) - reach
            if gap <= (other.countersink_radius or other.radius) + other.slot_length / 2:
                raise UserError(f"{hole.name} and {other.name} run into each other")
