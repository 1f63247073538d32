"""A synthetic capture of a hand: poses, skin with a pattern, pictures, and the truth in `hand.npz`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fieldstone.core.errors import UserError

from ...datasets.synthetic.mesh_capture import write_mesh_capture
from ...fields.articulated.geometry import cap, subdivide
from ...fields.articulated.model_data import ModelData
from ...fields.articulated.procedural.hand import sample_hand_pose
from .models import model_data
from .posed_mesh import posed_vertices
from .result import HandResult, write_result

__all__ = ["MOTION_FILE", "skin_pattern", "write_hand_capture"]

MOTION_FILE = "hand.npz"
"""The poses of a capture, beside its transforms.json: pose k belongs to time k / (n - 1)."""


def skin_pattern(vertices: np.ndarray) -> np.ndarray:
    """(v, 3) colours in [0, 1]: skin with bands and blotches of some millimetres, a function of rest positions alone."""
    x, y, z = (vertices * 1e3).T
    bands = 0.5 + 0.5 * np.sin(x / 3.1 + 1.3 * np.sin(z / 9.0))
    blotches = 0.5 + 0.5 * np.sin(z / 4.0 + 2.0) * np.sin(x / 6.5) * np.cos(y / 5.0)
    base = np.array([0.86, 0.66, 0.55])
    dark, cool = np.array([0.55, 0.30, 0.25]), np.array([0.35, 0.50, 0.62])
    share = 0.35 * bands[:, None]
    return ((1 - share) * base + share * dark) * (1 - 0.4 * blotches[:, None]) + 0.4 * blotches[
        :, None
    ] * cool


def write_hand_capture(
    folder: str | Path,
    model: str = "hand",
    *,
    poses: int = 16,
    test_poses: int = 4,
    views: int = 10,
    size: int = 256,
    seed: int = 0,
    handposes: str | Path | None = None,
) -> None:
    """Writes images, cameras, splits and `hand.npz`. The last `test_poses` poses are seen in testing only.

    The first pose is at rest; with `handposes`, recorded poses (joint rotations fitted to their bones' directions) come next, then random
    ones. Raises `UserError` for counts that leave nothing to train on.
    """
    folder = Path(folder)
    if poses < 2 or not 0 < test_poses < poses:
        raise UserError(f"poses {poses}, test poses {test_poses}: at least one pose of each kind is needed")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: exists already and is not empty; choose another --out")
    data = model_data(model)
    if data.layout != "mano":
        raise UserError(f"{model}: expected a hand (layout mano), found {data.layout}")
    generator = np.random.default_rng(seed)
    angles = [np.zeros((len(data.parents), 3))]
    if handposes is not None:
        angles += recorded_poses(handposes, data)
    while len(angles) < poses:
        angles.append(sample_hand_pose(generator))
    angles = np.array(angles[:poses])
    if data.side == "left":
        angles[..., 1:] *= -1
    order = np.concatenate(([0], 1 + generator.permutation(poses - 1)))
    result = HandResult(
        model,
        generator.normal(0, 0.7, min(4, data.shape_basis.shape[2])),
        angles[order],
        np.zeros((poses, 3)),
        model_sha256=data.sha256(),
        info={
            "truth": "synthetic capture",
            "test_poses": list(range(poses - test_poses, poses)),
            "seed": seed,
        },
    )
    fine = subdivide(cap(data), 2)
    write_mesh_capture(
        folder,
        posed_vertices(fine, result),
        fine.faces,
        skin_pattern(fine.template),
        test_poses=tuple(range(poses - test_poses, poses)),
        views=views,
        test_views=1,
        size=size,
        generator=generator,
    )
    write_result(folder / MOTION_FILE, result)


def recorded_poses(folder: str | Path, data: ModelData) -> list[np.ndarray]:
    """Right hands of all .handpose files as axis-angles (16, 3): each bone is turned, by the smallest turn, into its recorded direction."""
    from ...datasets.hands.handpose import WEBXR_JOINTS, read_handpose
    from ...fields.articulated.joint_sets import joint_set

    files = sorted(Path(folder).glob("*.handpose"))
    if not files:
        raise UserError(f"{folder}: no .handpose files")
    rest = joint_set(
        "openpose21",
        torch.from_numpy(data.joints),
        torch.from_numpy(data.template),
        fingertips=data.fingertips,
    ).numpy()
    keep = [i for i, name in enumerate(WEBXR_JOINTS) if "metacarpal" not in name or "thumb" in name]
    side = "left" if data.side == "left" else "right"
    return [_turns(rest, getattr(read_handpose(file), side)[keep, :3, 3]) for file in files]


def _turns(rest: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(16, 3) axis-angles from 21 joints at rest and recorded, both in OpenPose's order."""
    from scipy.spatial.transform import Rotation

    palm = [0, 5, 9, 13, 17]
    root, _ = Rotation.align_vectors(wanted[palm[1:]] - wanted[0], rest[palm[1:]] - rest[0])
    pose = np.zeros((16, 3))
    for finger, first in (("index", 5), ("middle", 9), ("ring", 13), ("pinky", 17), ("thumb", 1)):
        number = 1 + 3 * ("index", "middle", "pinky", "ring", "thumb").index(finger)
        world = root
        for part in range(3):
            a, b = first + part, first + part + 1
            bone = world.apply(rest[b] - rest[a])
            turn, _ = Rotation.align_vectors((wanted[b] - wanted[a])[None], bone[None])
            after = turn * world
            pose[number + part] = (world.inv() * after).as_rotvec()
            world = after
    return pose
