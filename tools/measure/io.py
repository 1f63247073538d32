"""Reading clouds from files of any of the known formats, and writing PLY."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes

from .cloud import Cloud
from .units import parse_unit

__all__ = ["FORMATS", "read", "write_ply"]

FORMATS = {
    **dict.fromkeys((".ply",), "ply"),
    **dict.fromkeys((".pcd",), "pcd"),
    **dict.fromkeys((".xyz", ".txt", ".csv", ".asc", ".pts", ".ds"), "text"),
    **dict.fromkeys((".npy", ".npz"), "npy"),
    **dict.fromkeys((".las", ".laz"), "las"),
    **dict.fromkeys((".e57",), "e57"),
    **dict.fromkeys((".stl", ".obj"), "mesh"),
}
"""The reader, a module of `readers`, of each suffix."""


def read(
    path: str | os.PathLike,
    unit: str | None = None,
    *,
    samples: int = 200_000,  # points drawn from a mesh
    rng: np.random.Generator | None = None,  # for drawing them; None: seed 0
    drop_duplicates: bool = True,
) -> Cloud:
    """The cloud in a file: PLY, PCD, XYZ/TXT/CSV, NPY/NPZ, LAS/LAZ, E57, or sampled from STL/OBJ.

    `unit` says what the file's numbers are; None takes what the file itself says (E57 always, PLY, CSV and LAS sometimes), else
    the cloud has no unit. Points that are not finite, exact duplicates, and the zeros of organised clouds are removed and
    counted in `warnings`. Raises `UserError`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UserError(f"{path}: {suffix or 'no suffix'} is not a known format: {' '.join(sorted(FORMATS))}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    unit = parse_unit(unit)
    reader = importlib.import_module(f"{__package__}.readers.{FORMATS[suffix]}")
    if FORMATS[suffix] == "mesh":
        raw = reader.read(path, samples, np.random.default_rng(0) if rng is None else rng)
    else:
        raw = reader.read(path)
    notes = list(raw.notes)
    own = _own_unit(raw.unit, notes)
    if unit is not None and own is not None and unit != own:
        notes.append(f"the file says its unit is {own}; it is read as {unit}, as asked")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Cloud.from_points(
        raw.points,
        unit or own,
        normals=raw.normals,
        colours=raw.colours,
        sigma=raw.sigma,
        viewpoint=raw.viewpoint,
        source=path,
        sha256=digest,
        warnings=tuple(notes),
        drop_duplicates=drop_duplicates,
    )


def write_ply(path: str | os.PathLike, cloud: Cloud) -> None:
    """Writes a little-endian PLY with world coordinates in double; unit and viewpoint as comments that `read` understands."""
    world = cloud.world_points
    parts = [("x", "f8", world[:, 0]), ("y", "f8", world[:, 1]), ("z", "f8", world[:, 2])]
    if cloud.normals is not None:
        parts += [(f"n{axis}", "f4", cloud.normals[:, i]) for i, axis in enumerate("xyz")]
    if cloud.colours is not None:
        parts += [(name, "u1", cloud.colours[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    if cloud.sigma is not None:
        parts.append(("sigma", "f4", cloud.sigma))
    rows = np.empty(len(world), np.dtype([(name, "<" + kind) for name, kind, _ in parts]))
    for name, _, values in parts:
        rows[name] = values
    types = {"f8": "double", "f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0"]
    header += [f"comment unit {cloud.unit}"] if cloud.unit else []
    if cloud.viewpoint is not None:
        place = (cloud.viewpoint + cloud.origin).tolist()
        header.append("comment viewpoint " + " ".join(repr(value) for value in place))
    header += [f"element vertex {len(world)}", *(f"property {types[kind]} {name}" for name, kind, _ in parts)]
    atomic_write_bytes(path, ("\n".join([*header, "end_header"]) + "\n").encode() + rows.tobytes())


def _own_unit(text: str | None, notes: list[str]) -> str | None:
    try:
        return parse_unit(text)
    except UserError:
        notes.append(f"the file names a unit that is not known: {text!r}")
        return None
