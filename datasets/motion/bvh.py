"""BVH (Biovision hierarchy), as described by Meredith and Maddock, "Motion Capture File Formats Explained" (2001)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .skeleton import SkeletonMotion, euler_rotation
from .text_file import numbers, read_text

__all__ = ["read_bvh"]

_MOST_JOINTS = 4096
_POSITION = ("xposition", "yposition", "zposition")


def read_bvh(
    path: str | os.PathLike,
    metres_per_unit: float = 1.0,  # the format states no unit: 0.01 for centimetres, 0.0254 / 0.45 for CMU's
) -> SkeletonMotion:
    """A BVH file's skeleton and frames.

    Rotation channels are applied in the order they are listed, the first outermost (R = R_1 R_2 R_3). Position channels
    replace the joint's offset, as the exporters of the common archives mean them. Raises UserError naming the line's
    content for an unknown channel, numbers that are missing, or more than 4096 joints.
    """
    path = Path(path)
    text = read_text(path)
    hierarchy, found, motion = text.partition("MOTION")
    if not hierarchy.lstrip().startswith("HIERARCHY") or not found:
        raise UserError(f"{path}: a BVH file has a HIERARCHY, then a MOTION; found neither or only one")
    names, parents, offsets, channels = _hierarchy(path, hierarchy)
    frames, seconds, values = _motion(path, motion, sum(len(c) for c in channels))

    joints = len(names)
    rotations = np.tile(np.eye(3), (frames, joints, 1, 1))
    offsets = np.array(offsets) * metres_per_unit
    translations = np.tile(offsets, (frames, 1, 1))
    column = 0
    for joint, listed in enumerate(channels):
        turns = []
        for channel in listed:
            if channel in _POSITION:
                translations[:, joint, _POSITION.index(channel)] = values[:, column] * metres_per_unit
            else:
                turns.append(column)
            column += 1
        if turns:
            order = "".join(c[0] for c in listed if c not in _POSITION)
            rotations[:, joint] = euler_rotation(np.radians(values[:, turns]), order)
    return SkeletonMotion(
        tuple(names), np.array(parents), offsets, rotations, translations, 1 / seconds, path.name
    )


def _hierarchy(path: Path, text: str) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    """Names, parents, offsets and channel names (lower case) of every joint, ends included."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    open_joints: list[int] = []
    tokens = text.split()[1:]
    at = 0

    def take(count: int, what: str) -> list[str]:
        nonlocal at
        if at + count > len(tokens):
            raise UserError(f"{path}: HIERARCHY ends inside {what}")
        at += count
        return tokens[at - count : at]

    while at < len(tokens):
        (word,) = take(1, "a joint")
        if word in ("ROOT", "JOINT", "End"):
            parent = open_joints[-1] if open_joints else -1
            if (word == "ROOT") != (parent < 0):
                raise UserError(
                    f"{path}: HIERARCHY: {word} where a {'ROOT' if parent < 0 else 'JOINT'} belongs"
                )
            label = []
            while at < len(tokens) and tokens[at] != "{":  # names with blanks exist
                label += take(1, "a name")
            name = f"{names[parent]}_end" if word == "End" else " ".join(label)
            if word == "ROOT" and names:
                raise UserError(f"{path}: HIERARCHY: second ROOT {name!r}; split the file, one skeleton each")
            if len(names) >= _MOST_JOINTS:
                raise UserError(f"{path}: HIERARCHY: more than {_MOST_JOINTS} joints")
            names.append(name)
            parents.append(parent)
            offsets.append([0.0, 0.0, 0.0])
            channels.append([])
        elif word == "{":
            open_joints.append(len(names) - 1)
        elif word == "}":
            if not open_joints:
                raise UserError(f"{path}: HIERARCHY: a }} too many after {names[-1] if names else 'nothing'}")
            open_joints.pop()
        elif word == "OFFSET" and open_joints:
            offsets[open_joints[-1]] = numbers(path, f"OFFSET of {names[-1]}", take(3, "OFFSET")).tolist()
        elif word == "CHANNELS" and open_joints:
            (count,) = take(1, "CHANNELS")
            if count not in tuple("0123456"):
                raise UserError(f"{path}: CHANNELS of {names[-1]}: expected 0 to 6, found {count!r}")
            listed = [c.lower() for c in take(int(count), "CHANNELS")]
            known = {f"{a}{kind}" for a in "xyz" for kind in ("position", "rotation")}
            if not set(listed) <= known or len(set(listed)) != len(listed):
                raise UserError(
                    f"{path}: CHANNELS of {names[-1]}: found {' '.join(listed)}, expected X/Y/Z position/rotation"
                )
            channels[open_joints[-1]] = listed
        else:
            raise UserError(f"{path}: HIERARCHY: {word!r} is not a word of the format")
    if open_joints or not names:
        raise UserError(
            f"{path}: HIERARCHY: {'no joints' if not names else f'{names[open_joints[-1]]} is not closed'}"
        )
    return names, parents, offsets, channels


def _motion(path: Path, text: str, columns: int) -> tuple[int, float, np.ndarray]:
    """Number of frames, seconds a frame, and values (frames, columns)."""
    head, found, rest = text.partition("Frame Time:")
    words = head.split()
    if not found or len(words) != 2 or words[0] != "Frames:" or not words[1].isdigit():
        raise UserError(
            f"{path}: MOTION: expected 'Frames: N' and 'Frame Time: S', found {' '.join(words)[:60]!r}"
        )
    tokens = rest.split()
    seconds = float(numbers(path, "Frame Time", tokens[:1], 1)[0])
    if not seconds > 0:
        raise UserError(f"{path}: MOTION: Frame Time is {seconds}, expected seconds above 0")
    frames = int(words[1])
    values = numbers(path, f"MOTION of {frames} frames of {columns} channels", tokens[1:], frames * columns)
    return frames, seconds, values.reshape(frames, columns)
