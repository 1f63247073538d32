"""Whether two fitted hands pass through each other: each hand's vertices in the other's closed surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ....fields.articulated.geometry import cap
from ....fields.articulated.model_data import ModelData
from ....fields.articulated.signed_distance import signed_distance
from .posing import Posing
from .state import State

__all__ = ["Penetration", "penetration"]


@dataclass(frozen=True)
class Penetration:
    """The frame in which two hands are deepest in one another."""

    frame: int
    depth: float
    """Metres: how far the deepest vertex lies below the other hand's skin."""
    vertices: int
    """How many vertices of either hand lie inside the other one in that frame."""
    own: str
    """The joint that carries the deepest vertex, with the hand's side."""
    other: str
    """The joint of the other hand whose surface is nearest to it."""

    def __str__(self) -> str:
        return (
            f"the hands pass through each other: {self.own} lies up to {self.depth * 1e3:.1f} mm inside {self.other} "
            f"(frame {self.frame}, {self.vertices} vertices); one of the two is misplaced"
        )


def penetration(
    hands: tuple[tuple[ModelData, State], tuple[ModelData, State]],
    allowed: float = 0.002,  # metres: skin gives way
) -> Penetration | None:
    """The deepest place over all frames that both have; None where it is within `allowed`. Wrists are closed first; the other hand is looked at only
    where the boxes of the two meet.
    """
    closed = [cap(data) for data, _ in hands]
    surfaces = []
    for data, (_, state) in zip(closed, hands):
        posed = Posing(data, None, len(state.shape))(
            state.shape, state.rotations(), state.translation, jacobian=False
        )
        surfaces.append(posed.points[:, : len(data.template)])
    worst, deepest = None, allowed
    for frame in range(min(len(part) for part in surfaces)):
        inside = [_inside(surfaces[i][frame], surfaces[1 - i][frame], closed[1 - i]) for i in (0, 1)]
        count = sum(int((depth > 0).sum()) for depth in inside)
        for i, depth in enumerate(inside):
            vertex = int(depth.argmax())
            if depth[vertex] > deepest:
                deepest, far = float(depth[vertex]), surfaces[1 - i][frame]
                nearest = int(np.linalg.norm(far - surfaces[i][frame][vertex], axis=1).argmin())
                worst = Penetration(
                    frame, deepest, count, _named(closed[i], vertex), _named(closed[1 - i], nearest)
                )
    return worst


def _inside(points: np.ndarray, vertices: np.ndarray, closed: ModelData) -> np.ndarray:
    """(n,) metres below the closed surface; 0 outside."""
    depth = np.zeros(len(points))
    near = ((points > vertices.min(0)) & (points < vertices.max(0))).all(1)
    if near.any():
        distance = signed_distance(
            torch.from_numpy(points[near]), torch.from_numpy(vertices), torch.from_numpy(closed.faces)
        )
        depth[near] = np.maximum(-distance.numpy(), 0)
    return depth


def _named(data: ModelData, vertex: int) -> str:
    return f"{data.side} {data.joint_names[int(data.weights[vertex].argmax())]}"
