"""Our body: SMPL+H's 52 joints, flesh around them, how bodies differ and how they move. Metres.

Rest frame as SMPL's: T-pose, y up, looking along +z, left arm to +x, palms down; the pelvis is the origin. 1.75 m tall.
"""

from __future__ import annotations

import itertools

import numpy as np

from ..layouts import LAYOUTS
from .anatomy import Anatomy
from .hand import OPENING, hand_anatomy, sample_hand_pose
from .implicit import Cone, Flesh

__all__ = ["body_anatomy", "sample_body_pose", "wrist_plane"]

_NAMES = LAYOUTS["smplh"].joint_names
_MIDDLE = {
    "pelvis": (0, 0, 0),
    "spine1": (0, 0.11, -0.012),
    "spine2": (0, 0.235, -0.02),
    "spine3": (0, 0.295, -0.01),
    "neck": (0, 0.505, -0.03),
    "head": (0, 0.595, 0.0),
}
_LEFT = {
    "hip": (0.088, -0.085, 0),
    "knee": (0.1, -0.475, 0.004),
    "ankle": (0.094, -0.875, -0.025),
    "foot": (0.112, -0.93, 0.1),
    "collar": (0.07, 0.42, -0.02),
    "shoulder": (0.182, 0.448, -0.03),
    "elbow": (0.452, 0.445, -0.04),
    "wrist": (0.71, 0.445, -0.035),
}
_ENDS = {"head": (0, 0.78, 0.01), "left_foot": (0.118, -0.94, 0.165), "neck": (0, 0.595, 0.0)}
_SPREAD = {"neck": 0.022, "head": 0.022, "foot": 0.014, "ankle": 0.022, "wrist": 0.007}
"""Metres, see `Anatomy.spread`."""


def wrist_plane() -> float:
    """|x| where the hands' open wrists are: arms are meshed up to here."""
    return _LEFT["wrist"][0] - OPENING / 1e3


def _skeleton() -> tuple[np.ndarray, np.ndarray]:
    hand = hand_anatomy()
    joints, ends = np.zeros((52, 3)), np.zeros((52, 3))
    mirror = np.array([-1.0, 1.0, 1.0])
    for index, name in enumerate(_NAMES[:22]):
        if name in _MIDDLE:
            joints[index] = _MIDDLE[name]
        else:
            side, part = name.split("_")
            joints[index] = np.array(_LEFT[part]) * (1 if side == "left" else mirror)
    after = {"pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck"}
    for side in ("left", "right"):
        chain = ("hip", "knee", "ankle", "foot")
        chain2 = ("collar", "shoulder", "elbow", "wrist")
        for line in (chain, chain2):
            after |= {f"{side}_{a}": f"{side}_{b}" for a, b in itertools.pairwise(line)}
    for index, name in enumerate(_NAMES[:22]):
        if name in after:
            ends[index] = joints[_NAMES.index(after[name])]
        elif name in _ENDS:
            ends[index] = _ENDS[name]
    ends[_NAMES.index("left_foot")] = _ENDS["left_foot"]
    ends[_NAMES.index("right_foot")] = np.array(_ENDS["left_foot"]) * mirror
    ends[_NAMES.index("neck")] = joints[_NAMES.index("head")]
    for side, start, flip in (("left", 22, mirror), ("right", 37, np.ones(3))):
        wrist = joints[_NAMES.index(f"{side}_wrist")]
        joints[start : start + 15] = wrist + hand.joints[1:] * flip
        ends[start : start + 15] = wrist + hand.ends[1:] * flip
        ends[_NAMES.index(f"{side}_wrist")] = wrist + hand.ends[0] * flip
    return joints, ends


def _cones(joints: np.ndarray) -> list[Cone]:
    cones: list[Cone] = []
    mirror = np.array([-1.0, 1.0, 1.0])

    def add(name: str, start, end, radii, flat=None, group: str = "trunk") -> None:
        cones.append(Cone(_NAMES.index(name), tuple(start), tuple(end), radii, group, flat))

    def pair(part: str, start, end, radii, flat=None) -> None:
        for side, flip in (("left", np.ones(3)), ("right", mirror)):
            add(f"{side}_{part}", np.array(start) * flip, np.array(end) * flip, radii, flat)

    add("pelvis", (-0.07, -0.02, 0), (0.07, -0.02, 0), (0.092, 0.092), (0, 0, 0.92))
    add("pelvis", (-0.065, -0.075, -0.035), (-0.06, -0.02, -0.035), (0.078, 0.07))
    add("pelvis", (0.065, -0.075, -0.035), (0.06, -0.02, -0.035), (0.078, 0.07))
    add("spine1", (-0.055, 0.10, 0.002), (0.055, 0.10, 0.002), (0.083, 0.083), (0, 0, 0.92))
    add("spine1", (-0.056, 0.15, 0.001), (0.056, 0.15, 0.001), (0.084, 0.084), (0, 0, 0.94))
    add("pelvis", (-0.06, 0.045, 0.001), (0.06, 0.045, 0.001), (0.086, 0.086), (0, 0, 0.92))
    add("spine2", (-0.062, 0.21, 0.0), (0.062, 0.21, 0.0), (0.086, 0.086), (0, 0, 0.95))
    add("spine3", (-0.072, 0.30, 0.004), (0.072, 0.30, 0.004), (0.095, 0.095), (0, 0, 0.98))
    add("spine3", (-0.08, 0.365, -0.005), (0.08, 0.365, -0.005), (0.086, 0.086))
    for x in (-1, 1):  # pectorals and shoulder blades
        add("spine3", (0.1 * x, 0.345, 0.05), (0.035 * x, 0.33, 0.055), (0.05, 0.05))
        add("spine3", (0.085 * x, 0.37, -0.065), (0.065 * x, 0.28, -0.06), (0.05, 0.045))
    pair("collar", (0.04, 0.455, -0.035), (0.15, 0.452, -0.032), (0.052, 0.05))
    pair("collar", (0.02, 0.48, -0.04), (0.11, 0.462, -0.035), (0.046, 0.036))
    add("neck", (0, 0.47, -0.032), (0, 0.6, -0.012), (0.056, 0.05))
    add("head", (0, 0.69, -0.018), (0, 0.695, 0.022), (0.083, 0.077), (0.93, 0, 0))
    add("head", (0, 0.715, -0.005), (0, 0.72, 0.01), (0.082, 0.08), (0.95, 0, 0))
    add("head", (0, 0.615, 0.045), (0, 0.66, 0.052), (0.042, 0.047))  # jaw
    add("head", (0, 0.602, 0.072), (0, 0.602, 0.074), (0.022, 0.022))  # chin
    add("head", (0, 0.676, 0.098), (0, 0.651, 0.112), (0.007, 0.0105))  # nose
    for x in (-1, 1):
        add("head", (0.076 * x, 0.675, -0.008), (0.08 * x, 0.65, -0.002), (0.016, 0.011), (0.55 * x, 0, 0))
    pair("shoulder", (0.178, 0.447, -0.03), (0.21, 0.444, -0.032), (0.06, 0.054))
    pair("shoulder", (0.19, 0.446, -0.031), (0.44, 0.444, -0.04), (0.043, 0.033))
    pair("shoulder", (0.28, 0.446, -0.025), (0.36, 0.446, -0.03), (0.034, 0.03))
    pair("elbow", (0.452, 0.445, -0.04), (0.63, 0.445, -0.037), (0.034, 0.018))
    pair("elbow", (0.49, 0.447, -0.036), (0.54, 0.447, -0.037), (0.034, 0.03))
    pair("elbow", (0.60, 0.445, -0.0285), (0.668, 0.445, -0.0265), (0.016, 0.0105), (0, 0.92, 0))
    pair("elbow", (0.60, 0.445, -0.0455), (0.668, 0.445, -0.0435), (0.016, 0.0105), (0, 0.92, 0))
    pair("hip", (0.082, -0.08, -0.005), (0.099, -0.46, 0.006), (0.086, 0.052))
    pair("hip", (0.098, -0.15, 0.012), (0.103, -0.3, 0.016), (0.074, 0.062))
    pair("knee", (0.1, -0.475, 0.006), (0.095, -0.86, -0.022), (0.05, 0.031))
    pair("knee", (0.1, -0.535, -0.022), (0.098, -0.635, -0.024), (0.047, 0.043))
    pair("ankle", (0.094, -0.875, -0.022), (0.094, -0.918, -0.05), (0.034, 0.031))
    pair("ankle", (0.094, -0.885, -0.012), (0.108, -0.926, 0.095), (0.036, 0.026))
    pair("ankle", (0.104, -0.922, 0.0), (0.122, -0.932, 0.09), (0.028, 0.021))
    pair("foot", (0.098, -0.928, 0.1), (0.102, -0.936, 0.17), (0.023, 0.0165))
    pair("foot", (0.124, -0.933, 0.09), (0.128, -0.938, 0.14), (0.019, 0.0145))
    hand = hand_anatomy()
    for side, start, flip in (("left", 22, mirror), ("right", 37, np.ones(3))):
        wrist = joints[_NAMES.index(f"{side}_wrist")]
        for cone in hand.flesh.cones:
            name = f"{side}_wrist" if cone.joint == 0 else _NAMES[start + cone.joint - 1]
            a, b = (wrist + np.array(point) * flip for point in (cone.start, cone.end))
            add(name, a, b, cone.radii, cone.flat, f"{side}_{cone.group}")
    return cones


def body_anatomy() -> Anatomy:
    """The whole body, with both hands."""
    joints, ends = _skeleton()
    hand = hand_anatomy()
    within = {"trunk": 0.011}
    for side in ("left", "right"):
        within |= {f"{side}_{group}": softness for group, softness in hand.flesh.within.items()}
    return Anatomy(
        _NAMES,
        LAYOUTS["smplh"].parents,
        joints,
        ends,
        Flesh(_cones(joints), within, hand.flesh.between),
        _spread(hand),
        _sample_scales,
        sample_body_pose,
        np.array([0.0, 0.0, 1.0]),
    )


def _spread(hand: Anatomy) -> np.ndarray:
    """(52,) metres: wide on the trunk, narrower towards the ends, the hands' own on fingers."""
    spread = np.full(52, 0.035)
    for index, name in enumerate(_NAMES[:22]):
        spread[index] = _SPREAD.get(name.split("_")[-1], 0.035)
    spread[22:] = np.tile(hand.spread[1:], 2)
    return spread


def _sample_scales(generator: np.random.Generator) -> np.ndarray:
    """(52, 3): height, build, legs, arms, trunk, shoulders, hips, belly, head, hands; left and right alike."""
    height, build, legs, arms, trunk, shoulders, hips, belly, head, hands = generator.normal(
        0, (0.055, 0.09, 0.03, 0.03, 0.025, 0.04, 0.05, 0.07, 0.025, 0.03)
    )
    scales = np.zeros((52, 3))

    def put(name: str, along: float, second: float, third: float) -> None:
        for index, joint in enumerate(_NAMES):
            if joint == name or joint in (f"left_{name}", f"right_{name}"):
                scales[index] = (along, second, third)

    # frames: along the bone; then forward (z), then sideways, as `second` is +z
    put("pelvis", height + trunk, height + build + hips, height + 0.6 * build + hips)
    put("spine1", height + trunk, height + build + belly, height + 0.8 * build + belly)
    put("spine2", height + trunk, height + build + 0.6 * belly, height + 0.7 * build + 0.5 * belly)
    put("spine3", height + trunk, height + build, height + 0.6 * build + shoulders)
    put("neck", height, height + 0.7 * build, height + 0.7 * build)
    put("head", 0.5 * height + head, 0.5 * height + head, 0.5 * height + head)
    for name in ("hip", "knee"):
        girth = height + build + (0.5 * hips if name == "hip" else 0) + generator.normal(0, 0.03)
        put(name, height + legs, girth, girth)
    put("ankle", height, height + 0.3 * build, height + 0.3 * build)
    put("foot", height, height, height)
    put("collar", height + shoulders, height + 0.6 * build, height + 0.6 * build)
    for name in ("shoulder", "elbow"):
        girth = height + build + generator.normal(0, 0.03)
        put(name, height + arms, girth, girth)
    put("wrist", height + hands, height + hands + 0.3 * build, height + hands + 0.3 * build)
    for index in range(22, 52):
        scales[index] = (height + hands, height + hands + 0.3 * build, height + hands + 0.3 * build)
    return 1 + scales.clip(-0.35, 0.45)


def sample_body_pose(generator: np.random.Generator) -> np.ndarray:
    """(52, 3): each joint turned within its limits, both hands too; the pelvis is left alone."""
    pose = np.zeros((52, 3))

    def put(name: str, mean: tuple, deviation: tuple) -> None:
        for side, sign in (("left", 1.0), ("right", -1.0)):
            full = name if name in _NAMES else f"{side}_{name}"
            value = generator.normal(mean, deviation)
            # the mirror image of (a, b, c) is (a, -b, -c): numbers are for the left side
            pose[_NAMES.index(full)] = value * ((1, 1, 1) if full == name or sign > 0 else (1, -1, -1))

    for name in ("spine1", "spine2", "spine3"):
        put(name, (0.08, 0, 0), (0.18, 0.12, 0.1))
    put("neck", (0.05, 0, 0), (0.2, 0.2, 0.12))
    put("head", (0.0, 0, 0), (0.2, 0.25, 0.12))
    put("hip", (-0.5, 0, 0.05), (0.55, 0.25, 0.22))
    put("ankle", (0, 0, 0), (0.3, 0.1, 0.12))
    put("foot", (-0.1, 0, 0), (0.2, 0.05, 0.05))
    put("collar", (0, -0.05, -0.05), (0.08, 0.12, 0.12))
    put("shoulder", (0, -0.3, -0.55), (0.35, 0.45, 0.5))
    put("wrist", (0, 0, 0), (0.35, 0.2, 0.4))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[_NAMES.index(f"{side}_knee"), 0] = 2.1 * generator.beta(1.1, 1.8)
        pose[_NAMES.index(f"{side}_elbow"), 1] = -sign * 2.2 * generator.beta(1.1, 1.5)
    pose[37:52] = sample_hand_pose(generator)[1:]
    pose[22:37] = sample_hand_pose(generator)[1:] * (1, -1, -1)
    return pose
