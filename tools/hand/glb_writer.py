"""Skinned GLB: a posed or moving model as glTF 2.0 skin, morph targets and animation (Khronos glTF 2.0, sections 3.7, 3.11, 5.26).

A glTF viewer computes sum_k w_k A_k (template + sum_m a_m morph_m): our forward pass, if the morphs are the pose correctives and
their weights the pose feature R - I. So nothing is baked: the file animates as the model does.
"""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import torch

from fieldstone.core.errors import UserError
from fieldstone.core.files import atomic_write_bytes
from fieldstone.core.rotations import axis_angle_to_matrix, matrix_to_quaternion

from ...fields.articulated.geometry import vertex_normals
from ...fields.articulated.kinematics import rest_offsets
from ...fields.articulated.model import ArticulatedModel
from ...fields.articulated.model_data import ModelData

__all__ = ["write_glb"]

FLOAT, UINT16, UINT32 = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963


class _Buffer:
    """The binary chunk and the accessors into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []

    def add(self, array: np.ndarray, kind: str, target: int | None = None, bounds: bool = False) -> int:
        component = {np.dtype("<f4"): FLOAT, np.dtype("<u2"): UINT16, np.dtype("<u4"): UINT32}[array.dtype]
        raw = np.ascontiguousarray(array).tobytes()
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(raw)}
        self.views.append(view if target is None else view | {"target": target})
        self.data += raw + b"\0" * (-len(raw) % 4)
        accessor = {
            "bufferView": len(self.views) - 1,
            "componentType": component,
            "count": len(array),
            "type": kind,
        }
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(
    path: str | os.PathLike,
    data: ModelData,
    pose: np.ndarray,  # (n, j, 3) axis-angles of all joints, mean included
    *,
    shape: np.ndarray | None = None,  # (s,)
    translation: np.ndarray | None = None,  # (n, 3) metres
    frames_per_second: float = 30.0,
    correctives: str = "auto",  # features, frames or auto: whichever needs fewer morph targets
    colour: tuple[float, float, float] = (0.86, 0.66, 0.55),
) -> None:
    """Writes the shaped model with its skin, and n poses: one is the file's pose, more become an animation.

    correctives "features": a morph target per entry of R - I with weights that follow the pose, exact at every frame and right
    between frames too. "frames": one target per frame, exact at frames. More than four joints a vertex go into further sets of
    JOINTS_n and WEIGHTS_n, so no weight is dropped. Raises `UserError` for other shapes of pose.
    """
    j = len(data.parents)
    pose = np.asarray(pose, np.float64)
    if pose.ndim != 3 or pose.shape[1:] != (j, 3) or not len(pose):
        raise UserError(f"pose: expected (frames, {j}, 3) axis-angles, found {pose.shape}")
    if j > 65535:
        raise UserError(f"glTF counts joints in 16 bits; found {j}")
    frames = len(pose)
    translation = np.zeros((frames, 3)) if translation is None else np.broadcast_to(translation, (frames, 3))
    model = ArticulatedModel(data, dtype=torch.float64)
    identity = model.identity(None if shape is None else torch.from_numpy(np.asarray(shape, np.float64)))
    vertices, joints = identity.vertices[0].numpy(), identity.joints[0].numpy()
    rotations = axis_angle_to_matrix(torch.from_numpy(pose))
    features = (rotations[:, 1:] - torch.eye(3, dtype=torch.float64)).flatten(1).numpy()
    targets, weights = _morphs(data.pose_correctives, features, correctives)

    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.add(vertices.astype("<f4"), "VEC3", ARRAY_BUFFER, True),
        "NORMAL": buffer.add(_normals(vertices, data.faces).astype("<f4"), "VEC3", ARRAY_BUFFER),
    }
    for number, (index, value) in enumerate(_influences(data.weights)):
        attributes[f"JOINTS_{number}"] = buffer.add(index.astype("<u2"), "VEC4", ARRAY_BUFFER)
        attributes[f"WEIGHTS_{number}"] = buffer.add(value.astype("<f4"), "VEC4", ARRAY_BUFFER)
    primitive = {
        "attributes": attributes,
        "indices": buffer.add(data.faces.reshape(-1, 1).astype("<u4"), "SCALAR", ELEMENT_BUFFER),
        "material": 0,
    }
    if len(targets):
        primitive["targets"] = [
            {"POSITION": buffer.add(target.astype("<f4"), "VEC3", ARRAY_BUFFER, True)} for target in targets
        ]
    inverse = np.tile(np.eye(4), (j, 1, 1))
    inverse[:, :3, 3] = -joints
    skin = {
        "joints": list(range(1, j + 1)),
        "skeleton": 1,
        "inverseBindMatrices": buffer.add(inverse.transpose(0, 2, 1).reshape(j, 16).astype("<f4"), "MAT4"),
    }
    offsets = rest_offsets(torch.from_numpy(joints), model.parents).numpy()
    quaternions = matrix_to_quaternion(rotations).numpy()
    for frame in range(1, frames):  # the nearer of q and -q, so that players do not turn the long way round
        flip = (quaternions[frame] * quaternions[frame - 1]).sum(-1) < 0
        quaternions[frame, flip] *= -1
    wxyz = quaternions[..., [1, 2, 3, 0]]
    root = offsets[0] + translation
    nodes = [{"name": "mesh", "mesh": 0, "skin": 0}]
    for joint in range(j):
        node = {
            "name": data.joint_names[joint],
            "translation": (root[0] if joint == 0 else offsets[joint]).tolist(),
            "rotation": wxyz[0, joint].tolist(),
        }
        children = [1 + child for child in range(j) if data.parents[child] == joint]
        nodes.append(node | ({"children": children} if children else {}))
    mesh = {"name": f"{data.layout} {data.side}", "primitives": [primitive]}
    if len(targets):
        mesh["weights"] = weights[0].tolist()
    document = {
        "asset": {"version": "2.0", "generator": "Fieldstone"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": nodes,
        "meshes": [mesh],
        "skins": [skin],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {
                    "baseColorFactor": [*colour, 1.0],
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.7,
                },
                "doubleSided": True,
            }
        ],
    }
    if frames > 1:
        document["animations"] = [_animation(buffer, wxyz, root, weights, frames_per_second)]
    document |= {
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    atomic_write_bytes(path, _container(document, bytes(buffer.data)))


def _morphs(basis: np.ndarray, features: np.ndarray, rule: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Morph targets (v, 3) each, and their weights (n, targets)."""
    if rule not in ("auto", "features", "frames"):
        raise UserError(f"correctives: expected auto, features or frames, found {rule!r}")
    used = np.nonzero(np.abs(basis).max((0, 1)) > 1e-9)[0]
    if not len(used):
        return [], np.zeros((len(features), 0))
    if rule == "features" or (rule == "auto" and len(used) <= len(features)):
        return [basis[:, :, column] for column in used], features[:, used]
    return [basis @ feature for feature in features], np.eye(len(features))


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals: glTF allows no zero ones."""
    normals = vertex_normals(vertices, faces)
    normals[np.linalg.norm(normals, axis=1) == 0] = (0, 0, 1)
    return normals


def _influences(weights: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Sets of four joints and weights, largest first, until every weight is in one."""
    most = int((weights > 0).sum(1).max())
    sets = -(-most // 4)
    order = np.argsort(-weights, 1, kind="stable")[:, : 4 * sets]
    value = np.take_along_axis(weights, order, 1)
    pad = 4 * sets - order.shape[1]
    order, value = np.pad(order, ((0, 0), (0, pad))), np.pad(value, ((0, 0), (0, pad)))
    order = np.where(value > 0, order, 0)  # glTF: unused joints are 0
    return [(order[:, 4 * i : 4 * i + 4], value[:, 4 * i : 4 * i + 4]) for i in range(sets)]


def _animation(
    buffer: _Buffer, rotation: np.ndarray, root: np.ndarray, weights: np.ndarray, rate: float
) -> dict:
    frames = len(rotation)
    times = buffer.add((np.arange(frames) / rate).reshape(-1, 1).astype("<f4"), "SCALAR", None, True)
    samplers, channels = [], []

    def channel(node: int, path: str, output: int) -> None:
        samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    for joint in range(rotation.shape[1]):
        channel(1 + joint, "rotation", buffer.add(rotation[:, joint].astype("<f4"), "VEC4"))
    channel(1, "translation", buffer.add(root.astype("<f4"), "VEC3"))
    if weights.shape[1]:
        channel(0, "weights", buffer.add(weights.reshape(-1, 1).astype("<f4"), "SCALAR"))
    return {"name": "motion", "samplers": samplers, "channels": channels}


def _container(document: dict, binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    )
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
