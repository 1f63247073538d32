"""NIST's reference pairs for least-squares fits: reading them, and how far our fits are from them.

The Algorithm Testing and Evaluation Program's data sets (Shakarji, J. Res. NIST 103 (1998) 633): NAME.ds holds a count and the points, in mm,
NAME.fit the reference, computed with many digits. Sizes are diameters; a cone is given by a point on its axis, the axis towards
growing radius, the orthogonal distance from that point to the surface and the full apex angle in degrees; circles are a plane
fit followed by a circle in it. Points on axes are free to slide, so lines and planes are compared as such.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .errors import NotMeasurable
from .fit import fit_circle, fit_cone, fit_cylinder, fit_line, fit_plane, fit_sphere
from .io import read
from .result import Measurement

__all__ = ["compare", "kind_of", "verify"]

_KINDS = {
    "cir": "circle",
    "con": "cone",
    "cyl": "cylinder",
    "lin": "line",
    "pla": "plane",
    "pln": "plane",
    "sph": "sphere",
}
_LENGTHS = {"circle": (7,), "cone": (8,), "cylinder": (7,), "line": (6, 4), "plane": (6,), "sphere": (4,)}
_FITS = {
    "cone": fit_cone,
    "cylinder": fit_cylinder,
    "line": fit_line,
    "plane": fit_plane,
    "sphere": fit_sphere,
}


def kind_of(path: Path) -> str | None:
    """The primitive that a pair is for, by the beginning of its file's or its folder's name; None for any other."""
    for name in (path.stem.lower(), path.parent.name.lower()):
        if name[:3] in _KINDS:
            return _KINDS[name[:3]]
    return None


def compare(path: Path) -> dict:
    """{"name", "kind", "points", "position" (mm), "angle" (rad), "size" (mm; rad for the cone's angle)} of our fit less NIST's."""
    kind = kind_of(path)
    reference = _reference(path.with_suffix(".fit"), kind)
    cloud = read(path, unit="mm", drop_duplicates=False)
    if kind == "circle":
        found = fit_circle(cloud, robust=False, method="plane-then-circle")
    else:
        found = _FITS[kind](cloud, robust=False)
    position = angle = size = 0.0
    if kind == "sphere":
        position = np.linalg.norm(found["centre"] - reference[:3])
        size = abs(2 * found["radius"] - reference[3])
    else:
        point, direction = reference[:3], reference[3:6] / np.linalg.norm(reference[3:6])
        names = {"circle": ("centre", "normal"), "plane": ("point", "normal"), "line": ("point", "direction")}
        place, axis = (found[name] for name in names.get(kind, ("axis_point", "axis_direction")))
        angle = np.linalg.norm(np.cross(axis, direction))
        offset = point - place
        if kind == "plane":
            position = abs(offset @ axis)
        elif kind == "circle":
            position = np.linalg.norm(offset)
        else:
            position = np.linalg.norm(offset - (offset @ axis) * axis)
        if kind in ("circle", "cylinder"):
            size = abs(2 * found["radius"] - reference[6])
        elif kind == "cone":
            half = np.radians(found["half_angle_deg"])
            distance = found["radius"] * np.cos(half) + (offset @ axis) * np.sin(half)
            position = max(position, abs(distance - reference[6]))
            size = abs(2 * half - np.radians(reference[7]))
    return {
        "name": path.stem,
        "kind": kind,
        "points": len(cloud),
        "position": float(position),
        "angle": float(angle),
        "size": float(size),
    }


def verify(folder: str | os.PathLike, tolerance: float = 1e-7) -> Measurement:
    """All pairs below `folder`: parameters `pairs`, `failed`, `largest_position`, `largest_angle`, `largest_size`, and `results`.

    Raises `UserError` when there is no pair, or a file of one is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = sorted(p for p in folder.rglob("*.ds") if p.with_suffix(".fit").is_file())
    known = [p for p in files if kind_of(p)]
    if not known:
        raise UserError(
            f"{folder}: no pair NAME.ds and NAME.fit with a name that begins with {', '.join(_KINDS)}"
        )
    results, warnings = [], [f"{p.name}: kind not recognised, left out" for p in files if p not in known]
    for path in known:
        try:
            result = compare(path)
        except NotMeasurable as error:
            warnings.append(f"{path.name}: {error}")
            result = {
                "name": path.stem,
                "kind": kind_of(path),
                "points": 0,
                **dict.fromkeys(("position", "angle", "size"), np.inf),
            }
        result["passed"] = bool(max(result["position"], result["angle"], result["size"]) <= tolerance)
        results.append(result)
    return Measurement(
        kind="verify-nist",
        unit="mm",
        parameters={
            "pairs": len(results),
            "failed": sum(not r["passed"] for r in results),
            "tolerance": tolerance,
            **{f"largest_{key}": max(r[key] for r in results) for key in ("position", "angle", "size")},
            "results": results,
        },
        covariance=np.zeros((0, 0)),
        covariance_names=[],
        rms=float(np.sqrt(np.mean([r["position"] ** 2 for r in results]))),
        n_used=len(results),
        n_total=len(files),
        warnings=warnings,
        input={"path": str(folder), "sha256": None},
    )


def _reference(path: Path, kind: str) -> np.ndarray:
    try:
        values = np.array(path.read_text(encoding="ascii", errors="replace").split(), dtype=np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {error}; a .fit file holds numbers only") from error
    if len(values) not in _LENGTHS[kind] or not np.isfinite(values).all():
        raise UserError(f"{path}: {len(values)} numbers; the fit of a {kind} has {_LENGTHS[kind][0]}")
    if kind == "line" and len(values) == 4:  # in the plane: point and direction
        values = np.array([values[0], values[1], 0.0, values[2], values[3], 0.0])
    return values
