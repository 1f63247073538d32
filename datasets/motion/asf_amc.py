"""Acclaim skeletons and motion (ASF and AMC), the format of the CMU archive.

A bone's rotation is L = C M C^-1: C turns the world's axes into the bone's (`axis`), M is made of the frame's degrees of
freedom (J. Lander, "Working with Motion Capture File Formats", Game Developer 1998). CMU's length unit: `length 0.45`
means that a value divided by 0.45 is in inches.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .skeleton import SkeletonMotion, euler_rotation
from .text_file import numbers, read_text

__all__ = ["read_asf_amc"]


@dataclass
class _Bone:
    name: str
    vector: np.ndarray = field(default_factory=lambda: np.zeros(3))
    axis: np.ndarray = field(default_factory=lambda: np.eye(3))
    channels: tuple[str, ...] = ()
    parent: str = ""


def read_asf_amc(
    motion: str | os.PathLike,  # .amc
    skeleton: str | os.PathLike | None = None,  # .asf; the subject's file beside the motion if None
    frames_per_second: float = 120.0,  # the format states no rate; CMU's is 120
) -> SkeletonMotion:
    """A CMU-style capture: one joint where each bone begins, one more at the end of each leaf bone; metres.

    Raises UserError for a bone the skeleton lacks, a frame with another number of values, an unknown degree of freedom.
    """
    motion = Path(motion)
    skeleton = _skeleton_beside(motion) if skeleton is None else Path(skeleton)
    bones, scale, degrees = _skeleton(skeleton)
    frames = _frames(motion, bones)
    to_radians = np.pi / 180 if degrees else 1.0

    names = list(bones)
    leaves = [name for name in names if name not in {bone.parent for bone in bones.values()}]
    joints = names + [f"{name}_end" for name in leaves]
    parents = [names.index(bones[n].parent) if bones[n].parent else -1 for n in names]
    parents += [names.index(name) for name in leaves]
    offsets = np.array(
        [bones[bones[n].parent].vector if bones[n].parent else np.zeros(3) for n in names]
        + [bones[n].vector for n in leaves]
    ).reshape(-1, 3)

    count = len(next(iter(frames.values())))
    rotations = np.tile(np.eye(3), (count, len(joints), 1, 1))
    translations = np.tile(offsets, (count, 1, 1))
    for joint, name in enumerate(names):
        bone, values = bones[name], frames.get(name)
        if values is None:
            continue
        turns = [i for i, channel in enumerate(bone.channels) if channel[0] == "r"]
        # Acclaim composes its Euler angles about fixed axes: the channel listed first is applied first, so it is innermost
        order = "".join(bone.channels[i][1] for i in reversed(turns))
        local = euler_rotation(values[:, turns[::-1]] * to_radians, order)
        rotations[:, joint] = bone.axis @ local @ bone.axis.T
        for i, channel in enumerate(bone.channels):
            if channel[0] == "t":
                translations[:, joint, "xyz".index(channel[1])] += values[:, i]
    return SkeletonMotion(
        tuple(joints),
        np.array(parents),
        offsets * scale,
        rotations,
        translations * scale,
        frames_per_second,
        motion.name,
    )


def _skeleton_beside(motion: Path) -> Path:
    """CMU names motions SUBJECT_TAKE.amc and the skeleton SUBJECT.asf."""
    tried = [motion.with_suffix(".asf"), motion.with_name(motion.stem.split("_")[0] + ".asf")]
    for path in tried:
        if path.is_file():
            return path
    raise UserError(
        f"{motion}: an .amc file needs its skeleton; looked for {tried[0].name} and {tried[1].name} beside it"
    )


def _lines(path: Path) -> list[list[str]]:
    return [line.split("#")[0].split() for line in read_text(path).splitlines()]


def _skeleton(path: Path) -> tuple[dict[str, _Bone], float, bool]:
    """Bones by name with the root first (parents before children), metres per unit, and whether angles are degrees."""
    root = _Bone("root")
    found: dict[str, _Bone] = {}
    scale, degrees, section, bone = 1.0, True, "", None
    edges: list[tuple[str, str]] = []
    axis_angles, position = np.zeros(3), np.zeros(3)
    for words in _lines(path):
        if not words:
            continue
        if words[0].startswith(":"):
            section = words[0][1:].lower()
            continue
        key, rest = words[0].lower(), words[1:]
        where = f":{section} {key}"
        if section == "units":
            if key == "length":
                length = numbers(path, where, rest, 1)[0]
                if not length > 0:
                    raise UserError(f"{path}: {where}: expected a number above 0, found {length}")
                scale = 0.0254 / length
            elif key == "angle":
                degrees = rest != ["rad"]
        elif section == "root":
            if key == "order":
                root.channels = _channels(path, rest)
            elif key == "position":
                position = numbers(path, where, rest, 3)
            elif key == "orientation":
                axis_angles = numbers(path, where, rest, 3)
        elif section == "bonedata":
            if key == "begin":
                bone = _Bone("")
            elif key == "end":
                if bone is None or not bone.name:
                    raise UserError(f"{path}: :bonedata: a bone without a name")
                found[bone.name] = bone
            elif bone is None:
                raise UserError(f"{path}: :bonedata: {key!r} before any 'begin'")
            elif key == "name":
                bone.name = rest[0] if rest else ""
            elif key == "direction":
                bone.vector = numbers(path, where, rest, 3)
            elif key == "length":
                bone.vector = bone.vector * numbers(path, where, rest, 1)[0]
            elif key == "axis":
                angles = numbers(path, where, rest[:3], 3) * (np.pi / 180 if degrees else 1)
                order = (rest[3] if len(rest) > 3 else "XYZ").lower()
                if sorted(order) != ["x", "y", "z"]:
                    raise UserError(f"{path}: {where}: expected an order such as XYZ, found {order!r}")
                bone.axis = euler_rotation(angles[::-1], order[::-1])
            elif key == "dof":
                bone.channels = _channels(path, rest)
        elif section == "hierarchy" and key not in ("begin", "end"):
            edges += [(key if key == "root" else words[0], child) for child in rest]
    root.axis = euler_rotation(axis_angles[::-1] * (np.pi / 180 if degrees else 1), "zyx")
    if position.any():
        raise UserError(f"{path}: :root position {position}: only a root at the origin is read")
    bones = {"root": root}
    for parent, child in edges:
        if parent not in bones or child not in found:
            raise UserError(
                f"{path}: :hierarchy: {parent} -> {child}: unknown bone, or a parent after its child"
            )
        found[child].parent = parent
        bones[child] = found[child]
    if len(bones) < 2:
        raise UserError(f"{path}: :hierarchy names no bones; is this an .asf file?")
    return bones, scale, degrees


def _channels(path: Path, words: list[str]) -> tuple[str, ...]:
    listed = tuple(word.lower() for word in words)
    unknown = [word for word in listed if word not in ("tx", "ty", "tz", "rx", "ry", "rz")]
    if unknown:
        raise UserError(f"{path}: degree of freedom {unknown[0]!r}: tx ty tz rx ry rz are read")
    return listed


def _frames(path: Path, bones: dict[str, _Bone]) -> dict[str, np.ndarray]:
    """(t, degrees of freedom) of each bone that moves."""
    tokens: dict[str, list[list[str]]] = {name: [] for name, bone in bones.items() if bone.channels}
    count = 0
    for words in _lines(path):
        if not words or words[0].startswith(":"):
            continue
        if len(words) == 1 and words[0].isdigit():
            count += 1
            continue
        name, values = words[0], words[1:]
        if name not in tokens:
            raise UserError(
                f"{path}: frame {count}: bone {name!r} has no degrees of freedom in the skeleton; is it another subject's?"
            )
        if len(values) != len(bones[name].channels):
            raise UserError(
                f"{path}: frame {count}: {name}: expected {len(bones[name].channels)} values, found {len(values)}"
            )
        tokens[name].append(values)
    if not count:
        raise UserError(f"{path}: no frames found; is this an .amc file?")
    short = [name for name, rows in tokens.items() if len(rows) not in (0, count)]
    if short:
        raise UserError(f"{path}: {short[0]}: {len(tokens[short[0]])} frames, expected {count}")
    flat = {name: [v for row in rows for v in row] for name, rows in tokens.items() if rows}
    return {name: numbers(path, name, values).reshape(count, -1) for name, values in flat.items()}
