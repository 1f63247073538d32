"""Random models in MANO's format, the plain reference they are judged by, and pickles as MANO's are."""

import io
import pickle
import sys
import types

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.spatial.transform import Rotation

from fieldstone.fields.articulated.layouts import LAYOUTS
from fieldstone.fields.articulated.model_data import ModelData


def disk_faces(rings: int, around: int) -> np.ndarray:
    """A disk: a centre and rings of vertices, open at the outermost ring."""
    faces = [(0, 1 + i, 1 + (i + 1) % around) for i in range(around)]
    for ring in range(rings - 1):
        a, b = 1 + ring * around, 1 + (ring + 1) * around
        for i in range(around):
            k = (i + 1) % around
            faces += [(a + i, b + i, b + k), (a + i, b + k, a + k)]
    return np.array(faces)


def random_arrays(layout: str = "mano", seed: int = 0, shapes: int = 10, vertices: int | None = None) -> dict:
    """Valid arrays of a model with 778 vertices (MANO) or fewer, all entries random."""
    generator = np.random.default_rng(seed)
    parents = np.array(LAYOUTS[layout].parents)
    j, v = len(parents), vertices or 778
    weights = generator.random((v, j)) ** 6
    regressor = generator.random((j, v)) ** 12
    template = generator.normal(0, 0.05, (v, 3))
    return {
        "template": template,
        "shape_basis": generator.normal(0, 0.005, (v, 3, shapes)),
        "pose_correctives": generator.normal(0, 0.001, (v, 3, 9 * (j - 1))),
        "joint_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "parents": parents,
        "faces": disk_faces((v - 1) // 16, 16) if v > 17 else np.zeros((0, 3), int),
        "pose_mean": generator.normal(0, 0.2, 3 * (j - 1)),
        "pose_components": generator.normal(0, 0.3, (45, 3 * (j - 1))) if layout == "mano" else None,
    }


def random_model(layout: str = "mano", seed: int = 0, **other) -> ModelData:
    return ModelData.checked(
        random_arrays(layout, seed, **other), side="right" if layout == "mano" else "both"
    )


def reference(data: ModelData, shape: np.ndarray, axis_angles: np.ndarray, translation=0.0):
    """Vertices and joints by the equations of the paper, one body, one joint at a time, in float64 NumPy."""
    shaped = data.template + data.shape_basis @ shape
    joints = data.joint_regressor @ shaped
    turns = Rotation.from_rotvec(axis_angles.reshape(-1, 3)).as_matrix()
    feature = np.concatenate([(turn - np.eye(3)).ravel() for turn in turns[1:]])
    corrected = shaped + data.pose_correctives @ feature
    world = []
    for k, parent in enumerate(data.parents):
        local = np.eye(4)
        local[:3, :3] = turns[k]
        local[:3, 3] = joints[k] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    world = np.array(world)
    motion = world.copy()
    for k in range(len(joints)):
        motion[k, :3, 3] -= world[k, :3, :3] @ joints[k]
    vertices = np.zeros_like(corrected)
    for k in range(len(joints)):
        moved = corrected @ motion[k, :3, :3].T + motion[k, :3, 3]
        vertices += data.weights[:, k : k + 1] * moved
    return vertices + translation, world[:, :3, 3] + translation


def mano_dictionary(data: ModelData) -> dict:
    """The arrays under MANO's names, as its file has them: uint32 faces, 2^32 - 1 for the root, a sparse regressor."""
    j = len(data.parents)
    tree = np.stack((np.where(data.parents < 0, 2**32 - 1, data.parents), np.arange(j))).astype(np.uint32)
    result = {
        "v_template": data.template,
        "shapedirs": data.shape_basis,
        "posedirs": data.pose_correctives,
        "J_regressor": csc_matrix(data.joint_regressor),
        "weights": data.weights,
        "f": data.faces.astype(np.uint32),
        "kintree_table": tree,
        "J": data.joints,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }
    if data.layout == "mano" and len(data.pose_components):
        result |= {
            "hands_components": data.pose_components,
            "hands_mean": data.pose_mean,
            "hands_coeffs": np.zeros((7, 45)),
        }
    return result


def legacy_pickle(values: dict, protocol: int = 2) -> bytes:
    """A pickle with chumpy objects and old module names, as Python 2 wrote MANO's: the classes are stand-ins made here."""
    names = ("chumpy", "chumpy.ch", "chumpy.reordering", "scipy.sparse.csc")
    kept = {name: sys.modules.get(name) for name in names}
    try:
        modules = {name: types.ModuleType(name) for name in names}
        for name, module in modules.items():
            sys.modules[name] = module

        class Ch:
            pass

        class Select(Ch):
            pass

        class csc_old:
            pass

        Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
        Select.__module__, Select.__qualname__ = "chumpy.reordering", "Select"
        csc_old.__module__, csc_old.__name__, csc_old.__qualname__ = (
            "scipy.sparse.csc",
            "csc_matrix",
            "csc_matrix",
        )
        modules["chumpy.ch"].Ch = Ch
        modules["chumpy.reordering"].Select = Select
        modules["scipy.sparse.csc"].csc_matrix = csc_old
        out = dict(values)
        inner = Ch()
        basis = np.asarray(out["shapedirs"])
        padded = np.concatenate((basis, np.full((*basis.shape[:2], 2), 99.0)), 2)  # Select leaves columns out
        inner.x = padded.reshape(-1)
        select = Select()
        select.a = inner
        index = np.arange(padded.size).reshape(padded.shape)[:, :, : basis.shape[2]]
        select.idxs, select.preferred_shape = index.reshape(-1), basis.shape
        out["shapedirs"] = select
        sparse = out["J_regressor"]
        old = csc_old()
        old.__dict__ = {
            "_shape": sparse.shape,
            "data": sparse.data,
            "indices": sparse.indices,
            "indptr": sparse.indptr,
            "maxprint": 50,
        }
        out["J_regressor"] = old
        buffer = io.BytesIO()
        pickle.dump(out, buffer, protocol=protocol)
        return buffer.getvalue()
    finally:
        for name, module in kept.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@pytest.fixture(scope="session")
def mano() -> ModelData:
    return random_model("mano")


@pytest.fixture(scope="session")
def smplh() -> ModelData:
    return random_model("smplh", 1, vertices=161)
