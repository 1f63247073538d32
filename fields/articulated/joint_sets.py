"""Named sets of hand joints: which of a model's joints and vertices they are, in which order.

MANO has 16 joints and no fingertips; libraries add five vertices and disagree which (`TIPS`). The orders:

| set | order |
|---|---|
| mano16 | wrist; index, middle, pinky, ring, thumb x 3 |
| mano21 | mano16; tips of thumb, index, middle, ring, pinky (smplx's order) |
| openpose21 | wrist; thumb, index, middle, ring, pinky x 4, base to tip (also MediaPipe, FreiHAND) |
| interhand21 | thumb, index, middle, ring, pinky x 4, tip to base; wrist |
| webxr25 | wrist; thumb x 4; index, middle, ring, pinky x 5, metacarpal to tip (WebXR Hand Input, section 5) |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .layouts import LAYOUTS

__all__ = ["JOINT_SETS", "METACARPAL", "TIPS", "WEBXR_NAMES", "joint_set", "tip_vertices"]

TIPS: dict[str, tuple[int, ...]] = {
    "smplx": (744, 320, 443, 554, 671),
    "manopth": (745, 317, 444, 556, 673),
    "manopth_left": (745, 317, 445, 556, 673),
    "handavatar": (744, 333, 444, 555, 672),
}
"""Vertices of thumb, index, middle, ring and pinky tip on MANO's 778-vertex mesh, as the named libraries take them."""

_MANO21_TO_OPENPOSE = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
_OPENPOSE_TO_INTERHAND = (4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0)

JOINT_SETS = {"mano16": 16, "mano21": 21, "openpose21": 21, "interhand21": 21, "webxr25": 25}
"""Name -> number of joints."""

METACARPAL = {"index": 0.446, "middle": 0.430, "ring": 0.434, "pinky": 0.480}
"""Where WebXR's metacarpal joints lie between wrist and first finger joint: MANO has no such joints, so they are put there.

Shares measured on the recorded hands of handy-work 3.1.13 (MIT), where the metacarpal joints lie 7 to 9 mm off that line.
"""

WEBXR_NAMES = (
    "wrist",
    *(f"thumb-{part}" for part in ("metacarpal", "phalanx-proximal", "phalanx-distal", "tip")),
    *(
        f"{finger}-finger-{part}"
        for finger in ("index", "middle", "ring", "pinky")
        for part in ("metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip")
    ),
)


def tip_vertices(
    tips: str | Sequence[int] | None,
    fingertips: np.ndarray,  # (0,), (5,) or (10,) of the model
    vertex_count: int,
    side: str,
) -> tuple[int, ...]:
    """The five vertices that `tips` names, checked against the mesh. Raises `UserError`."""
    if tips is None and len(fingertips):
        return tuple(
            int(i) for i in (fingertips[5:] if len(fingertips) == 10 and side == "right" else fingertips[:5])
        )
    if tips is None:
        tips = "smplx"
    if isinstance(tips, str):
        if tips not in TIPS:
            raise UserError(f"tips: expected five vertices or one of {', '.join(TIPS)}, found {tips!r}")
        if vertex_count != 778:
            raise UserError(
                f"tips: the preset {tips!r} is for MANO's 778 vertices, found {vertex_count}: give five vertices"
            )
        return TIPS[tips]
    chosen = tuple(int(i) for i in tips)
    if len(chosen) != 5 or min(chosen) < 0 or max(chosen) >= vertex_count:
        raise UserError(f"tips: expected five vertices below {vertex_count}, found {list(chosen)[:8]}")
    return chosen


def joint_set(
    name: str,
    joints: Tensor,  # (..., j, 3)
    vertices: Tensor | None,  # (..., v, 3); None will do for mano16
    *,
    tips: str | Sequence[int] | None = None,
    layout: str = "mano",
    side: str = "right",
    fingertips: np.ndarray | None = None,
) -> Tensor:  # (..., n, 3)
    """Joints of one hand in the named set. Differentiable with respect to joints and vertices. Raises `UserError`."""
    if name not in JOINT_SETS:
        raise UserError(f"joint set: expected one of {', '.join(JOINT_SETS)}, found {name!r}")
    fingertips = np.zeros(0, np.int64) if fingertips is None else fingertips
    if layout in ("smplh", "smplx"):
        if side not in ("left", "right"):
            raise UserError(f"side: a body has two hands; expected left or right, found {side!r}")
        wrist = LAYOUTS[layout].joint_names.index(f"{side}_wrist")
        joints = joints[..., [wrist, *LAYOUTS[layout].groups[f"{side}_hand"]], :]
    elif layout != "mano":
        raise UserError(
            f"joint set {name}: the model's layout is {layout}; only mano, smplh and smplx have fingers"
        )
    if name == "mano16":
        return joints
    if vertices is None:
        raise UserError(f"joint set {name}: fingertips are vertices; do not ask for the skeleton only")
    chosen = tip_vertices(tips, fingertips, vertices.shape[-2], side)
    joints = torch.cat((joints, vertices[..., list(chosen), :]), -2)
    if name == "mano21":
        return joints
    joints = joints[..., list(_MANO21_TO_OPENPOSE), :]
    if name == "openpose21":
        return joints
    if name == "interhand21":
        return joints[..., list(_OPENPOSE_TO_INTERHAND), :]
    wrist, parts = joints[..., :1, :], [joints[..., :5, :]]
    for place, finger in enumerate(("index", "middle", "ring", "pinky")):
        own = joints[..., 5 + 4 * place : 9 + 4 * place, :]
        parts += [wrist + METACARPAL[finger] * (own[..., :1, :] - wrist), own]
    return torch.cat(parts, -2)
