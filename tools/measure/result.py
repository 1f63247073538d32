"""What a measurement found, with its uncertainty: one type for every feature, and its JSON."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone import __version__
from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_json

__all__ = ["SCHEMA", "Measurement", "plain", "read_json", "software", "write_json"]

SCHEMA = "fieldstone.measure/1"
"""Name and version of the JSON. The version rises when a reader of the old one would misread the new one."""


@dataclass
class Measurement:
    """A measured feature: parameters in world coordinates and in `unit`, and how far they can be trusted.

    Vectors (`normal`, `axis_direction`) have unit length; angles are in degrees where the name ends in `_deg`, else radians.
    """

    kind: str
    """"plane", "circle", "cylinder", "thread", "holes", "match", ..."""
    unit: str | None
    parameters: dict
    """Numbers, lists of numbers, or lists of such dictionaries, by the field's names (`centre`, `radius`, `normal`, ...)."""
    covariance: np.ndarray
    """(k, k) float64 of the scalars in `covariance_names`. Where a parameter set is redundant (a unit normal, a point that may
    slide along its plane) the matrix is singular in just those directions, so J C J^T is right for any function of it."""
    covariance_names: list[str]
    """A name for each row: "radius", "centre.x", "normal.z", "holes[3].radius", ..."""
    rms: float
    """Root mean square of the used points' residuals, in `unit`."""
    n_used: int
    n_total: int
    warnings: list[str] = field(default_factory=list)
    input: dict = field(default_factory=lambda: {"path": None, "sha256": None})
    seed: int | None = None
    extras: dict = field(default_factory=dict)
    """What else was found: sigma, form deviation, contacts, arc, method. Plain data or arrays."""
    inliers: np.ndarray | None = None
    """(n_total,) bool: the points used. Not part of the JSON."""

    def __getitem__(self, name: str):
        """A parameter; vectors as float64 arrays, lists of features as they are."""
        value = self.parameters[name]
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict | str):
            return value
        return np.asarray(value, np.float64) if isinstance(value, list | tuple | np.ndarray) else value

    def indices(self, name: str) -> list[int]:
        """Rows of the covariance that belong to the parameter `name` (also a list's: "holes[2].centre")."""
        return [i for i, own in enumerate(self.covariance_names) if own == name or own.startswith(name + ".")]

    def covariance_of(self, *names: str) -> np.ndarray:
        """The covariance of the named parameters, in that order."""
        rows = [i for name in names for i in self.indices(name)]
        return self.covariance[np.ix_(rows, rows)]

    def standard_uncertainty(self) -> dict[str, float]:
        """Standard deviation (k = 1) by scalar name."""
        deviations = np.sqrt(np.maximum(np.diagonal(self.covariance), 0.0))
        return {name: float(value) for name, value in zip(self.covariance_names, deviations)}

    def to_json(self) -> dict:
        """Plain data in the versioned schema of docs/measuring.md. NaN and infinity become null."""
        return plain(
            {
                "schema": SCHEMA,
                "kind": self.kind,
                "unit": self.unit,
                "parameters": self.parameters,
                "covariance": self.covariance,
                "covariance_names": self.covariance_names,
                "standard_uncertainty": self.standard_uncertainty(),
                "rms": self.rms,
                "n_used": self.n_used,
                "n_total": self.n_total,
                "warnings": self.warnings,
                "input": self.input,
                "seed": self.seed,
                "extras": self.extras,
                "software": software(),
            }
        )


def write_json(path: str | os.PathLike, *measurements: Measurement) -> None:
    """Writes one measurement as its JSON, several as {"schema", "kind": "list", "measurements": [...]}."""
    if len(measurements) == 1:
        atomic_write_json(path, measurements[0].to_json())
    else:
        items = [m.to_json() for m in measurements]
        atomic_write_json(
            path, {"schema": SCHEMA, "kind": "list", "measurements": items, "software": software()}
        )


def read_json(path: str | os.PathLike) -> list[Measurement]:
    """The measurements of a file that `write_json` made. Raises `UserError` for any other file."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: not JSON ({error}); give a file that measure --json wrote") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise UserError(
            f"{path}: schema {schema!r}, expected {SCHEMA!r}; give a file that measure --json wrote"
        )
    items = document.get("measurements") if document.get("kind") == "list" else [document]
    try:
        return [_from_json(item) for item in items]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a complete result ({type(error).__name__}: {error})") from None


def _from_json(item: dict) -> Measurement:
    names = [str(name) for name in item["covariance_names"]]
    covariance = np.array(item["covariance"], np.float64).reshape(len(names), len(names))
    return Measurement(
        kind=str(item["kind"]),
        unit=item["unit"],
        parameters=dict(item["parameters"]),
        covariance=covariance,
        covariance_names=names,
        rms=float("nan") if item["rms"] is None else float(item["rms"]),
        n_used=int(item["n_used"]),
        n_total=int(item["n_total"]),
        warnings=[str(line) for line in item["warnings"]],
        input=dict(item["input"]),
        seed=item["seed"],
        extras=dict(item["extras"]),
    )


def software() -> dict[str, str]:
    """{"name", "version"} of what wrote a result."""
    return {"name": "fieldstone", "version": __version__}


def plain(value: object) -> object:
    """Arrays, NumPy scalars, tuples and paths as what JSON knows; numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} has no place in a result")
