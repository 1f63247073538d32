"""Poses in any of their notations, as rotation matrices."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.rotations import ROTATION_FORMATS, axis_angle_to_matrix, to_matrix

from .layouts import LAYOUTS

__all__ = ["MEANS", "POSE_FORMATS", "PosePca", "pose_matrices"]

MEANS = ("pca", "model", "flat")
POSE_FORMATS = (*ROTATION_FORMATS, "pca", "anatomical")


class PosePca:
    """Pose space of a model: which coefficients there are, and the axis-angles they stand for.

    A pose in the format "pca" is [root axis-angle 3 | axis-angles of joints without components | `count` coefficients of each
    group with components], e.g. 3 + n for a hand and 3 + 63 + n (left) + n (right) for SMPL+H. `count` coefficients are always
    read as coefficients: 45 of 45 are a full basis, not axis-angles.
    """

    def __init__(self, components: Tensor, mean: Tensor, layout: str, count: int | None) -> None:
        joints = mean.shape[0] // 3
        groups = LAYOUTS[layout].groups if layout in LAYOUTS else {}
        hands = LAYOUTS[layout].hands if layout in LAYOUTS else ()
        parts = [groups[name] for name in hands] if hands else [tuple(range(1, joints + 1))]
        self.mean = mean
        self.blocks: list[Tensor] = []
        used: set[int] = set()
        for part in parts:
            columns = [3 * (joint - 1) + axis for joint in part for axis in range(3)]
            rows = components[:, columns].abs().sum(1) > 0
            self.blocks.append(components[rows])
            used |= set(part) if bool(rows.any()) else set()
        available = [len(block) for block in self.blocks]
        self.available = min(available) if available else 0
        if count is not None and not 0 < count <= self.available:
            raise UserError(
                f"components: expected 1 to {self.available} (what the model has), found {count}"
                if self.available
                else "components: the model has no pose components; merge them in (fieldstone hand convert "
                "SMPLH.pkl --hands MANO_LEFT.pkl MANO_RIGHT.pkl), or pose it with axis-angles"
            )
        self.count = self.available if count is None else count
        self.free = tuple(joint for joint in range(1, joints + 1) if joint not in used)
        blocks = [block[: self.count] for block in self.blocks if len(block)]
        self.basis = torch.cat(blocks) if blocks else components[:0]
        self.size = 3 + 3 * len(self.free) + len(self.basis)

    def axis_angles(
        self,
        pose: Tensor,  # (..., size)
        mean: bool = True,
    ) -> Tensor:  # (..., j, 3)
        """Axis-angles of all joints. Differentiable."""
        root, free, coefficients = pose.split((3, 3 * len(self.free), len(self.basis)), -1)
        rest = coefficients @ self.basis
        if mean:
            rest = rest + self.mean
        rest = rest.unflatten(-1, (-1, 3))
        if self.free:
            columns = torch.tensor([joint - 1 for joint in self.free], device=pose.device)
            rest = rest.index_add(-2, columns, free.unflatten(-1, (-1, 3)))
        return torch.cat((root[..., None, :], rest), -2)

    def coefficients(
        self,
        axis_angles: Tensor,  # (..., j, 3)
    ) -> Tensor:  # (..., size)
        """The pose whose axis-angles come nearest in the least-squares sense; components need not be orthonormal."""
        rest = axis_angles[..., 1:, :].flatten(-2) - self.mean
        free = axis_angles[..., list(self.free), :].flatten(-2)
        if self.free:
            mask = torch.ones(self.mean.shape[0], dtype=torch.bool, device=rest.device)
            for joint in self.free:
                mask[3 * (joint - 1) : 3 * joint] = False
            rest = rest * mask
        inverse = torch.linalg.pinv(self.basis)
        return torch.cat((axis_angles[..., 0, :], free, rest @ inverse), -1)


def pose_matrices(
    pose: Tensor | Mapping[str, Tensor],
    joints: int,
    *,
    pose_format: str | None,
    pca: PosePca,
    mean: str,  # one of MEANS
    layout: str,
) -> Tensor:  # (..., j, 3, 3)
    """Any notation of a pose as rotation matrices relative to the parents; see `ArticulatedModel.__call__`."""
    if isinstance(pose, Mapping):
        return _from_parts(pose, joints, pose_format=pose_format, pca=pca, mean=mean, layout=layout)
    if pose_format is None:
        pose_format = _guess(pose, joints)
    if pose_format == "pca":
        if pca.available == 0:
            raise UserError(
                "pose: this model has no pose components (an SMPL+H file without hands?): merge them in (fieldstone hand "
                "convert SMPLH.pkl --hands MANO_LEFT.pkl MANO_RIGHT.pkl), or give axis-angles"
            )
        if pose.shape[-1:] != (pca.size,):
            raise UserError(
                f"pose: expected (..., {pca.size}) in the format pca (3 for the root, {3 * len(pca.free)} for joints without "
                f"components, {len(pca.basis)} coefficients), found {tuple(pose.shape)}"
            )
        return axis_angle_to_matrix(pca.axis_angles(pose, mean != "flat"))
    if pose_format not in ROTATION_FORMATS:
        raise UserError(f"pose_format: expected one of {', '.join(POSE_FORMATS)}, found {pose_format!r}")
    single = ROTATION_FORMATS[pose_format][0]
    numbers = 9 if pose_format == "matrix" else single[0]
    if pose.shape[-1:] == (joints * numbers,):
        pose = pose.unflatten(-1, (joints, *single))
    if tuple(pose.shape[-1 - len(single) :]) != (joints, *single):
        raise UserError(
            f"pose: expected (..., {joints}, {', '.join(map(str, single))}) or (..., {joints * numbers}) in the format "
            f"{pose_format}, found {tuple(pose.shape)}"
        )
    if mean == "model":
        if pose_format != "axis_angle":
            raise UserError(
                f"mean='model' adds the mean pose to axis-angles; it means nothing for the format {pose_format}: "
                "use mean='pca' or 'flat'"
            )
        pose = torch.cat((pose[..., :1, :], pose[..., 1:, :] + pca.mean.unflatten(-1, (-1, 3))), -2)
    return to_matrix(pose, pose_format)


def _guess(pose: Tensor, joints: int) -> str:
    """The format that the shape allows; more than one or none is an error."""
    shape = tuple(pose.shape)
    fits = [
        name
        for name, (single, _) in ROTATION_FORMATS.items()
        if shape[-1 - len(single) :] == (joints, *single)
    ]
    fits = fits or (["axis_angle"] if shape[-1:] == (3 * joints,) else [])
    if len(fits) != 1:
        raise UserError(
            f"pose: expected (..., {3 * joints}), (..., {joints}, 3), (..., {joints}, 4), (..., {joints}, 6) or "
            f"(..., {joints}, 3, 3) for {joints} joints, found {shape}; for coefficients give pose_format='pca'"
        )
    return fits[0]


def _from_parts(
    parts: Mapping[str, Tensor],
    joints: int,
    *,
    pose_format: str | None,
    pca: PosePca,
    mean: str,
    layout: str,
) -> Tensor:
    """{"root", "body", "left_hand", ...}: each part in its own notation; what is missing stays at rest."""
    groups = {"root": (0,)} | (
        LAYOUTS[layout].groups if layout in LAYOUTS else {"joints": tuple(range(1, joints))}
    )
    hands = LAYOUTS[layout].hands if layout in LAYOUTS else ()
    unknown = sorted(set(parts) - set(groups))
    if unknown:
        raise UserError(f"pose: unknown part {unknown[0]!r}; a {layout} model has {', '.join(groups)}")
    found: dict[int, Tensor] = {}
    for name, value in parts.items():
        members = groups[name]
        count = len(members)
        coefficients = name in hands and pose_format == "pca"
        if coefficients:
            where = hands.index(name)
            block = pca.blocks[where][: pca.count]
            if not len(block):
                raise UserError(f"pose: {name}: this model has no pose components; give axis-angles")
            if value.shape[-1] != len(block):
                raise UserError(
                    f"pose: {name}: expected (..., {len(block)}) coefficients, found {tuple(value.shape)}"
                )
            columns = [3 * (joint - 1) + axis for joint in members for axis in range(3)]
            angles = value @ block[:, columns]
            if mean != "flat":
                angles = angles + pca.mean[columns]
            matrices = axis_angle_to_matrix(angles.unflatten(-1, (count, 3)))
        else:
            if value.shape[-1:] == (3 * count,) and value.shape[-2:] != (count, 3):
                value = value.unflatten(-1, (count, 3))
            kind = _guess(value, count)
            if mean == "model" and kind == "axis_angle" and name != "root":
                columns = [3 * (joint - 1) + axis for joint in members for axis in range(3)]
                value = value + pca.mean[columns].unflatten(-1, (count, 3))
            matrices = to_matrix(value, kind)
        for place, joint in enumerate(members):
            found[joint] = matrices[..., place, :, :]
    some = next(iter(found.values()), pca.mean)
    eye = torch.eye(3, dtype=some.dtype, device=some.device)
    given = [found.get(joint, eye) for joint in range(joints)]
    lead = torch.broadcast_shapes(*(matrix.shape for matrix in given))
    return torch.stack([matrix.expand(lead) for matrix in given], -3)
