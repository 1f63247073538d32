"""Ready-made parts by name, for the command line, the tests and the benchmarks."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

from .part import Part, pose_from
from .parts import FlangeShape, Hole, ShaftShape, Stud, bolt_circle, flange, shaft, stud

__all__ = ["PRESETS", "build", "studs_on_circle"]

PRESETS = {
    "flange": "12 equal holes on a circle of 200 mm, bore of 80 mm",
    "keyed-flange": "the same with one hole moved by 3 degrees",
    "turbine-flange": "unequal and countersunk holes, a slot, a step, form and position errors",
    "studs": "a flange with 12 M10 studs that fit the holes of `flange`",
    "keyed-studs": "the same for `keyed-flange`",
    "shaft": "a hollow shaft of three sections",
    "turbine-shaft": "a shaft with lobes and taper that ends in a flange with a bolt circle",
    "stud": "one M16 x 2 stud",
}
"""Names and what they are."""

_CIRCLE, _HOLE = 100.0, 5.5


def build(name: str, rng: np.random.Generator) -> Part:
    """The part of that name in its own frame, mm. Random form and position errors come from `rng`. `UserError` for other names."""
    if name == "flange":
        return flange(FlangeShape(holes=bolt_circle(12, _CIRCLE, _HOLE)))
    if name == "keyed-flange":
        return flange(FlangeShape(holes=bolt_circle(12, _CIRCLE, _HOLE, key=0, key_shift_deg=3.0)))
    if name == "studs":
        return flange(FlangeShape(bore_radius=40.0, studs=studs_on_circle(12, _CIRCLE)))
    if name == "keyed-studs":
        return flange(
            FlangeShape(bore_radius=40.0, studs=studs_on_circle(12, _CIRCLE, key=0, key_shift_deg=3.0))
        )
    if name == "turbine-flange":
        return _turbine_flange(rng)
    if name == "shaft":
        return shaft(ShaftShape())
    if name == "turbine-shaft":
        return _turbine_shaft(rng)
    if name == "stud":
        return stud(Stud(major_diameter=16.0, pitch=2.0, start_angle_deg=40.0, shank=8.0, length=40.0))
    raise UserError(f"no simulated part {name!r}: {', '.join(PRESETS)}")


def studs_on_circle(
    count: int, radius: float, *, key: int | None = None, key_shift_deg: float = 0.0, **kind
) -> tuple[Stud, ...]:
    """Studs on a circle, one of them moved as a key; their threads start in different directions."""
    angles = 360.0 / count * np.arange(count)
    if key is not None:
        angles[key] += key_shift_deg
    return tuple(
        Stud(
            radius * float(np.cos(np.deg2rad(a))),
            radius * float(np.sin(np.deg2rad(a))),
            start_angle_deg=37.0 * i % 360,
            name=f"stud{i}",
            **kind,
        )
        for i, a in enumerate(angles)
    )


def _turbine_flange(rng: np.random.Generator) -> Part:
    angles = (0.0, 31.0, 60.0, 88.0, 120.0, 149.0, 180.0, 212.0, 240.0, 271.0)
    holes = list(bolt_circle(10, 88.0, _HOLE, angles_deg=angles, position_sigma=0.02, rng=rng))
    for i in (2, 7):
        holes[i] = Hole(holes[i].x, holes[i].y, 4.0, countersink_radius=8.0, name=holes[i].name)
    turn = np.deg2rad(310.0)
    holes.append(
        Hole(
            88 * float(np.cos(turn)),
            88 * float(np.sin(turn)),
            4.0,
            slot_length=8.0,
            slot_angle_deg=40.0,
            name="slot",
        )
    )
    warp = tuple(rng.normal(0, 0.004, 5))
    lobes = tuple(rng.normal(0, 0.003, 8))
    shape = FlangeShape(step_radius=104.0, step=1.5, holes=tuple(holes), warp=warp, bore_lobes=lobes)
    return flange(shape)


def _turbine_shaft(rng: np.random.Generator) -> Part:
    lobes = tuple(rng.normal(0, 0.003, 8))
    body = shaft(
        ShaftShape(
            sections=((55.0, 60.0), (45.0, 80.0), (38.0, 60.0)), bore_radius=25.0, lobes=lobes, taper=2e-5
        )
    )
    disc = flange(
        FlangeShape(
            outer_radius=90.0,
            bore_radius=25.0,
            thickness=12.0,
            holes=bolt_circle(8, 74.0, 5.5, position_sigma=0.02, rng=rng),
        )
    )
    return disc.placed(pose_from(translation=(0, 0, 0))).with_part(body, "shaft ")
