"""Forward kinematics of a tree, level by level (Romero et al. 2017, equation 2 and the appendix of Loper et al. 2015)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["forward_kinematics", "pose_feature", "rest_offsets", "skinning_transforms", "tree_levels"]


@lru_cache(maxsize=64)
def tree_levels(
    parents: tuple[int, ...],
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Joints of each level, positions of their parents in the level before, and where each joint is in the levels' concatenation."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            depth[joint] = depth[parent] + 1
    levels = tuple(tuple(j for j, d in enumerate(depth) if d == level) for level in range(max(depth) + 1))
    above = (
        (),
        *tuple(
            tuple(levels[level - 1].index(parents[joint]) for joint in levels[level])
            for level in range(1, len(levels))
        ),
    )
    order = [joint for level in levels for joint in level]
    return levels, above, tuple(order.index(joint) for joint in range(len(parents)))


def rest_offsets(
    joints: Tensor,  # (..., j, 3) rest joints
    parents: tuple[int, ...],
) -> Tensor:  # (..., j, 3)
    """Each joint relative to its parent; the root's own position."""
    index = torch.tensor([max(parent, 0) for parent in parents], device=joints.device)
    above = joints.index_select(-2, index)
    is_root = torch.tensor([parent < 0 for parent in parents], device=joints.device)[:, None]
    return joints - above.masked_fill(is_root, 0.0)


def forward_kinematics(
    rotations: Tensor,  # (b, j, 3, 3) of each joint relative to its parent
    joints: Tensor,  # (b, j, 3) or (1, j, 3) rest joints
    parents: tuple[int, ...],
) -> Tensor:  # (b, j, 3, 4)
    """Global transforms [R | t] of the joints: t is where the joint is, R turns its children's frame into the world's.

    G_0 = [R_0 | J_0], G_k = G_parent [R_k | J_k - J_parent]. Differentiable with respect to rotations and joints.
    """
    levels, above, back = tree_levels(parents)
    offsets = rest_offsets(joints, parents)
    batch = rotations.shape[0]
    local = torch.cat((rotations, offsets.expand(batch, -1, -1)[..., None]), -1)
    device = rotations.device
    current = local[:, list(levels[0])] if len(levels[0]) > 1 else local[:, :1]
    found = [current]
    for joints_here, parents_here in zip(levels[1:], above[1:]):
        parent = current.index_select(1, _index(parents_here, device))
        here = local.index_select(1, _index(joints_here, device))
        current = parent[..., :3] @ here
        current = torch.cat((current[..., :3], current[..., 3:] + parent[..., 3:]), -1)
        found.append(current)
    return torch.cat(found, 1).index_select(1, _index(back, device))


def skinning_transforms(
    transforms: Tensor,  # (b, j, 3, 4) global
    joints: Tensor,  # (b, j, 3) or (1, j, 3) rest joints
) -> Tensor:  # (b, j, 3, 4)
    """A_k = G_k - [0 | R_k J_k]: takes rest points to posed points."""
    rotation = transforms[..., :3]
    moved = transforms[..., 3:] - rotation @ joints[..., None]
    return torch.cat((rotation, moved), -1)


def pose_feature(
    rotations: Tensor,  # (b, j, 3, 3)
) -> Tensor:  # (b, 9 (j - 1))
    """R - I of all joints but the root, row by row (Romero et al. 2017, equation 4)."""
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[:, 1:] - eye).flatten(1)


@lru_cache(maxsize=256)
def _index(values: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)
