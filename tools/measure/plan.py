"""The inspection plan: a YAML file that names features, datums and characteristics, read and checked before anything is measured.

unit: mm
coverage: 2                                   # k of the expanded uncertainty
features:
  face: {fit: plane, box: [-80, -80, -1, 80, 80, 1], towards: [0, 0, 1]}
  bore: {fit: cylinder, ball: [0, 0, -5, 40]}
datums: {A: face, B: bore}                    # letters for features; features' own names do as well
characteristics:
  - {kind: flatness, feature: face, tolerance: 0.05}
  - {kind: position, features: [hole1, hole2], datums: [A, B], nominal: [[50, 0], [0, 50]], tolerance: 0.1,
     material: mmc, size: [9.0, 9.2]}
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .units import parse_unit

__all__ = ["KINDS", "Characteristic", "FeaturePlan", "Plan", "parse_plan", "read_plan"]

_LARGEST_BYTES, _MOST_ENTRIES = 1 << 20, 1000

_DATUM_KINDS = (
    "parallelism perpendicularity angularity position coaxiality circular_runout total_runout profile".split()
)
_OWN = {  # what a characteristic of each kind takes beside kind, name, feature(s), datums
    "flatness": {"tolerance", "smooth"},
    "straightness": {"tolerance", "smooth", "sections"},
    "roundness": {"tolerance", "smooth", "sections"},
    "cylindricity": {"tolerance", "smooth"},
    "parallelism": {"tolerance"},
    "perpendicularity": {"tolerance"},
    "angularity": {"tolerance", "angle"},
    "position": {"tolerance", "nominal", "direction", "material", "size", "inner"},
    "coaxiality": {"tolerance", "material", "size", "inner"},
    "circular_runout": {"tolerance", "sections"},
    "total_runout": {"tolerance"},
    "profile": {"tolerance", "nominal"},
    "size": {"limits", "norm"},
}
KINDS = tuple(_OWN)
"""The kinds of characteristics."""
_FITS = ("plane", "line", "circle", "sphere", "cylinder", "cone")
_FEATURE_KEYS = {
    "fit",
    "box",
    "ball",
    "towards",
    "axis",
    "radius",
    "sigma",
    "threshold",
    "min_share",
    "all_points",
}
_NORMS = ("gauss", "minimum-circumscribed", "maximum-inscribed")


@dataclass(frozen=True)
class FeaturePlan:
    name: str
    fit: str
    box: list[float] | None = None
    ball: list[float] | None = None
    towards: list[float] | None = None
    options: dict = field(default_factory=dict)
    """Of the fit: axis, radius, sigma, threshold, min_share, robust."""


@dataclass(frozen=True)
class Characteristic:
    name: str
    kind: str
    features: tuple[str, ...]
    datums: tuple[str, ...]
    """Names of features."""
    upper: float | None
    lower: float | None = None
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    unit: str
    coverage: float
    features: dict[str, FeaturePlan]
    characteristics: tuple[Characteristic, ...]
    letters: dict[str, str]
    """Datum letter to feature name."""
    folder: Path
    """That file names in the plan are relative to."""
    align: Path | None = None
    """A cloud or mesh of the part in the frame that the regions are drawn in, in the plan's unit; None: parts lie there already."""


def read_plan(path: str | os.PathLike) -> Plan:
    """The plan in a file. Raises `UserError` with the entry that is wrong, and what may stand there."""
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such plan file")
    if path.stat().st_size > _LARGEST_BYTES:
        raise UserError(f"{path}: {path.stat().st_size} bytes are too many for a plan")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    return parse_plan(document, str(path), path.parent)


def parse_plan(document: object, where: str = "plan", folder: Path = Path(".")) -> Plan:
    """A plan from plain data. Raises as `read_plan` does."""
    known = {"unit", "coverage", "align", "features", "datums", "characteristics"}
    document = _mapping(document, where, known)
    unit = document.get("unit")
    if not isinstance(unit, str):
        raise UserError(
            f"{where}: no unit; say unit: mm (or m, um, inch), as tolerances mean nothing without one"
        )
    coverage = _number(document.get("coverage", 2.0), f"{where}: coverage")
    features = {
        str(name): _feature(str(name), entry, f"{where}: features: {name}")
        for name, entry in _mapping(document.get("features"), f"{where}: features").items()
    }
    letters = {}
    for letter, name in _mapping(document.get("datums", {}), f"{where}: datums").items():
        letters[str(letter)] = _named(name, features, f"{where}: datums: {letter}")
    entries = document.get("characteristics")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: characteristics: a list of at least one is needed")
    if len(entries) + len(features) > _MOST_ENTRIES:
        raise UserError(f"{where}: over {_MOST_ENTRIES} features and characteristics; split the plan")
    names = {**{n: n for n in features}, **letters}
    found = tuple(
        _characteristic(entry, names, f"{where}: characteristics[{i}]") for i, entry in enumerate(entries)
    )
    align = document.get("align")
    if align is not None and not isinstance(align, str):
        raise UserError(f"{where}: align: {align!r}: the name of a reference cloud or mesh belongs here")
    folder = Path(folder)
    return Plan(
        parse_unit(unit), coverage, features, found, letters, folder, folder / align if align else None
    )


def _feature(name: str, entry: object, where: str) -> FeaturePlan:
    entry = _mapping(entry, where, _FEATURE_KEYS)
    if entry.get("fit") not in _FITS:
        raise UserError(f"{where}: fit: {entry.get('fit')!r}: one of {', '.join(_FITS)}")
    options = {"robust": not entry.get("all_points", False)}
    for key in ("radius", "sigma", "threshold", "min_share"):
        if key in entry:
            options[key] = _number(entry[key], f"{where}: {key}")
    if "axis" in entry:
        options["axis"] = _numbers(entry["axis"], 3, f"{where}: axis")
    box, ball, towards = (
        _numbers(entry[key], n, f"{where}: {key}") if key in entry else None
        for key, n in (("box", 6), ("ball", 4), ("towards", 3))
    )
    return FeaturePlan(name, entry["fit"], box, ball, towards, options)


def _characteristic(entry: object, names: dict[str, str], where: str) -> Characteristic:
    entry = _mapping(entry, where)
    kind = entry.get("kind")
    if kind not in _OWN:
        raise UserError(f"{where}: kind: {kind!r}: one of {', '.join(KINDS)}")
    _mapping(entry, f"{where} ({kind})", {"kind", "name", "feature", "features", "datums", *_OWN[kind]})
    chosen = entry.get("features", [entry["feature"]] if "feature" in entry else None)
    if not isinstance(chosen, list) or not chosen:
        raise UserError(f"{where} ({kind}): feature: or features: [...] is missing")
    if len(chosen) > 1 and kind not in ("position",):
        raise UserError(f"{where}: {kind} is of one feature, not of {len(chosen)}; write an entry for each")
    features = tuple(_named(n, names, f"{where}: features") for n in chosen)
    datums = entry.get("datums", [])
    datums = datums if isinstance(datums, list) else [datums]
    datums = tuple(_named(n, names, f"{where}: datums") for n in datums)
    if kind in _DATUM_KINDS and not 1 <= len(datums) <= 3:
        raise UserError(f"{where}: {kind} needs datums: one to three names, in order of precedence")
    if kind not in _DATUM_KINDS and datums:
        raise UserError(f"{where}: {kind} has no datums")
    options = {key: entry[key] for key in _OWN[kind] if key in entry and key not in ("tolerance", "limits")}
    for key in ("smooth", "angle"):
        if key in options:
            options[key] = _number(options[key], f"{where}: {key}", zero=key == "angle")
    if "sections" in options:
        if not isinstance(options["sections"], int) or not 1 <= options["sections"] <= 1000:
            raise UserError(f"{where}: sections: {options['sections']!r}: a whole number from 1 to 1000")
    lower = None
    if kind == "size":
        lower, upper = _numbers(entry.get("limits"), 2, f"{where}: limits")
        if not lower < upper:
            raise UserError(f"{where}: limits: [{lower:g}, {upper:g}]: the smaller one first")
        if options.setdefault("norm", "gauss") not in _NORMS:
            raise UserError(f"{where}: norm: {options['norm']!r}: one of {', '.join(_NORMS)}")
    else:
        upper = _number(entry.get("tolerance"), f"{where}: tolerance")
    if kind == "angularity" and "angle" not in options:
        raise UserError(f"{where}: angularity needs angle: degrees from 0 to 90")
    if kind in ("position", "coaxiality"):
        _location_options(kind, options, len(features), where)
    if kind == "profile":
        nominal = _mapping(
            options.get("nominal"), f"{where}: nominal", {"plane", "sphere", "cylinder", "cone", "mesh"}
        )
        if len(nominal) != 1:
            raise UserError(
                f"{where}: nominal: one of plane, sphere, cylinder, cone: {{point, ...}} or mesh: FILE"
            )
    name = str(entry.get("name", f"{kind} {', '.join(features)}"))
    return Characteristic(name, kind, features, datums, upper, lower, options)


def _location_options(kind: str, options: dict, count: int, where: str) -> None:
    if kind == "position":
        nominal = options.get("nominal")
        rows = (
            nominal if isinstance(nominal, list) and nominal and isinstance(nominal[0], list) else [nominal]
        )
        if len(rows) != count or any(not isinstance(r, list) or len(r) not in (2, 3) for r in rows):
            raise UserError(
                f"{where}: nominal: {nominal!r}: give [x, y] or [x, y, z] in the datum frame for each feature"
            )
        options["nominal"] = [_numbers(row, len(row), f"{where}: nominal") for row in rows]
        if len({len(row) for row in rows}) > 1:
            raise UserError(f"{where}: nominal: all of them with z, or none")
        if "direction" in options:
            options["direction"] = _numbers(options["direction"], 3, f"{where}: direction")
    if options.get("material") not in (None, "mmc", "lmc"):
        raise UserError(f"{where}: material: {options['material']!r}: mmc or lmc")
    if "material" in options and "size" not in options:
        raise UserError(f"{where}: {options['material']} needs size: [least, most diameter]")
    if "size" in options:
        options["size"] = _numbers(options["size"], 2, f"{where}: size")
    if not isinstance(options.get("inner", True), bool):
        raise UserError(f"{where}: inner: {options['inner']!r}: true (a hole) or false (a shaft)")


def _mapping(value: object, where: str, known: set[str] | None = None) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{where}: {value!r:.60}: names with values belong here")
    unknown = [key for key in value if known is not None and key not in known]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is not known here; possible are {', '.join(sorted(known))}")
    return value


def _named(name: object, names: dict, where: str) -> str:
    if not isinstance(name, str) or name not in names:
        raise UserError(f"{where}: {name!r} is no feature; there are {', '.join(sorted(names)) or 'none'}")
    found = names[name]
    return found if isinstance(found, str) else name


def _number(value: object, where: str, *, zero: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    if not good or value < 0 or (value == 0 and not zero):
        raise UserError(f"{where}: {value!r}: a number {'of at least' if zero else 'above'} 0 belongs here")
    return float(value)


def _numbers(value: object, count: int, where: str) -> list[float]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != count
        or not all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in value)
    ):
        raise UserError(f"{where}: {value!r:.60}: {count} numbers belong here")
    return [float(v) for v in value]
