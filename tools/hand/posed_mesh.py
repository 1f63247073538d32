"""A result's surface at one frame."""

from __future__ import annotations

import numpy as np
import torch

from ...fields.articulated.geometry import cap, subdivide
from ...fields.articulated.model import ArticulatedModel
from ...fields.articulated.model_data import ModelData
from .result import HandResult

__all__ = ["posed_vertices", "refined"]


def refined(data: ModelData, *, subdivisions: int = 0, closed: bool = False) -> ModelData:
    """The model with its open loops capped and its triangles split, for export and pictures."""
    data = cap(data) if closed else data
    return subdivide(data, subdivisions, rule="loop") if subdivisions else data


def posed_vertices(data: ModelData, result: HandResult) -> np.ndarray:
    """(n, v, 3) metres, float64."""
    model = ArticulatedModel(data, dtype=torch.float64)
    frames = []
    for start in range(0, len(result.pose), 64):  # bounds memory for long sequences of large bodies
        posed = model(
            torch.from_numpy(result.shape),
            torch.from_numpy(result.pose[start : start + 64]),
            torch.from_numpy(result.translation[start : start + 64]),
            pose_format="axis_angle",
        )
        frames.append(posed.vertices.numpy())
    return np.concatenate(frames)
