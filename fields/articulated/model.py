"""The articulated model: shape, pose and translation in; vertices, joints and transforms out (Romero et al. 2017, section 4)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .anatomical_angles import anatomical_frames, anatomical_to_matrix, matrix_to_anatomical
from .joint_sets import joint_set
from .kinematics import forward_kinematics, pose_feature, skinning_transforms
from .model_data import ModelData
from .model_file import read_model, write_model
from .poses import MEANS, PosePca, pose_matrices
from .skinning import skin

__all__ = ["ArticulatedModel", "Identity", "Posed"]


@dataclass(frozen=True)
class Identity:
    """A shape, worked out once: rest vertices and joints of i bodies (i is 1 or the batch)."""

    shape: Tensor
    """(i, s)."""
    vertices: Tensor
    """(i, v, 3) shaped, unposed."""
    joints: Tensor
    """(i, j, 3) rest joints."""


@dataclass(frozen=True)
class Posed:
    """A batch of posed bodies; the leading shape of all arrays is that of the arguments, at least (1,)."""

    vertices: Tensor | None
    """(..., v, 3) metres; None with skeleton_only."""
    joints: Tensor
    """(..., j, 3) metres."""
    transforms: Tensor
    """(..., j, 4, 4): each joint's frame in the world, its position in the last column."""
    skinning: Tensor
    """(..., j, 4, 4): takes points of the rest body to the posed one; weights blend these."""
    rotations: Tensor
    """(..., j, 3, 3) relative to the parents: the pose as matrices."""
    rest_vertices: Tensor | None
    """(..., v, 3): shaped and corrected, before skinning. Leading dimensions may be 1."""
    rest_joints: Tensor
    """(..., j, 3): joints of the shaped body at rest. Leading dimensions may be 1."""


class ArticulatedModel:
    """Any template, shape basis, pose correctives, joint regressor, tree and weights, as one differentiable function.

    Arrays are held in float64 (`data`) and given out in `dtype` on `device`; `to` starts from float64 again, so nothing is lost
    on the way through float32. `mean` says where the mean pose is added: "pca" (the default) to poses given as coefficients only;
    "model" to coefficients and axis-angles, as smplx and MANO do with flat_hand_mean=False; "flat" nowhere, as with
    flat_hand_mean=True. `components`: how many pose coefficients a pose has (None: all).
    """

    def __init__(
        self,
        data: ModelData,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        mean: str = "pca",
        components: int | None = None,
        backend: str = "auto",
        rest: tuple[np.ndarray, np.ndarray] | None = None,  # of a vertex subset: (j, 3), (j, 3, s)
    ) -> None:
        if mean not in MEANS:
            raise UserError(f"mean: expected one of {', '.join(MEANS)}, found {mean!r}")
        self.data, self.dtype, self.device = data, dtype, torch.device(device)
        self.mean, self.backend, self._components, self._rest = mean, backend, components, rest

        def tensor(array: np.ndarray) -> Tensor:
            kind = dtype if array.dtype.kind == "f" else torch.int64
            return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, kind)

        v, s = len(data.template), data.shape_basis.shape[2]
        if rest is None:
            rest = (data.joints, np.einsum("jv,vds->jds", data.joint_regressor, data.shape_basis))
        self.template, self.faces = tensor(data.template), tensor(data.faces)
        """(v, 3) and (f, 3)."""
        self.joint_regressor, self.weights = tensor(data.joint_regressor), tensor(data.weights)
        """(j, v) and (v, j)."""
        self.pose_mean, self.pose_components = tensor(data.pose_mean), tensor(data.pose_components)
        """(3 (j - 1),) and (c, 3 (j - 1))."""
        self.joint_template, self.joint_basis = tensor(rest[0]), tensor(rest[1])
        """(j, 3) and (j, 3, s): the regressor applied to the template and to the shape basis, once."""
        # one matrix for both blends, so that a batch is one product: rows are shape directions, then correctives
        self._blend = tensor(
            np.concatenate(
                (
                    data.shape_basis.reshape(3 * v, s),
                    data.pose_correctives.reshape(3 * v, data.pose_correctives.shape[2]),
                ),
                1,
            ).T
        ).contiguous()
        self.parents = tuple(int(parent) for parent in data.parents)
        self.joint_names, self.layout, self.side = data.joint_names, data.layout, data.side
        self.pca = PosePca(self.pose_components, self.pose_mean, data.layout, components)
        self._no_correctives = not data.pose_correctives.any()
        self._parents = np.array(self.parents, np.int64)
        # weights that sum to 1 let the translation ride along with the transforms
        self._quick_kind = (
            dtype == torch.float32
            and self.device.type == "cpu"
            and bool(np.abs(data.weights.sum(1) - 1).max() < 1e-6)
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        mean: str = "pca",
        components: int | None = None,
    ) -> ArticulatedModel:
        """Reads a model file of ours (`hand convert` and `hand learn` write them). Raises `UserError`."""
        return cls(read_model(path), dtype=dtype, device=device, mean=mean, components=components)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model's arrays as an `.npz` that `load` reads."""
        write_model(path, self.data)

    def to(
        self, dtype: torch.dtype | None = None, device: str | torch.device | None = None
    ) -> ArticulatedModel:
        """The same model in another number type or on another device, from its float64 arrays."""
        return self._again(dtype=dtype or self.dtype, device=device or self.device)

    def with_pose_space(self, *, mean: str | None = None, components: int | None = None) -> ArticulatedModel:
        """The same model with another use of the mean pose or another number of pose coefficients."""
        return self._again(mean=mean or self.mean, components=components or self._components)

    @property
    def vertex_count(self) -> int:
        return len(self.template)

    @property
    def joint_count(self) -> int:
        return len(self.parents)

    @property
    def shape_count(self) -> int:
        return self.joint_basis.shape[2]

    @property
    def shape_basis(self) -> Tensor:
        """(v, 3, s), a view."""
        return self._blend[: self.shape_count].T.unflatten(0, (-1, 3))

    @property
    def pose_correctives(self) -> Tensor:
        """(v, 3, 9 (j - 1)), a view."""
        return self._blend[self.shape_count :].T.unflatten(0, (-1, 3))

    def matrices(
        self,
        pose: Tensor | Mapping[str, Tensor],
        pose_format: str | None = None,
        rest_joints: Tensor | None = None,  # (..., j, 3) of the shape; None: the template's
    ) -> Tensor:
        """A pose in any notation as (..., j, 3, 3) rotations relative to the parents; only "anatomical" looks at the joints."""
        if pose_format == "anatomical":
            return self._from_anatomical(pose, rest_joints)
        if isinstance(pose, Mapping):
            pose = {name: self._real(value, f"pose {name}") for name, value in pose.items()}
        else:
            pose = self._real(pose, "pose")
        return pose_matrices(
            pose,
            self.joint_count,
            pose_format=pose_format,
            pca=self.pca,
            mean=self.mean,
            layout=self.layout,
        )

    def anatomical_angles(
        self,
        rotations: Tensor,  # (..., j, 3, 3), as in `Posed.rotations`
        shape: Tensor | None = None,  # (..., s')
    ) -> Tensor:  # (..., j, 3) radians
        """Twist, spread and bend of finger joints: what pose_format="anatomical" takes. See `anatomical_angles`."""
        rest = self._rest_joints(self._betas(shape))
        return matrix_to_anatomical(rotations, anatomical_frames(rest, self.layout, self.side))

    def identity(
        self,
        shape: Tensor | None = None,  # (s',) or (i, s'), s' at most s
    ) -> Identity:
        """Rest vertices and joints of a shape, to be reused over many poses. Differentiable with respect to shape."""
        betas = self._betas(shape)
        betas = betas.reshape(-1, self.shape_count)
        vertices = self.template + (betas @ self._blend[: self.shape_count]).unflatten(-1, (-1, 3))
        return Identity(betas, vertices, self._rest_joints(betas))

    def __call__(
        self,
        shape: Tensor | None = None,  # (..., s') with s' at most s; None: the mean shape
        pose: Tensor | Mapping[str, Tensor] | None = None,  # None: at rest
        translation: Tensor | None = None,  # (..., 3) metres
        *,
        pose_format: str
        | None = None,  # axis_angle, quaternion, 6d, matrix, pca or anatomical; None: told from pose's shape
        identity: Identity | None = None,  # instead of shape
        skeleton_only: bool = False,
        backend: str | None = None,
    ) -> Posed:
        """Poses a batch of bodies; leading dimensions of all arguments broadcast.

        `pose` is (..., j, 3) or (..., 3 j) axis-angles, (..., j, 4) quaternions (w first), (..., j, 6), (..., j, 3, 3) matrices,
        with pose_format="pca" what `PosePca` says, with "anatomical" (..., j, 3) as `anatomical_angles` says, or a mapping from parts of the layout ("root", "hand", "body",
        "left_hand", ...) to such arrays. The root turns about joint 0, not about the origin; translation is added last.
        Differentiable with respect to shape, pose and translation (once on the CPU in float32 unless backend is "reference").
        Raises `UserError` where shapes do not fit.
        """
        if identity is not None and shape is not None:
            raise UserError("give shape or identity, not both")
        betas = self._betas(shape) if identity is None else None
        quick = self._is_quick(backend or self.backend, shape, pose, translation, identity)
        rotations = self._quick_rotations(pose, pose_format) if quick else None
        if rotations is not None:
            pass
        elif pose is None:
            rotations = torch.eye(3, dtype=self.dtype, device=self.device).expand(1, self.joint_count, 3, 3)
        elif pose_format == "anatomical":
            rest_joints = self._rest_joints(betas) if identity is None else identity.joints
            rotations = self._from_anatomical(pose, rest_joints)
        else:
            rotations = self.matrices(pose, pose_format)
        move = None if translation is None else self._real(translation, "translation")
        if move is not None and move.shape[-1:] != (3,):
            raise UserError(f"translation: expected (..., 3), found {tuple(move.shape)}")
        leads = [rotations.shape[:-3], (1,)]
        leads += [betas.shape[:-1]] if betas is not None else [identity.shape.shape[:-1]]
        leads += [] if move is None else [move.shape[:-1]]
        try:
            lead = torch.broadcast_shapes(*leads)
        except RuntimeError:
            raise UserError(
                f"leading shapes do not broadcast: pose {tuple(leads[0])}, shape {tuple(leads[2])}"
                + ("" if move is None else f", translation {tuple(leads[3])}")
            ) from None
        batch = lead.numel()
        rotations = rotations.expand(*lead, -1, -1, -1).reshape(batch, self.joint_count, 3, 3)
        if betas is not None and betas.numel() != self.shape_count:
            betas = betas.expand(*lead, -1).reshape(batch, self.shape_count)
        elif betas is not None:
            betas = betas.reshape(1, self.shape_count)
        rest_joints = self._rest_joints(betas) if identity is None else identity.joints
        if identity is not None and len(lead) > 1 and len(rest_joints) > 1:
            raise UserError(
                f"identity holds {len(rest_joints)} bodies: pose it with a flat batch, found {tuple(lead)}"
            )
        vertices = rest = None
        if not skeleton_only:
            rest = self._rest_vertices(betas, identity, rotations)
        flat = None if move is None else move.expand(*lead, 3).reshape(batch, 1, 3)
        if quick:
            from . import kinematics_cpu

            transforms, skinning = kinematics_cpu.chain(
                rotations, rest_joints, None if flat is None else flat[:, 0], self._parents
            )
            if rest is not None:
                vertices = skin(rest, skinning[:, :, :3], self.weights, backend=backend or self.backend)
            return self._posed(lead, vertices, transforms, skinning, rotations, rest, rest_joints)
        transforms = forward_kinematics(rotations, rest_joints, self.parents)
        skinning = skinning_transforms(transforms, rest_joints)
        if rest is not None:
            vertices = skin(rest, skinning, self.weights, backend=backend or self.backend)
        if flat is not None:
            vertices = None if vertices is None else vertices + flat
            shift = torch.cat((torch.zeros_like(flat).expand(-1, 3, -1), flat), 1).transpose(1, 2)[:, None]
            transforms, skinning = transforms + shift, skinning + shift
        return self._posed(
            lead, vertices, _homogeneous(transforms), _homogeneous(skinning), rotations, rest, rest_joints
        )

    @staticmethod
    def _posed(
        lead: torch.Size,
        vertices: Tensor | None,
        transforms: Tensor,  # (b, j, 4, 4)
        skinning: Tensor,
        rotations: Tensor,
        rest: Tensor | None,
        rest_joints: Tensor,
    ) -> Posed:
        def led(tensor: Tensor | None) -> Tensor | None:
            flat = tensor is None or len(lead) == 1 or tensor.shape[0] != transforms.shape[0]
            return tensor if flat else tensor.unflatten(0, lead)

        return Posed(
            vertices=led(vertices),
            joints=led(transforms)[..., :3, 3],
            transforms=led(transforms),
            skinning=led(skinning),
            rotations=led(rotations),
            rest_vertices=led(rest),
            rest_joints=led(rest_joints),
        )

    def _is_quick(self, backend: str, *given: object) -> bool:
        """Whether the compiled pass will do: float32 on the CPU, and no gradient is wanted."""
        if not self._quick_kind or backend == "reference":
            return False
        if not torch.is_grad_enabled():
            return True
        flat: list[object] = []
        for value in given:
            if isinstance(value, Identity):
                flat += [value.shape, value.vertices, value.joints]
            else:
                flat += list(value.values()) if isinstance(value, Mapping) else [value]
        return not any(isinstance(value, Tensor) and value.requires_grad for value in flat)

    def _quick_rotations(self, pose: object, pose_format: str | None) -> Tensor | None:
        """Axis-angles as matrices by the compiled kernel; None where `matrices` has to look more closely."""
        j = self.joint_count
        if not isinstance(pose, Tensor) or self.mean == "model" or pose.dtype != torch.float32:
            return None
        if pose_format != "axis_angle" and not (pose_format is None and j > 6):
            return None
        if pose.shape[-1:] == (3 * j,):
            pose = pose.reshape(*pose.shape[:-1], j, 3)
        if pose.shape[-2:] != (j, 3) or pose.numel() == 0 or pose.device != self.device:
            return None
        from . import kinematics_cpu

        return kinematics_cpu.rotations(pose)

    def joint_set(
        self,
        posed: Posed,
        name: str,  # mano16, mano21, openpose21, interhand21 or webxr25
        *,
        tips: str
        | Sequence[int]
        | None = None,  # preset name or vertices; None: the model's own, else "smplx"
        side: str | None = None,  # of a body: "left" or "right"
    ) -> Tensor:  # (..., n, 3)
        """The joints of a hand in a named set, fingertips taken from vertices. Differentiable. See `joint_sets`."""
        return joint_set(
            name,
            posed.joints,
            posed.vertices,
            tips=tips,
            layout=self.layout,
            side=side or self.side,
            fingertips=self.data.fingertips,
        )

    def subset(
        self,
        vertices: Sequence[int] | np.ndarray,
    ) -> ArticulatedModel:
        """A model of these vertices alone, with the same joints: losses on 200 points need not skin all of them.

        Faces are those whose three corners are kept. The joint regressor of a subset is empty rows: joints come from the
        stored rest joints, so `data` of a subset cannot be saved.
        """
        index = np.asarray(vertices, np.int64).reshape(-1)
        v = self.vertex_count
        if index.size == 0 or index.min() < 0 or index.max() >= v:
            raise UserError(f"vertices: expected numbers from 0 to {v - 1}, found {index.tolist()[:8]}")
        place = np.full(v, -1)
        place[index] = np.arange(len(index))
        faces = place[self.data.faces]
        tips = place[self.data.fingertips]
        data = self.data.replace(
            template=self.data.template[index],
            shape_basis=self.data.shape_basis[index],
            pose_correctives=self.data.pose_correctives[index],
            joint_regressor=np.zeros((self.joint_count, len(index))),
            weights=self.data.weights[index],
            faces=faces[(faces >= 0).all(1)],
            fingertips=tips if (tips >= 0).all() else np.zeros(0, np.int64),
        )
        rest = self._rest or (
            self.data.joints,
            np.einsum("jv,vds->jds", self.data.joint_regressor, self.data.shape_basis),
        )
        return self._again(data=data, rest=rest)

    def _again(self, **changes: object) -> ArticulatedModel:
        settings = {
            "data": self.data,
            "dtype": self.dtype,
            "device": self.device,
            "mean": self.mean,
            "components": self._components,
            "backend": self.backend,
            "rest": self._rest,
        } | changes
        return ArticulatedModel(settings.pop("data"), **settings)

    def _from_anatomical(self, pose: object, rest_joints: Tensor | None) -> Tensor:
        if isinstance(pose, Mapping):
            raise UserError("pose: anatomical angles are given for all joints (..., j, 3), not by parts")
        if self.mean == "model":
            raise UserError(
                "mean='model' adds the mean pose to axis-angles; it means nothing for the format anatomical: "
                "use mean='pca' or 'flat'"
            )
        angles, j = self._real(pose, "pose"), self.joint_count
        if angles.shape[-1:] == (3 * j,) and angles.shape[-2:] != (j, 3):
            angles = angles.unflatten(-1, (j, 3))
        if angles.shape[-2:] != (j, 3):
            raise UserError(
                f"pose: expected (..., {j}, 3) or (..., {3 * j}) in the format anatomical, found {tuple(angles.shape)}"
            )
        rest = self._rest_joints(self._betas(None)) if rest_joints is None else rest_joints
        try:
            return anatomical_to_matrix(angles, anatomical_frames(rest, self.layout, self.side))
        except RuntimeError:
            raise UserError(
                f"leading shapes do not broadcast: pose {tuple(angles.shape[:-2])}, shape {tuple(rest.shape[:-2])}"
            ) from None

    def _rest_joints(self, betas: Tensor) -> Tensor:
        return self.joint_template + (betas @ self.joint_basis.flatten(0, 1).T).unflatten(-1, (-1, 3))

    def _rest_vertices(self, betas: Tensor | None, identity: Identity | None, rotations: Tensor) -> Tensor:
        """(b or 1, v, 3): shape and correctives in one product, or correctives on a known identity."""
        s = self.shape_count
        if identity is None and len(betas) == 1 and len(rotations) > 1:
            identity = Identity(betas, self.identity(betas).vertices, betas)
        if self._no_correctives:
            if identity is not None:
                return identity.vertices
            return self.template + (betas @ self._blend[:s]).unflatten(-1, (-1, 3))
        feature = pose_feature(rotations)
        if identity is not None:
            base, coefficients, basis = identity.vertices.flatten(1), feature, self._blend[s:]
        else:
            base = self.template.flatten()[None]
            coefficients, basis = torch.cat((betas, feature), -1), self._blend
        return torch.addmm(base, coefficients, basis).unflatten(-1, (-1, 3))

    def _betas(self, shape: Tensor | None) -> Tensor:
        """(..., s): missing coefficients are 0."""
        s = self.shape_count
        if shape is None:
            return torch.zeros(s, dtype=self.dtype, device=self.device)
        shape = self._real(shape, "shape")
        count = shape.shape[-1] if shape.ndim else 0
        if not shape.ndim or count > s:
            raise UserError(
                f"shape: expected (..., n) with n at most {s}, the model's shape directions, found {tuple(shape.shape)}"
            )
        return shape if count == s else torch.nn.functional.pad(shape, (0, s - count))

    def _real(self, value: object, key: str) -> Tensor:
        tensor = torch.as_tensor(value, device=self.device)
        if tensor.dtype != self.dtype:
            if tensor.dtype.is_complex or tensor.dtype == torch.bool:
                raise UserError(f"{key}: expected real numbers, found {tensor.dtype}")
            tensor = tensor.to(self.dtype)
        return tensor


def _homogeneous(transforms: Tensor) -> Tensor:
    """(..., 3, 4) with the row (0, 0, 0, 1) added."""
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=transforms.dtype, device=transforms.device)
    return torch.cat((transforms, last.expand(*transforms.shape[:-2], 1, 4)), -2)
