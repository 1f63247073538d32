"""A scene of primitives as an arrangement has it."""

from __future__ import annotations

import numpy as np
import torch

from fieldstone.core.similarity import Similarity

from ...fields.primitives import template
from ..training.dnmp_scene import PrimitiveScene
from .arrangement import Arrangement
from .placed import Placed

__all__ = ["arranged"]


def arranged(scene: PrimitiveScene, now: Arrangement, first: int = 0) -> PrimitiveScene:
    """The primitives of `scene`, which are numbered from `first` in the arrangement, where and as it has them.

    A primitive that was turned is seen as from where the camera would have stood before: its colours by direction, and the light in them, turn
    along. One that was scaled likewise.
    """
    trained = scene.primitives
    rest = trained.vertices.view(-1, 42, 3)
    rows = np.flatnonzero((now.shape >= first) & (now.shape < first + len(rest)))
    vertices = rest[torch.from_numpy(now.shape[rows] - first)]
    place, turns = now.place[rows], np.zeros(len(rows), np.int64)
    rotations = [torch.eye(3)]
    for number in np.unique(place[place > 0]):
        moved = torch.from_numpy(np.flatnonzero(place == number))
        motion: Similarity = scene.frame.inverse().then(now.transforms[number]).then(scene.frame)
        vertices[moved] = torch.from_numpy(motion.apply(vertices[moved].double().numpy())).float()
        if not np.array_equal(motion.rotation, np.eye(3)):
            turns[moved.numpy()] = len(rotations)
            rotations.append(torch.from_numpy(motion.rotation.T.copy()).float())
    tints, tint = np.unique(np.append(now.tint[rows], 0), return_inverse=True)
    corners = 42 * torch.arange(len(rows), dtype=torch.int32)
    faces = (template().faces.int()[None] + corners[:, None, None]).reshape(-1, 3)
    placed = Placed(
        rest=trained.vertices,
        look=torch.from_numpy(now.look[rows] - first),
        turn=torch.from_numpy(turns),
        rotations=torch.stack(rotations),
        tint=torch.from_numpy(tint[:-1]),
        tints=torch.from_numpy(now.tints[tints]).float(),
    )
    return PrimitiveScene(
        trained._replace(vertices=vertices.reshape(-1, 3), faces=faces, placed=placed),
        scene.frame,
        scene.layers,
        scene.positions,
        torch.from_numpy(now.ids[rows]),
    )
