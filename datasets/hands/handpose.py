"""Recorded WebXR hand poses (.handpose of the npm package handy-work).

float32: the number of joints (25), 25 column-major 4x4 matrices of the left hand, 25 of the right, then 50 weights; metres, relative
to the wrist. Axes as in WebXR: each joint's -z points to the fingertip, +y out of the back of the hand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["WEBXR_JOINTS", "WEBXR_TO_21", "HandPose", "read_handpose"]

_FINGERS = ("thumb", "index-finger", "middle-finger", "ring-finger", "pinky-finger")
_BONES = ("metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip")

WEBXR_JOINTS = (
    "wrist",
    *(f"{f}-{b}" for f in _FINGERS for b in _BONES if not (f == "thumb" and b == "phalanx-intermediate")),
)
"""The 25 joints in the order of the WebXR Hand Input specification."""

WEBXR_TO_21 = tuple(
    i for i, n in enumerate(WEBXR_JOINTS) if not (n.endswith("metacarpal") and "thumb" not in n)
)
"""Which of the 25 are our 21: the four fingers' metacarpals have no counterpart."""


@dataclass(frozen=True)
class HandPose:
    """One recorded pose of both hands."""

    name: str
    left: np.ndarray
    """(25, 4, 4) rigid joint frames relative to the wrist, metres, in the order `WEBXR_JOINTS`."""
    right: np.ndarray
    """(25, 4, 4)."""

    def joints21(self, side: str) -> np.ndarray:
        """(21, 3) joint positions of "left" or "right" in our order of 21."""
        return {"left": self.left, "right": self.right}[side][list(WEBXR_TO_21), :3, 3]


def read_handpose(path: str | os.PathLike) -> HandPose:
    """Raises UserError for another size, values that are not finite, and frames that are not rigid."""
    path = Path(path)
    try:
        data = path.read_bytes() if path.stat().st_size <= 1 << 20 else b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    values = np.frombuffer(data, "<f4") if len(data) % 4 == 0 else np.zeros(0)
    if len(values) != 851 or values[0] != 25:
        raise UserError(f"{path}: expected 851 float32 that begin with 25, found {len(data)} bytes")
    frames = values[1:801].reshape(2, 25, 4, 4).transpose(0, 1, 3, 2).astype(np.float64)
    rotations = frames[..., :3, :3]
    if (
        not np.isfinite(frames).all()
        or np.abs(rotations @ rotations.swapaxes(-1, -2) - np.eye(3)).max() > 1e-3
    ):
        raise UserError(f"{path}: a joint's frame is not a rigid transform")
    return HandPose(path.stem, frames[0], frames[1])
