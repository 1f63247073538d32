"""Motion capture onto a body model: every bone of the body takes the direction, and the turn about itself, of its counterpart.

With G the source joint's rotation in the world (the unit matrix in the source's rest pose) the body's is G A, where A turns the body's
rest bones into the source's rest bones: the whole of them first, as two skeletons may face differently, then each bone by the
smallest turn. Two skeletons in unlike rest poses (T-pose, A-pose, legs apart) thus move alike. The path is scaled by the ratio of leg
lengths, so feet stay where they stand and the source's unit cancels out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from ...datasets.motion import BodySequence, SkeletonMotion, read_amass, read_asf_amc, read_bvh
from ...fields.articulated.built_in import BUILT_IN
from ...fields.articulated.model_data import ModelData
from .fitting.initial import kabsch
from .fitting.so3 import exp, log
from .models import model_data
from .result import HandResult, write_result

__all__ = ["Retargeted", "joint_map", "retarget", "retarget_amass", "retarget_file"]

_SIDED = {
    "hip": ("upleg", "femur", "hip", "thigh", "upperleg"),
    "knee": ("leg", "tibia", "knee", "shin", "lowleg", "calf", "lowerleg"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toes", "toe", "foot"),
    "collar": ("clavicle", "collar", "shoulder"),
    "shoulder": ("arm", "humerus", "uparm", "upperarm", "shldr", "shoulder"),
    "elbow": ("forearm", "radius", "elbow", "lowarm", "lowerarm"),
    "wrist": ("wrist", "hand"),
}
"""Joint of the body -> what the common skeletons (CMU, Mixamo, Motion Builder, ours) call it, after the side; the first one found counts."""
_PELVIS = ("hips", "root", "pelvis", "hip")
_NEEDED = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")


@dataclass(frozen=True)
class Retargeted:
    """A motion of the body, and how well its bones follow."""

    pose: np.ndarray
    """(t, j, 3) axis-angles."""
    translation: np.ndarray
    """(t, 3) metres."""
    direction_deg: float
    """Mean angle between bones of the body and of the source."""
    scale: float
    """Metres of the body per unit of the source."""
    mapped: dict[str, str]
    """Joint of the body -> joint of the source."""


def joint_map(names: tuple[str, ...], parents: np.ndarray, where: str = "motion") -> dict[str, str]:
    """Joint of the body -> joint of the source, for what is recognised. Raises UserError that names what is missing."""
    plain = {}
    for name in names:
        if not name.endswith("_end"):
            plain.setdefault(_plain(name), name)
    found: dict[str, str] = {}
    pelvis = next((plain[a] for a in _PELVIS if a in plain), None)
    if pelvis is None:
        raise UserError(
            f"{where}: no joint for the pelvis; looked for {', '.join(_PELVIS)}, found {', '.join(names[:6])}, ..."
        )
    found["pelvis"] = pelvis
    for side, prefixes in (("left", ("left", "l")), ("right", ("right", "r"))):
        used: set[str] = set()
        for joint, words in sorted(
            _SIDED.items(), key=lambda item: item[0] == "collar"
        ):  # a lone "shoulder" is the shoulder
            for name in (plain.get(p + w) for w in words for p in prefixes):
                if name is not None and name not in used:
                    found[f"{side}_{joint}"] = name
                    used.add(name)
                    break
            else:
                if joint in _NEEDED:
                    looked = ", ".join(f"{side}{w}" for w in words)
                    raise UserError(
                        f"{where}: no joint for the {side} {joint}; looked for {looked}; found {', '.join(names[:8])}, ..."
                    )
    head = next((name for key, name in plain.items() if key == "head"), None)
    if head is not None:
        found["head"] = head
        chain = _above(names, parents, head, pelvis)
        neck = [name for name in chain if "neck" in _plain(name)]
        if neck:
            found["neck"] = neck[0]
        spine = [name for name in chain if name not in neck]
        for joint, name in zip({0: (), 1: (1,), 2: (1, 3)}.get(len(spine), (1, 2, 3)), _spread(spine)):
            found[f"spine{joint}"] = name
    return found


def retarget(data: ModelData, motion: SkeletonMotion) -> Retargeted:
    """A skeleton's motion onto a model with a body. Raises UserError for hands, and for skeletons that are not a person's."""
    if data.layout not in ("smpl", "smplh", "smplx"):
        raise UserError(
            f"{motion.source}: a motion of a body needs a body model (--model body), found layout {data.layout}"
        )
    mapped = joint_map(motion.names, motion.parents, motion.source)
    body = [data.joint_names.index(name) for name in mapped]
    place = dict(zip(body, (motion.names.index(name) for name in mapped.values())))
    rest, source_rest = data.joints, motion.rest().positions()[0]
    world = motion.transforms()
    spread = source_rest.max(0) - source_rest.min(0)
    if not (np.linalg.norm(spread) > 0 and np.isfinite(world).all()):
        raise UserError(f"{motion.source}: the skeleton has no extent")
    facing = kabsch(_centred(rest, body), _centred(source_rest, list(place.values())), centred=False)[0]
    parents = [int(p) for p in data.parents]
    turned = np.empty((len(motion), len(parents), 3, 3))
    aligned = np.empty((len(parents), 3, 3))
    bones = []
    for joint, parent in enumerate(parents):
        if joint not in place:
            aligned[joint], turned[:, joint] = aligned[parent], turned[:, parent]
            continue
        own, theirs = _bones(joint, place, parents, rest, source_rest, motion.parents)
        aligned[joint] = (
            _alignment(own, theirs, facing) if len(own) else (facing if parent < 0 else aligned[parent])
        )
        turned[:, joint] = world[:, place[joint], :3, :3] @ aligned[joint]
        for a, b in zip(own, theirs):
            cosine = ((turned[:, joint] @ a) * (world[:, place[joint], :3, :3] @ b)).sum(-1)
            bones.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    local = turned.copy()
    for joint, parent in enumerate(parents[1:], 1):
        local[:, joint] = turned[:, parent].swapaxes(1, 2) @ turned[:, joint]
    scale = _leg(rest, data.joint_names.index) / _leg(
        source_rest, lambda name: motion.names.index(mapped[name])
    )
    translation = scale * world[:, place[0], :3, 3] - rest[0]
    return Retargeted(log(local), translation, float(np.mean(bones)), float(scale), mapped)


def retarget_amass(data: ModelData, motion: BodySequence, where: str = "motion") -> Retargeted:
    """AMASS's parameters as they are, in the model's layout; joints that the sequence or the model lacks stay at rest."""
    if data.layout not in ("smpl", "smplh", "smplx"):
        raise UserError(
            f"{where}: a motion of a body needs a body model (--model body), found layout {data.layout}"
        )
    pose = np.zeros((len(motion), len(data.parents), 3))
    full = motion.smplh().poses
    pose[:, :22] = full[:, :22]
    for side, start in (("left", 22), ("right", 37)):
        if data.layout != "smpl":
            first = data.joint_names.index(f"{side}_index1")
            pose[:, first : first + 15] = full[:, start : start + 15]
    return Retargeted(pose, motion.translation, 0.0, 1.0, {name: name for name in data.joint_names})


def retarget_file(path: str | os.PathLike, model: str, out: Path) -> list[str]:
    """What `hand fit MOTION` does: reads .bvh, .amc or AMASS .npz, writes the result, says what was done."""
    path = Path(path)
    data, lines = model_data(model), []
    shape = np.zeros(data.shape_basis.shape[2])
    if path.suffix.lower() == ".npz":
        sequence = read_amass(path)
        found, rate = retarget_amass(data, sequence, str(path)), sequence.frames_per_second
        if model in BUILT_IN:
            lines.append(
                f"note: the sequence's {len(sequence.shape)} shape numbers belong to its own model; {model} keeps its mean shape"
            )
        else:
            count = min(len(shape), len(sequence.shape))
            shape[:count] = sequence.shape[:count]
        lines.append(
            "note: AMASS is z up, and its pelvis is the rest pelvis of its own model away from the translation"
        )
    else:
        motion = read_bvh(path) if path.suffix.lower() == ".bvh" else read_asf_amc(path)
        found, rate = retarget(data, motion), motion.frames_per_second
        lines.append(
            f"{len(found.mapped)} joints mapped, bones point as the source's within {found.direction_deg:.2g} degrees on average; "
            f"path scaled by {found.scale:.4g} (leg lengths)"
        )
        left_out = [name for name in data.joint_names[:22] if name not in found.mapped]
        if left_out:
            lines.append(f"note: without counterpart, at rest: {', '.join(left_out)}")
    info = {
        "retargeted_from": path.name,
        "direction_deg": found.direction_deg,
        "scale": found.scale,
        "mapped": found.mapped,
    }
    write_result(out, HandResult(model, shape, found.pose, found.translation, rate, data.sha256(), info))
    return [f"{out}: {len(found.pose)} frames at {rate:g} a second", *lines]


def _plain(name: str) -> str:
    return name.split(":")[-1].lower().replace("_", "").replace(" ", "").replace("-", "")


def _above(names: tuple[str, ...], parents: np.ndarray, joint: str, root: str) -> list[str]:
    """Joints between root and joint, from the root on."""
    chain, at = [], int(parents[names.index(joint)])
    while at >= 0 and names[at] != root:
        chain.append(names[at])
        at = int(parents[at])
    return chain[::-1]


def _spread(spine: list[str]) -> list[str]:
    return spine if len(spine) <= 3 else [spine[0], spine[len(spine) // 2], spine[-1]]


def _centred(points: np.ndarray, rows: list[int]) -> np.ndarray:
    return points[rows] - points[rows].mean(0)


def _leg(points: np.ndarray, index) -> float:
    hip, knee, ankle = (points[index(f"left_{name}")] for name in ("hip", "knee", "ankle"))
    length = float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
    if not length > 0:
        raise UserError("motion: the legs have no length in the skeleton's rest pose")
    return length


def _bones(
    joint: int,
    place: dict[int, int],
    parents: list[int],
    rest: np.ndarray,
    source: np.ndarray,
    source_parents: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (k, 3) from a joint to what hangs on it next, in the body and in the source."""
    next_ones = [k for k in place if _next_mapped(k, parents, place) == joint]
    pairs = [(rest[k] - rest[joint], source[place[k]] - source[place[joint]]) for k in next_ones]
    if not pairs:  # wrists: towards the middle of the fingers
        own = [k for k in range(len(parents)) if parents[k] == joint]
        theirs = [k for k in range(len(source_parents)) if source_parents[k] == place[joint]]
        if own and theirs:
            pairs = [(rest[own].mean(0) - rest[joint], source[theirs].mean(0) - source[place[joint]])]
    long = [
        (a, b) for a, b in pairs if np.linalg.norm(a) > 1e-6 and np.linalg.norm(b) > 1e-6 * np.ptp(source)
    ]
    own, theirs = (
        np.array([pair[i] / np.linalg.norm(pair[i]) for pair in long]).reshape(-1, 3) for i in (0, 1)
    )
    return own, theirs


def _next_mapped(joint: int, parents: list[int], place: dict[int, int]) -> int:
    at = parents[joint]
    while at >= 0 and at not in place:
        at = parents[at]
    return at


def _alignment(own: np.ndarray, theirs: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """The rotation that takes the body's rest bones into the source's, nearest to `facing` where they leave a choice."""
    if len(own) > 1:
        # a weak pull of three axes decides what nearly parallel bones leave open
        return kabsch(
            np.concatenate((own, 0.1 * np.eye(3))), np.concatenate((theirs, 0.1 * facing.T)), centred=False
        )[0]
    start = facing @ own[0]
    axis = np.cross(start, theirs[0])
    sine, cosine = np.linalg.norm(axis), float(start @ theirs[0])
    if sine < 1e-9:
        if cosine > 0:
            return facing
        axis = np.cross(start, np.eye(3)[np.abs(start).argmin()])
        return exp(np.pi * axis / np.linalg.norm(axis)) @ facing
    return exp(axis / sine * np.arctan2(sine, cosine)) @ facing
