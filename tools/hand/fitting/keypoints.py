"""Named keypoints as mixtures of a model's joints and fingertip vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ....fields.articulated.joint_sets import JOINT_SETS, joint_set, tip_vertices
from ....fields.articulated.model_data import ModelData

__all__ = ["Keypoints", "keypoints_of"]


@dataclass(frozen=True)
class Keypoints:
    """m keypoints of one model."""

    names: tuple[str, ...]
    """m names."""
    vertices: np.ndarray
    """(t,) vertices that are needed."""
    mixture: np.ndarray
    """(m, t + j): each keypoint as a mixture of those vertices and then all joints; rows sum to 1."""
    owner: np.ndarray
    """(m,) the joint whose frame carries the keypoint: itself for a joint, the strongest weight for a vertex."""


def keypoints_of(
    data: ModelData,
    name: str,  # a joint set of the hand, or "joints": all joints of the model
    *,
    side: str | None = None,  # of a body's hands
    tips: str | Sequence[int] | None = None,
) -> Keypoints:
    """Raises UserError for an unknown name, or a set that the model's layout does not have."""
    joints = len(data.parents)
    if name == "joints":
        return Keypoints(data.joint_names, np.zeros(0, np.int64), np.eye(joints), np.arange(joints))
    if name not in JOINT_SETS:
        raise UserError(f"keypoints: expected joints or one of {', '.join(JOINT_SETS)}, found {name!r}")
    side = side or data.side
    vertices = np.zeros(0, np.int64)
    if name != "mano16":
        vertices = np.array(tip_vertices(tips, data.fingertips, len(data.template), side), np.int64)
    count = len(vertices) + joints
    # a joint set is linear in joints and vertices: feed it unit vectors, read off the coefficients
    unit = torch.eye(count, dtype=torch.float64)[..., None].expand(-1, -1, 3)
    corners = torch.zeros(count, len(data.template), 3, dtype=torch.float64)
    corners[:, vertices] = unit[:, : len(vertices)]
    found = joint_set(
        name,
        unit[:, len(vertices) :],
        corners,
        tips=tips,
        layout=data.layout,
        side=side,
        fingertips=data.fingertips,
    )
    mixture = found[..., 0].T.numpy()
    carrier = np.concatenate((data.weights[vertices].argmax(1), np.arange(joints)))
    labels = [f"{data.joint_names[carrier[i]]}_tip" for i in range(len(vertices))] + list(data.joint_names)
    strongest = mixture.argmax(1)
    return Keypoints(tuple(labels[i] for i in strongest), vertices, mixture, carrier[strongest])
