"""Joint names and trees of the known layouts: MANO, SMPL, SMPL+H and SMPL-X.

MANO's finger order is index, middle, pinky, ring, thumb (Romero et al. 2017); SMPL+H has 22 body joints, then the left hand's 15 and
the right hand's 15 in that order; SMPL-X puts jaw and eyes before the hands (Pavlakos et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FINGERS", "LAYOUTS", "Layout", "layout_of"]

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
"""MANO's order: the pinky comes before the ring finger."""

_HAND = tuple(f"{finger}{number}" for finger in FINGERS for number in (1, 2, 3))
_HAND_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
_BODY = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot neck "
    "left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist"
)
_BODY_NAMES = tuple(_BODY.split())
_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)


@dataclass(frozen=True)
class Layout:
    """A tree with names, and which of its joints a block of pose coefficients moves."""

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    """The root's is -1; every other is smaller than its child's index."""
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Part -> its joints, in the order in which poses are written; the root belongs to none."""

    @property
    def hands(self) -> tuple[str, ...]:
        """The groups that have pose components."""
        return tuple(name for name in self.groups if name.endswith("hand"))


def _with_hands(name: str, body: tuple[str, ...], parents: tuple[int, ...]) -> Layout:
    names, tree, groups = list(body), list(parents), {"body": tuple(range(1, 22))}
    if len(body) > 22:
        groups["face"] = tuple(range(22, len(body)))
    for side, wrist in (("left", 20), ("right", 21)):
        start = len(names)
        names += [f"{side}_{joint}" for joint in _HAND]
        tree += [wrist if parent == 0 else start + parent - 1 for parent in _HAND_PARENTS[1:]]
        groups[f"{side}_hand"] = tuple(range(start, start + 15))
    return Layout(name, tuple(names), tuple(tree), groups)


LAYOUTS: dict[str, Layout] = {
    "mano": Layout("mano", ("wrist", *_HAND), _HAND_PARENTS, {"hand": tuple(range(1, 16))}),
    "smpl": Layout(
        "smpl",
        (*_BODY_NAMES, "left_hand", "right_hand"),
        (*_BODY_PARENTS, 20, 21),
        {"body": tuple(range(1, 24))},
    ),
    "smplh": _with_hands("smplh", _BODY_NAMES, _BODY_PARENTS),
    "smplx": _with_hands(
        "smplx",
        (*_BODY_NAMES, "jaw", "left_eye", "right_eye"),
        (*_BODY_PARENTS, 15, 15, 15),
    ),
}


def layout_of(
    parents: tuple[int, ...],
) -> str:
    """The name of the layout that has this tree, or "custom"."""
    parents = tuple(int(parent) for parent in parents)
    return next((name for name, layout in LAYOUTS.items() if layout.parents == parents), "custom")
