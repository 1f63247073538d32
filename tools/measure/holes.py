"""`find_holes`: the holes, slots and notches of a part's mounting face."""

from __future__ import annotations

import numpy as np

from fieldstone.core.errors import UserError

from .cloud import Cloud
from .errors import NotMeasurable
from .faces import Face, parallel_faces
from .hole_finding import FaceHoles, FoundHole, holes_of_face
from .hole_report import JointCovariance, hole_parameters, ordered, report
from .result import Measurement

__all__ = ["chosen_face", "find_holes", "no_hole", "prepared", "sought_holes", "wanted_radii"]

_AS_LARGE = 0.8  # of the chosen face's points: then it is not clear which one is meant


def find_holes(
    cloud: Cloud | np.ndarray,
    *,
    diameter: tuple[float, float] | None = None,  # of the holes that are wanted, in the cloud's unit
    face: int = 0,  # 0: the largest plane, 1: the next one parallel to it, ...
    walls: bool = True,  # look below the rim for bores and countersinks
    sigma: float | None = None,  # of the noise, where it is known
    rng: np.random.Generator | None = None,
    seed: int | None = None,
    unit: str | None = None,  # of an array
) -> Measurement:
    """Finds the holes of a face: empty regions inside the hull of its points, their rims by maximum likelihood, their walls.

    Parameters: `point` and `normal` of the face; `holes`, a list of {"type", "centre", "radius", ...}: "hole" (with "bore" and
    "countersink" where their walls are seen, "depth" where it is blind), "slot" ("length", "width", "axis_direction"), "boss" (material
    stands there, "height"), "notch" (open to the face's outline) and "opening" (no outline fits); `faces`, the parallel planes. The
    centre lies in the face. Radius and centre are the rim's and the bore's together; a countersunk hole's are the bore's.

    Raises `NotMeasurable` where there is no hole, `UserError` for arguments that make no sense.
    """
    cloud, seed, rng = prepared(cloud, unit, seed, rng)
    one, faces, warnings = chosen_face(cloud, face, sigma, rng)
    found = sought_holes(cloud, one, diameter, walls)
    holes = ordered(found.holes, one)
    covariance = JointCovariance(one, found.blur_sd)
    for i, hole in enumerate(holes):
        covariance.add(f"holes[{i}]", hole)
        warnings += [f"holes[{i}]: {note}" for note in hole.notes]
    parameters = {
        "holes": [hole_parameters(hole, one, cloud.origin) for hole in holes],
        "faces": faces,
    }
    return report("holes", cloud, one, found, parameters, covariance, warnings, seed)


def prepared(
    cloud: Cloud | np.ndarray, unit: str | None, seed: int | None, rng: np.random.Generator | None
) -> tuple[Cloud, int | None, np.random.Generator]:
    """A cloud from an array, and a generator from a seed."""
    if not isinstance(cloud, Cloud):
        cloud = Cloud.from_points(np.asarray(cloud), unit)
    elif unit is not None and unit != cloud.unit:
        raise UserError(f"the cloud's unit is {cloud.unit}, not {unit}: use cloud.to_unit")
    if len(cloud) < 200:
        raise NotMeasurable(f"a face with holes needs 200 points, found {len(cloud)}: choose a larger region")
    if rng is None:
        seed = 0 if seed is None else seed
        rng = np.random.default_rng(seed)
    return cloud, seed, rng


def chosen_face(
    cloud: Cloud, face: int, sigma: float | None, rng: np.random.Generator
) -> tuple[Face, list[dict], list[str]]:
    """The face asked for, all of them as plain data, and a warning where another is as large."""
    faces = parallel_faces(cloud, rng=rng, sigma=sigma)
    unit = cloud.unit or ""
    if not 0 <= face < len(faces):
        raise UserError(f"face {face}: there are {len(faces)} parallel faces, numbered from 0 by their size")
    one = faces[face]
    listed = [
        {"height": f.height - one.height, "share": f.share, "point": f.plane["point"].tolist(), "normal": f.plane["normal"].tolist()}
        for f in faces
    ]  # fmt: skip
    rivals = [
        f"face {i} at {f.height - one.height:+.4g} {unit} with {f.share:.0%} of the points"
        for i, f in enumerate(faces)
        if f is not one and f.share > _AS_LARGE * one.share
    ]
    warnings = []
    if rivals:
        warnings = [
            f"ambiguous datum: face {face} holds {one.share:.0%} of the points, and there is {'; '.join(rivals)}; "
            "say which is meant with --face, or choose a region"
        ]
    return one, listed, warnings


def wanted_radii(diameter: tuple[float, float] | None) -> tuple[float, float] | None:
    """Half the range. Raises `UserError` where it is none."""
    if diameter is None:
        return None
    low, high = (float(d) for d in diameter)
    if not 0 < low < high:
        raise UserError(f"diameter {low:g}:{high:g}: the first must be above 0 and below the second")
    return low / 2, high / 2


def no_hole(
    found: FaceHoles, every: list[FoundHole], diameter: tuple[float, float] | None, unit: str
) -> NotMeasurable:
    """That no hole was found of the size that is wanted, what sizes there are, and what could have been found."""
    wanted = "" if diameter is None else f" with a diameter of {diameter[0]:g} to {diameter[1]:g} {unit}"
    sizes = ", ".join(f"{2 * hole.radius:.4g}" for hole in sorted(every, key=lambda h: h.radius))
    others = f"; the face has openings of {sizes} {unit}" if every else ""
    return NotMeasurable(
        f"no hole{wanted} in the face{others}; at {found.density:.3g} points per square {unit or 'unit'} only holes wider than "
        f"{2 * found.least_radius:.3g} {unit} are told from gaps: scan closer, or choose another face"
    )


def sought_holes(cloud: Cloud, face: Face, diameter: tuple[float, float] | None, walls: bool) -> FaceHoles:
    """The holes of the face with a diameter in the range. Raises `NotMeasurable` when there is none."""
    unit = cloud.unit or ""
    radii = wanted_radii(diameter)
    found = holes_of_face(cloud.points, face, radii=radii, walls=walls, unit=unit)
    if not found.holes:
        every = [] if radii is None else holes_of_face(cloud.points, face, walls=False, unit=unit).holes
        raise no_hole(found, every, diameter, unit)
    if radii is not None and radii[0] < found.least_radius:
        found.warnings.append(
            f"holes narrower than {2 * found.least_radius:.3g} {unit} are not told from gaps between the points"
        )
    return found
