"""GLB read back: nodes, skins, morph targets and animations of glTF 2.0, and where they put the vertices.

Written for rigs: materials, images and cameras are not looked at. Everything is bounded and checked; nothing outside the file is
opened (a buffer or image with a uri is refused).
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["GlbScene", "GlbSkin", "GlbSurface", "read_glb"]

MOST_BYTES = 512 << 20
MOST_ITEMS = 1 << 16
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


@dataclass
class GlbSurface:
    """All triangles of one mesh, its primitives joined."""

    vertices: np.ndarray
    """(v, 3)."""
    faces: np.ndarray
    """(f, 3)."""
    joints: np.ndarray
    """(v, n) numbers in the skin's joint list; n is 0 without a skin."""
    weights: np.ndarray
    """(v, n)."""
    targets: np.ndarray
    """(m, v, 3) morph targets."""
    target_weights: np.ndarray
    """(m,) at rest."""


@dataclass
class GlbSkin:
    """Which nodes move a surface."""

    joints: list[int]
    """Nodes."""
    inverse_bind: np.ndarray
    """(j, 4, 4)."""


@dataclass
class GlbScene:
    """A GLB's nodes and what hangs on them."""

    names: list[str]
    parents: list[int]
    """Of nodes; -1 at the top."""
    translation: np.ndarray
    """(n, 3) of nodes, relative to the parent."""
    rotation: np.ndarray
    """(n, 4) quaternions x, y, z, w as glTF has them."""
    scale: np.ndarray
    """(n, 3)."""
    surfaces: list[GlbSurface]
    mesh_of: list[int | None]
    """Node -> surface."""
    skin_of: list[int | None]
    skins: list[GlbSkin]
    animations: list[dict] = field(default_factory=list)
    """name, and channels: node, path, times (k,), values (k, ...)."""

    def node_matrices(self, time: float | None = None, animation: int = 0) -> np.ndarray:
        """(n, 4, 4) of nodes in the world, at rest or at a time of an animation (linear, slerp for rotations)."""
        moved = {
            "translation": self.translation.copy(),
            "rotation": self.rotation.copy(),
            "scale": self.scale.copy(),
        }
        if time is not None:
            for channel in self.animations[animation]["channels"]:
                if channel["path"] in moved:
                    moved[channel["path"]][channel["node"]] = _sample(channel, time)
        local = np.tile(np.eye(4), (len(self.names), 1, 1))
        local[:, :3, :3] = _quaternion_matrix(moved["rotation"]) * moved["scale"][:, None, :]
        local[:, :3, 3] = moved["translation"]
        world: list[np.ndarray | None] = [None] * len(self.names)

        def place(node: int) -> np.ndarray:
            if world[node] is None:
                above = self.parents[node]
                world[node] = local[node] if above < 0 else place(above) @ local[node]
            return world[node]

        return np.stack([place(node) for node in range(len(self.names))])

    def posed(self, node: int, time: float | None = None, animation: int = 0) -> np.ndarray:
        """(v, 3): the vertices of the surface on `node`, morphed and skinned (glTF 2.0, 3.7.3.3), in the world."""
        surface = self.surfaces[self.mesh_of[node]]
        matrices = self.node_matrices(time, animation)
        morph = surface.target_weights
        if time is not None:
            for channel in self.animations[animation]["channels"]:
                if channel["path"] == "weights" and channel["node"] == node:
                    morph = _sample(channel, time)
        vertices = surface.vertices + np.einsum("m,mvd->vd", morph, surface.targets)
        if self.skin_of[node] is None:
            return vertices @ matrices[node][:3, :3].T + matrices[node][:3, 3]
        skin = self.skins[self.skin_of[node]]
        motion = matrices[skin.joints] @ skin.inverse_bind
        blended = np.einsum("vn,vnab->vab", surface.weights, motion[surface.joints])
        return np.einsum("vab,vb->va", blended[:, :3, :3], vertices) + blended[:, :3, 3]


def read_glb(path: str | os.PathLike) -> GlbScene:
    """Reads a GLB. Raises `UserError` for anything that is not one, or is larger or stranger than a rig can be."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path}: expected at most {MOST_BYTES} bytes, found {size}")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        document, binary = _chunks(raw)
        return _scene(document, binary)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        struct.error,
        RecursionError,
        OverflowError,
    ) as error:
        raise UserError(
            f"{path}: not a readable GLB ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error


def _chunks(raw: bytes) -> tuple[dict, bytes]:
    magic, version, total = struct.unpack_from("<4sII", raw)
    if magic != b"glTF" or version != 2 or total > len(raw):
        raise UserError(
            f"not a GLB of glTF 2.0 (begins with {magic!r}, version {version}, {total} of {len(raw)} bytes)"
        )
    found, place = {}, 12
    while place + 8 <= total:
        length, kind = struct.unpack_from("<I4s", raw, place)
        if place + 8 + length > total:
            raise UserError(f"a chunk of {length} bytes reaches over the file's end")
        found.setdefault(kind, raw[place + 8 : place + 8 + length])
        place += 8 + length
    document = json.loads(found[b"JSON"])
    if not isinstance(document, dict):
        raise UserError("the JSON chunk is no object")
    return document, found.get(b"BIN\0", b"")


def _accessor(document: dict, binary: bytes, index: int) -> np.ndarray:
    """(count, width) as stored, normalised integers as float."""
    accessor = document["accessors"][_index(index)]
    count, width = int(accessor["count"]), _WIDTH[accessor["type"]]
    dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
    if not 0 <= count <= 1 << 26:
        raise UserError(f"an accessor of {count} elements")
    if "sparse" in accessor:
        raise UserError("sparse accessors are not read; export the rig without them")
    if "bufferView" not in accessor:
        return np.zeros((min(count, 1 << 22), width), dtype)
    view = document["bufferViews"][_index(accessor["bufferView"])]
    buffer = document["buffers"][_index(view["buffer"])]
    if "uri" in buffer:
        raise UserError("a buffer outside the file (uri) is not opened; pack the rig as one GLB")
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    step = int(view.get("byteStride", width * dtype.itemsize))
    if (
        start < 0
        or step < width * dtype.itemsize
        or start + max(count - 1, 0) * step + width * dtype.itemsize > len(binary)
    ):
        raise UserError(f"an accessor of {count} elements reaches over its {len(binary)} bytes")
    array = np.ndarray((count, width), dtype, binary, start, (step, dtype.itemsize)).copy()
    if accessor.get("normalized") and dtype.kind in "iu":
        array = np.maximum(array.astype(np.float64) / np.iinfo(dtype).max, -1)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError("an accessor holds numbers that are not finite")
    return array


def _index(value: object) -> int:
    index = int(value)
    if index < 0:
        raise UserError(f"a negative index ({index})")
    return index


def _scene(document: dict, binary: bytes) -> GlbScene:
    nodes = document.get("nodes", [])
    if not 0 < len(nodes) <= MOST_ITEMS:
        raise UserError(f"expected 1 to {MOST_ITEMS} nodes, found {len(nodes)}")
    parents = [-1] * len(nodes)
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if parents[_index(child)] >= 0 or child == number:
                raise UserError(f"node {child} hangs on two nodes")
            parents[child] = number
    _refuse_rings(parents)
    translation = np.array([node.get("translation", (0, 0, 0)) for node in nodes], float)
    rotation = np.array([node.get("rotation", (0, 0, 0, 1)) for node in nodes], float)
    scale = np.array([node.get("scale", (1, 1, 1)) for node in nodes], float)
    for number, node in enumerate(nodes):
        if "matrix" in node:
            translation[number], rotation[number], scale[number] = _parts(node["matrix"], number)
    skins = []
    for skin in document.get("skins", []):
        joints = [_index(joint) for joint in skin["joints"]]
        if not joints or max(joints) >= len(nodes):
            raise UserError(f"a skin names joints beyond the {len(nodes)} nodes")
        inverse = np.tile(np.eye(4), (len(joints), 1, 1))
        if "inverseBindMatrices" in skin:
            inverse = (
                _accessor(document, binary, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
            )
        if len(inverse) < len(joints):
            raise UserError(f"a skin of {len(joints)} joints has {len(inverse)} inverse bind matrices")
        skins.append(GlbSkin(joints, inverse[: len(joints)].astype(np.float64)))
    surfaces = [_surface(document, binary, mesh) for mesh in document.get("meshes", [])]
    mesh_of, skin_of = [node.get("mesh") for node in nodes], [node.get("skin") for node in nodes]
    for mesh, skin in zip(mesh_of, skin_of):
        if mesh is not None and skin is not None:
            surface = surfaces[_index(mesh)]
            if surface.joints.shape[1] == 0 or surface.joints.max(initial=0) >= len(
                skins[_index(skin)].joints
            ):
                raise UserError("a skinned mesh without JOINTS_0, or with joints its skin does not have")
    scene = GlbScene(
        [str(node.get("name", f"node{i}")) for i, node in enumerate(nodes)],
        parents, translation, rotation, scale, surfaces, mesh_of, skin_of, skins,
    )  # fmt: skip
    for animation in document.get("animations", []):
        channels = []
        for channel in animation["channels"]:
            sampler, target = animation["samplers"][_index(channel["sampler"])], channel["target"]
            if "node" not in target:
                continue
            if sampler.get("interpolation", "LINEAR") == "CUBICSPLINE":
                raise UserError("cubic splines in an animation are not read")
            times = _accessor(document, binary, sampler["input"])[:, 0].astype(float)
            values = _accessor(document, binary, sampler["output"]).astype(float)
            if target["path"] == "weights":
                values = values.reshape(len(times), -1)
            if not len(times) or len(values) != len(times):
                raise UserError(f"an animation with {len(times)} times and {len(values)} values")
            channels.append(
                {
                    "node": _index(target["node"]),
                    "path": str(target["path"]),
                    "times": times,
                    "values": values,
                    "step": sampler.get("interpolation") == "STEP",
                }
            )
        scene.animations.append({"name": str(animation.get("name", "")), "channels": channels})
    return scene


def _refuse_rings(parents: list[int]) -> None:
    for start in range(len(parents)):
        node, steps = start, 0
        while node >= 0:
            node, steps = parents[node], steps + 1
            if steps > len(parents) or steps > 900:
                raise UserError("nodes that hang on themselves, or deeper than 900")


def _parts(matrix: list, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translation, rotation (x, y, z, w) and scale of a column-major matrix without shear."""
    from scipy.spatial.transform import Rotation

    m = np.array(matrix, float).reshape(4, 4).T
    size = np.linalg.norm(m[:3, :3], axis=0)
    if not np.isfinite(m).all() or (size < 1e-12).any():
        raise UserError(f"node {number}: a matrix without inverse")
    turn = m[:3, :3] / size
    if np.abs(turn.T @ turn - np.eye(3)).max() > 1e-3 or np.linalg.det(turn) < 0:
        raise UserError(f"node {number}: a matrix with shear or a reflection")
    return m[:3, 3], Rotation.from_matrix(turn).as_quat(), size


def _surface(document: dict, binary: bytes, mesh: dict) -> GlbSurface:
    parts, offset = [], 0
    for primitive in mesh["primitives"]:
        if primitive.get("mode", 4) != 4:
            raise UserError(f"a primitive of mode {primitive['mode']}; only triangles are read")
        attributes = primitive["attributes"]
        vertices = _accessor(document, binary, attributes["POSITION"]).astype(float)
        if "indices" in primitive:
            faces = _accessor(document, binary, primitive["indices"]).reshape(-1, 3).astype(np.int64)
        else:
            faces = np.arange(len(vertices)).reshape(-1, 3)
        if faces.size and faces.max() >= len(vertices):
            raise UserError(f"faces of {faces.max() + 1} vertices, found {len(vertices)}")
        joints, weights = [np.zeros((len(vertices), 0), np.int64)], [np.zeros((len(vertices), 0))]
        number = 0
        while f"JOINTS_{number}" in attributes:
            joints.append(_accessor(document, binary, attributes[f"JOINTS_{number}"]).astype(np.int64))
            weights.append(_accessor(document, binary, attributes[f"WEIGHTS_{number}"]).astype(float))
            number += 1
        targets = [
            _accessor(document, binary, target["POSITION"]).astype(float)
            for target in primitive.get("targets", [])
        ]
        parts.append(
            (vertices, faces + offset, np.concatenate(joints, 1), np.concatenate(weights, 1),
             np.array(targets).reshape(len(targets), len(vertices), 3))
        )  # fmt: skip
        offset += len(vertices)
    columns = {part[2].shape[1] for part in parts}, {len(part[4]) for part in parts}
    if any(len(found) != 1 for found in columns):
        raise UserError("primitives of one mesh with different numbers of joints or morph targets")
    joined = [np.concatenate([part[i] for part in parts], 1 if i == 4 else 0) for i in range(5)]
    rest = np.array(mesh.get("weights", np.zeros(len(joined[4]))), float)
    if rest.shape != (len(joined[4]),):
        raise UserError(f"a mesh with {len(joined[4])} morph targets has {len(rest)} weights")
    return GlbSurface(*joined, rest)


def _sample(channel: dict, time: float) -> np.ndarray:
    times, values = channel["times"], channel["values"]
    after = int(np.searchsorted(times, time, "right"))
    if after == 0 or after == len(times) or channel["step"]:
        return values[min(max(after - 1, 0), len(times) - 1)]
    share = (time - times[after - 1]) / (times[after] - times[after - 1])
    a, b = values[after - 1], values[after]
    if channel["path"] != "rotation":
        return a + share * (b - a)
    dot = float(a @ b)
    b, dot = (-b, -dot) if dot < 0 else (b, dot)
    angle = np.arccos(min(dot, 1.0))
    if angle < 1e-6:
        return a + share * (b - a)
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)


def _quaternion_matrix(q: np.ndarray) -> np.ndarray:
    """(n, 3, 3) of quaternions x, y, z, w."""
    x, y, z, w = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return np.stack(rows, 1).reshape(-1, 3, 3)
