"""How far finger joints bend: a soft wall beyond the range of each anatomical axis.

Axes of a joint: twist along its bone, spread about the palm's normal, bend about what is perpendicular to both, positive towards the palm. A
rotation vector's components along them are compared with the ranges; they equal Euler angles as long as one of them dominates,
as in fingers. Ranges follow the usual clinical ones, some degrees wider; the thumb's are wide, as its axes are not the fingers'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....fields.articulated.layouts import LAYOUTS
from ....fields.articulated.model_data import ModelData
from .state import State

__all__ = ["RANGES", "Limits", "anatomical_axes", "hand_limits"]

RANGES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "finger1": ((-15, 15), (-25, 25), (-35, 100)),
    "finger2": ((-6, 6), (-6, 6), (-10, 120)),
    "finger3": ((-6, 6), (-6, 6), (-15, 90)),
    "thumb1": ((-50, 50), (-60, 60), (-60, 60)),
    "thumb2": ((-30, 30), (-40, 60), (-40, 90)),
    "thumb3": ((-20, 20), (-40, 100), (-40, 100)),
}
"""Degrees of twist, spread and bend of knuckle, middle and last joint."""

_SOFT = np.radians(4.0)
"""Radians beyond the range that cost as much as one standard deviation of noise."""


@dataclass(frozen=True)
class Limits:
    """A hinge on linear functions of the axis-angles; an extra of `Problem`."""

    axes: np.ndarray
    """(k, 3 (j - 1)) unit rows."""
    low: np.ndarray
    """(k,) radians."""
    high: np.ndarray
    """(k,)."""
    weight: float = 1.0

    def __call__(
        self, state: State, points: np.ndarray, by_shape: np.ndarray | None, by_frame: np.ndarray | None
    ) -> tuple:
        scale = np.sqrt(self.weight) / _SOFT
        value = state.angles.reshape(len(state), -1) @ self.axes.T
        over = np.maximum(value - self.high, 0) - np.maximum(self.low - value, 0)
        if by_frame is None:
            return over * scale, None, None
        frames = np.zeros((len(state), len(self.axes), state.frame_size))
        frames[:, :, 3:-3] = np.where(over[..., None] != 0, self.axes, 0.0) * scale
        return over * scale, np.zeros((len(state), len(self.axes), by_shape.shape[-1])), frames


def anatomical_axes(data: ModelData, side: str) -> dict[int, np.ndarray]:
    """Joint -> (3, 3) rows twist, spread, bend of one hand's finger joints, at the mean shape."""
    group, wrist = _hand(data, side)
    joints = data.joints
    names = [data.joint_names[k].removeprefix(f"{side}_") for k in group]
    at = dict(zip(names, group))
    normal = np.cross(joints[at["index1"]] - joints[wrist], joints[at["pinky1"]] - joints[wrist])
    normal *= 1.0 if side == "right" else -1.0  # out of the palm
    axes = {}
    for name, joint in at.items():
        below = at.get(f"{name[:-1]}{int(name[-1]) + 1}")
        # the last joint has no child: its bone goes on as the one before
        bone = (
            joints[below] - joints[joint]
            if below is not None
            else joints[joint] - joints[data.parents[joint]]
        )
        twist = bone / np.linalg.norm(bone)
        bend = np.cross(twist, normal)
        bend /= np.linalg.norm(bend)
        axes[joint] = np.stack((twist, np.cross(bend, twist), bend))
    return axes


def hand_limits(data: ModelData, weight: float = 1.0) -> Limits | None:
    """The limits of all hands of a model; None for a model without fingers.

    Ranges are widened to what the poses the model was learned from reach: its fingers may bend about axes that are not quite those above.
    """
    sides = {"mano": (data.side,), "smplh": ("left", "right"), "smplx": ("left", "right")}.get(
        data.layout, ()
    )
    rows, low, high = [], [], []
    for side in sides:
        if side not in ("left", "right"):
            return None
        for joint, axes in anatomical_axes(data, side).items():
            name = data.joint_names[joint].removeprefix(f"{side}_")
            ranges = RANGES[name if name.startswith("thumb") else f"finger{name[-1]}"]
            for axis, (least, most) in zip(axes, ranges):
                row = np.zeros(3 * (len(data.parents) - 1))
                row[3 * (joint - 1) : 3 * joint] = axis
                rows.append(row)
                low.append(np.radians(least))
                high.append(np.radians(most))
    if not rows:
        return None
    axes, low, high = np.array(rows), np.array(low), np.array(high)
    if len(data.pose_coefficients):
        recorded = (data.pose_mean + data.pose_coefficients @ data.pose_components) @ axes.T
        low, high = np.minimum(low, recorded.min(0)), np.maximum(high, recorded.max(0))
    return Limits(axes, low, high, weight)


def _hand(data: ModelData, side: str) -> tuple[tuple[int, ...], int]:
    if data.layout == "mano":
        return LAYOUTS["mano"].groups["hand"], 0
    return LAYOUTS[data.layout].groups[f"{side}_hand"], data.joint_names.index(f"{side}_wrist")
