"""Our right hand: bones, flesh, how hands differ and how they move. Millimetres on this page, metres in what it gives.

Rest frame as MANO's: fingers to -x, back of the hand +y, thumb towards +z, wrist at the origin. Lengths and thicknesses are those of
an adult's hand of 187 mm, in round numbers of ours. Joints in MANO's order: wrist; index, middle, pinky, ring, thumb x 3.
"""

from __future__ import annotations

import numpy as np

from ..layouts import FINGERS, LAYOUTS
from .anatomy import Anatomy
from .implicit import Cone, Flesh

__all__ = ["FINGERTIPS", "OPENING", "hand_anatomy", "sample_hand_pose"]

OPENING = 26.0
"""x of the open wrist, mm."""

_BASE = {
    "index": (-92, 2.5, 24.5),
    "middle": (-96, 4.5, 3.0),
    "ring": (-90, 3.0, -16.5),
    "pinky": (-81, -1.0, -34.0),
    "thumb": (-19, -9, 24),
}
"""Knuckles (first finger joints); of the thumb the joint at the wrist."""
_LENGTHS = {
    "index": (43, 26, 24),
    "middle": (48, 29.5, 25.5),
    "ring": (45, 28, 25),
    "pinky": (35, 21, 22.5),
    "thumb": (43, 33, 29),
}
"""Of the three bones, the last one to the end of the flesh."""
_RADII = {
    "index": (10.3, 9.3, 8.1, 6.6),
    "middle": (10.6, 9.6, 8.3, 6.8),
    "ring": (10.0, 9.1, 7.9, 6.5),
    "pinky": (8.8, 7.8, 6.9, 5.7),
    "thumb": (13.5, 11.4, 10.3, 8.0),
}
"""Half thickness at the three joints and the tip."""
_SPREAD_DEG = {"index": 5.0, "middle": 0.5, "ring": -5.0, "pinky": -12.0}
"""Direction of a finger seen from the back of the hand: towards the thumb."""

FINGERTIPS = ("thumb", "index", "middle", "ring", "pinky")


def _bones() -> tuple[np.ndarray, np.ndarray]:
    """Joints (16, 3) and ends of their bones, mm."""
    joints, ends = np.zeros((16, 3)), np.zeros((16, 3))
    ends[0] = (-90, 0, 0)
    for number, finger in enumerate(FINGERS):
        place = np.array(_BASE[finger], float)
        if finger == "thumb":
            ways = [(-0.78, -0.30, 0.55), (-0.86, -0.16, 0.48), (-0.91, -0.10, 0.40)]
        else:
            angle = np.deg2rad(_SPREAD_DEG[finger])
            ways = [(-np.cos(angle), drop, np.sin(angle)) for drop in (-0.03, -0.07, -0.10)]
        for part, (way, length) in enumerate(zip(ways, _LENGTHS[finger])):
            joint = 1 + 3 * number + part
            joints[joint] = place
            place = place + length * np.array(way) / np.linalg.norm(way)
            ends[joint] = place
    return joints, ends


def hand_cones(joints: np.ndarray, ends: np.ndarray) -> list[Cone]:
    """Flesh around the bones, mm. Groups: trunk (palm, wrist, ball of the thumb) and one per finger."""
    cones: list[Cone] = []

    def add(joint: int, start, end, radii, group: str, flat=None) -> None:
        cones.append(Cone(joint, tuple(start), tuple(end), radii, group, flat))

    add(0, (40, 0, 8.5), (0, -1, 10), (18.5, 16.5), "trunk", (0, 0.92, 0))
    add(0, (40, 0, -8.5), (0, -1, -10), (18.5, 16), "trunk", (0, 0.92, 0))
    carpals = {"index": (-8, -1, 13), "middle": (-8, 0, 3), "ring": (-8, -1, -7), "pinky": (-8, -3, -14)}
    heads = {"index": 10.2, "middle": 10.4, "ring": 9.8, "pinky": 8.8}
    for finger, carpal in carpals.items():
        first = 1 + 3 * FINGERS.index(finger)
        head = joints[first] + (6, -2.5, 0)
        add(0, carpal, head, (12.0, heads[finger]), "trunk")
    add(0, (-12, -9, -17), (-62, -8, -31), (12.5, 9.5), "trunk")  # outer edge of the palm
    add(0, (-74, -8, 18), (-70, -9, -26), (8.5, 8.0), "trunk")  # pads below the fingers
    thumb = 1 + 3 * FINGERS.index("thumb")
    add(thumb, joints[thumb] + (2, 0, -4), joints[thumb + 1] + (3, -1, -3), (15.0, 11.0), "trunk")
    add(0, (-16, -11, 11), (-50, -11, 20), (12.5, 8.5), "trunk")  # ball of the thumb, palm side
    add(0, (-38, -3, 22), (-72, -2, 22), (9.0, 7.5), "trunk")  # skin between thumb and index finger
    for number, finger in enumerate(FINGERS):
        radii = _RADII[finger]
        for part in range(3):
            joint = 1 + 3 * number + part
            start, end = joints[joint], ends[joint]
            way = (end - start) / np.linalg.norm(end - start)
            if part == 2:
                end = end - way * radii[3]
            flat = (0, 0.93, 0) if part == 2 else None
            slim = 0.965 * radii[part], 0.955 * radii[part + 1]  # waists between knuckles
            add(joint, start, end, slim if part < 2 else (0.95 * radii[2], radii[3]), finger, flat)
            if part < 2:
                below = start + 0.5 * (end - start) - (0, 1.6, 0)
                further = start + 0.75 * (end - start) - (0, 1.4, 0)
                add(joint, below, further, (0.86 * radii[part], 0.86 * radii[part + 1]), finger)
            else:  # the pad
                pad, tip = start + 0.55 * (end - start) - (0, 1.7, 0), end - (0, 0.9, 0)
                add(joint, pad, tip, (0.86 * radii[2], 0.9 * radii[3]), finger)
    return cones


def hand_anatomy() -> Anatomy:
    """The right hand, in metres."""
    joints, ends = _bones()
    metres = [
        Cone(
            c.joint,
            tuple(np.array(c.start) / 1e3),
            tuple(np.array(c.end) / 1e3),
            (c.radii[0] / 1e3, c.radii[1] / 1e3),
            c.group,
            c.flat,
        )
        for c in hand_cones(joints, ends)
    ]
    within = {"trunk": 3.2e-3} | dict.fromkeys(FINGERS, 0.0009)
    spread = np.full(16, 0.005)
    spread[0] = 0.007
    spread[LAYOUTS["mano"].joint_names.index("thumb1")] = 0.011
    return Anatomy(
        LAYOUTS["mano"].joint_names,
        LAYOUTS["mano"].parents,
        joints / 1e3,
        ends / 1e3,
        Flesh(metres, within, 2.2e-3),
        spread,
        _sample_scales,
        sample_hand_pose,
    )


def _sample_scales(generator: np.random.Generator) -> np.ndarray:
    """(16, 3): size, build, finger length and width vary most, then each finger, then each bone."""
    size, build, reach, breadth, thickness = generator.normal(0, (0.07, 0.06, 0.045, 0.04, 0.04))
    scales = np.zeros((16, 3))
    scales[0] = (size, size + build + thickness, size + build + breadth)
    for number, finger in enumerate(FINGERS):
        own_length, own_girth = generator.normal(0, (0.03, 0.025))
        for part in range(3):
            joint = 1 + 3 * number + part
            along = size + reach + own_length + generator.normal(0, 0.015)
            girth = size + build + own_girth + (0.03 * generator.normal() if finger == "thumb" else 0)
            scales[joint] = (along, girth, girth)
    return 1 + scales.clip(-0.3, 0.3)


def sample_hand_pose(
    generator: np.random.Generator,
    root: bool = False,
) -> np.ndarray:  # (16, 3)
    """A pose within a hand's limits: all fingers curl with a common part and a part of their own; the thumb opposes.

    About z a right finger bends towards the palm, about y it spreads, about x it twists (not sampled).
    """
    pose = np.zeros((16, 3))
    curl = generator.beta(0.9, 1.2)
    spread = generator.normal(0, 0.09)
    for number, finger in enumerate(FINGERS[:4]):
        first = 1 + 3 * number
        own = np.clip(curl + generator.normal(0, 0.28), -0.12, 1.05)
        pose[first, 2] = 1.45 * own + generator.normal(0, 0.12)
        pose[first + 1, 2] = max(-0.05, 1.7 * own + generator.normal(0, 0.15))
        pose[first + 2, 2] = max(-0.05, 0.65 * pose[first + 1, 2] + generator.normal(0, 0.06))
        away = {"index": -1.0, "middle": 0.0, "ring": 0.7, "pinky": 1.4}[finger]
        pose[first, 1] = (away * spread + generator.normal(0, 0.05)) * (1 - 0.7 * np.clip(own, 0, 1))
    # recorded hands (handy-work 3.1.13) move the thumb's first joint along one direction, from flat hand to fist
    oppose = np.clip(1.3 * curl - 0.6 + generator.normal(0, 0.4), -1.0, 1.2)
    pose[13] = oppose * np.array([0.30, -0.34, 0.27]) + generator.normal(0, 0.09, 3)
    bend = np.clip(0.6 * curl + generator.normal(0.05, 0.25), -0.2, 1.0)
    # and bend the others towards the palm's middle, almost about -y
    axis = np.array([0.15, -0.96, 0.23])
    pose[14] = 0.7 * bend * axis
    pose[15] = np.clip(1.0 * bend + generator.normal(0, 0.2), -0.4, 1.4) * axis
    if root:
        pose[0] = generator.normal(0, 1.0, 3)
    return pose
