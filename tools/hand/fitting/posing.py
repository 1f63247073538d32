"""Posed points of a model and how they move with shape, pose and translation: the analytic Jacobian of linear blend skinning.

With T the shaped and corrected rest points, G_d = [R_d | t_d] the joints' global frames and w the weights, a posed point is
x = sum_d w_d (R_d (T - J_d) + t_d). Turning joint k by its own frame's small vector d moves what hangs on it:

    dx / dd_k = -[sum_{d below k} w_d (x_d - t_k)]_x R_k  +  (sum_d w_d R_d) P_k vec(R_k [d]_x)

where x_d is the point as joint d alone would carry it, P_k the correctives of joint k, and R_k in the last factor its local
rotation. The sums over subtrees are one matrix product. `tests/tools/hand` holds this against automatic differentiation of `ArticulatedModel`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....fields.articulated.model_data import ModelData
from .so3 import skew

__all__ = ["Moved", "Posing"]


@dataclass(frozen=True)
class Moved:
    """Points of b frames, and their derivatives where they were asked for."""

    points: np.ndarray
    """(b, n, 3): the chosen vertices, then all joints; metres."""
    by_shape: np.ndarray | None
    """(b, n, 3, s)."""
    by_rotation: np.ndarray | None
    """(b, n, 3, j, 3): with respect to a small turn of each joint in its own frame (R <- R exp(d))."""


class Posing:
    """Chosen vertices and all joints of one model, ready to be posed many times."""

    def __init__(
        self,
        data: ModelData,
        vertices: np.ndarray | None = None,  # (m,) which vertices; None: all
        shapes: int | None = None,  # how many shape directions; None: all
    ) -> None:
        chosen = np.arange(len(data.template)) if vertices is None else np.asarray(vertices, np.int64)
        shapes = data.shape_basis.shape[2] if shapes is None else min(shapes, data.shape_basis.shape[2])
        self.data, self.vertices = data, chosen
        self.parents = [int(p) for p in data.parents]
        joints = len(self.parents)
        self.template, self.basis = data.template[chosen], data.shape_basis[chosen, :, :shapes]
        self.weights = data.weights[chosen]
        self.joint_template = data.joints
        self.joint_basis = np.einsum("jv,vds->jds", data.joint_regressor, data.shape_basis[:, :, :shapes])
        correctives = data.pose_correctives[chosen]
        self.correctives = correctives.reshape(len(chosen), 3, joints - 1, 9) if correctives.any() else None
        self.below = np.zeros((joints, joints))
        """(j, j): 1 where the second joint is the first or hangs on it."""
        for joint in range(joints):
            above = joint
            while above >= 0:
                self.below[above, joint] = 1
                above = self.parents[above]
        self.carried = self.weights @ self.below.T
        """(m, j): how much of each point hangs on each joint."""

    @property
    def shape_count(self) -> int:
        return self.basis.shape[2]

    def __call__(
        self,
        shape: np.ndarray,  # (s,) or (b, s)
        rotations: np.ndarray,  # (b, j, 3, 3) relative to the parents
        translation: np.ndarray,  # (b, 3)
        jacobian: bool = True,
        *,
        rest: tuple[np.ndarray, np.ndarray]
        | None = None,  # (b, m, 3), (b, j, 3) instead of the template and its joints
    ) -> Moved:
        frames = len(rotations)
        template, joint_template = (self.template, self.joint_template) if rest is None else rest
        shape = np.broadcast_to(shape, (frames, self.shape_count))
        rest_joints = joint_template + np.einsum("jds,bs->bjd", self.joint_basis, shape)
        turned, placed = self.chain(rotations, rest_joints, translation)
        rest = template + np.einsum("nds,bs->bnd", self.basis, shape)
        if self.correctives is not None:
            feature = (rotations[:, 1:] - np.eye(3)).reshape(frames, -1)
            flat = self.correctives.reshape(3 * len(rest[0]), -1)
            rest = rest + (feature @ flat.T).reshape(frames, -1, 3)
        # each point as each joint alone would carry it: (b, n, j, 3)
        anchor = placed - (turned @ rest_joints[..., None])[..., 0]
        carried = np.einsum("bjcd,bnd->bnjc", turned, rest, optimize=True) + anchor[:, None]
        weighted = self.weights[None, :, :, None] * carried
        points = np.concatenate((weighted.sum(2), placed), 1)
        if not jacobian:
            return Moved(points, None, None)
        blended = np.einsum("nj,bjcd->bncd", self.weights, turned, optimize=True)
        return Moved(
            points,
            self._by_shape(turned, blended),
            self._by_rotation(rotations, turned, placed, weighted, blended),
        )

    def chain(
        self, rotations: np.ndarray, rest: np.ndarray, move: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Global rotations (b, j, 3, 3) and positions (b, j, 3)."""
        turned, placed = np.empty_like(rotations), np.empty(rest.shape)
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                turned[:, joint], placed[:, joint] = rotations[:, joint], rest[:, joint] + move
            else:
                turned[:, joint] = turned[:, parent] @ rotations[:, joint]
                offset = rest[:, joint] - rest[:, parent]
                placed[:, joint] = placed[:, parent] + (turned[:, parent] @ offset[..., None])[..., 0]
        return turned, placed

    def _by_shape(self, turned: np.ndarray, blended: np.ndarray) -> np.ndarray:
        frames, joints = turned.shape[:2]
        placed = np.empty((frames, joints, 3, self.shape_count))
        for joint, parent in enumerate(self.parents):
            if parent < 0:
                placed[:, joint] = self.joint_basis[joint]
            else:
                offset = self.joint_basis[joint] - self.joint_basis[parent]
                placed[:, joint] = placed[:, parent] + turned[:, parent] @ offset
        anchor = placed - turned @ self.joint_basis
        vertices = blended @ self.basis + np.einsum("nj,bjcs->bncs", self.weights, anchor, optimize=True)
        return np.concatenate((vertices, placed), 1)

    def _by_rotation(
        self,
        rotations: np.ndarray,
        turned: np.ndarray,
        placed: np.ndarray,
        weighted: np.ndarray,
        blended: np.ndarray,
    ) -> np.ndarray:
        arms = np.einsum("kd,bndc->bnkc", self.below, weighted, optimize=True)
        arms -= self.carried[None, :, :, None] * placed[:, None]
        reach = self.below.T - np.eye(len(self.parents))  # a joint does not move itself: (moved, mover)
        joint_arms = reach[None, :, :, None] * (placed[:, :, None] - placed[:, None])
        arms = np.concatenate((arms, joint_arms), 1)
        # axis c of joint k crossed with the arm: (b, n, k, axis) x (b, n, k) -> (b, n, coordinate, k, axis)
        axes = turned.swapaxes(-1, -2)[:, None]  # (b, 1, k, axis, coordinate)
        moved = np.cross(axes, arms[:, :, :, None], axis=-1).transpose(0, 1, 4, 2, 3)
        if self.correctives is not None:
            generators = skew(np.eye(3))  # (axis, 3, 3)
            change = np.einsum("bkrm,amc->bkrca", rotations[:, 1:], generators)
            change = change.reshape(*change.shape[:2], 9, 3)
            rest = np.einsum("ndkm,bkma->bndka", self.correctives, change, optimize=True)
            n = len(self.vertices)
            rest = blended @ rest.reshape(len(rest), n, 3, -1)
            moved[:, :n, :, 1:] += rest.reshape(len(rest), n, 3, -1, 3)
        return np.ascontiguousarray(moved)
