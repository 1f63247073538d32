"""What cameras must be, checked where they enter; every message names the camera's index."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from .models import CAMERA_MODELS, PARAMETER_NAMES, check_model

__all__ = ["camera_records", "check_lenses", "checked_poses", "checked_sizes"]

_ROUNDING = 1e-3  # poses written with three or four decimals are off by this much; more is a mistake
_LARGEST_SIDE = 1 << 20


def checked_sizes(sizes: object, count: int, device: torch.device | str) -> Tensor:
    """(n, 2) int64 widths and heights, each at least one."""
    sizes = torch.as_tensor(sizes)
    if sizes.shape != (count, 2):
        raise UserError(
            f"cameras: sizes of shape {tuple(sizes.shape)} for {count} cameras; give ({count}, 2)"
        )
    bad = torch.nonzero(~((sizes >= 1) & (sizes <= _LARGEST_SIDE)).all(1))
    if len(bad):
        i = int(bad[0])
        width, height = sizes[i].tolist()
        raise UserError(
            f"camera {i}: image size {width} x {height}; both sides must be 1 to {_LARGEST_SIDE} pixels"
        )
    return sizes.to(device=device, dtype=torch.int64)


def check_lenses(models: tuple[str, ...], params: Tensor, sizes: Tensor) -> None:
    """Raises UserError for an unknown model and for parameters (n, 12) that no lens has."""
    for i, (model, values) in enumerate(zip(models, params.tolist(), strict=True)):
        check_model(model, f"camera {i}")
        named = dict(zip(PARAMETER_NAMES[model], values, strict=False))
        for name, value in named.items():
            if not math.isfinite(value):
                raise UserError(
                    f"camera {i}: {model} parameter {name} is {value}; it must be a finite number"
                )
            if name in ("f", "fx", "fy") and value <= 0:
                raise UserError(f"camera {i}: {model} focal length {name} is {value}; it must be positive")
        if abs(named.get("omega", 0.0)) >= math.pi:
            raise UserError(f"camera {i}: FOV omega is {named['omega']} rad; it must lie between -pi and pi")
        if any(values[len(named) :]):
            extra = values[len(named) :]
            raise UserError(f"camera {i}: {model} has {len(named)} parameters, but more are set: {extra}")


def checked_poses(camera_to_world: object, count: int) -> Tensor:
    """(n, 4, 4) float64 rigid poses; rotations off by rounding become the nearest rotation."""
    poses = torch.as_tensor(camera_to_world).to(torch.float64)
    if poses.shape != (count, 4, 4):
        raise UserError(
            f"cameras: poses of shape {tuple(poses.shape)} for {count} cameras; give ({count}, 4, 4)"
        )
    values = poses.detach().cpu()
    bad = torch.nonzero(~values.isfinite().flatten(1).all(1))
    if len(bad):
        raise UserError(f"camera {int(bad[0])}: the pose has a number that is not finite; drop this image")
    bottom = values[:, 3] - values.new_tensor([0.0, 0.0, 0.0, 1.0])
    bad = torch.nonzero(bottom.abs().amax(1) > 1e-6)
    if len(bad):
        i = int(bad[0])
        raise UserError(
            f"camera {i}: the last row of the pose is {values[i, 3].tolist()}; it must be 0 0 0 1"
        )
    rotation = values[:, :3, :3]
    error = (rotation.mT @ rotation - torch.eye(3, dtype=torch.float64)).abs().amax((1, 2))
    determinant = torch.linalg.det(rotation)
    bad = torch.nonzero((error > _ROUNDING) | (determinant < 0))
    if len(bad):
        i = int(bad[0])
        kind = "mirrors" if determinant[i] < 0 and error[i] <= _ROUNDING else "is not a rotation"
        raise UserError(
            f"camera {i}: the 3x3 part of the pose {kind} (determinant {determinant[i]:.6g}, off by "
            f"{error[i]:.3g}); give a rigid camera_to_world without scale or reflection"
        )
    if bool((error > 1e-12).any()) and not poses.requires_grad:
        u, _, vt = torch.linalg.svd(rotation)
        exact = values.clone()
        exact[:, :3, :3] = torch.where((error > 1e-12)[:, None, None], u @ vt, rotation)
        exact[:, 3] = exact.new_tensor([0.0, 0.0, 0.0, 1.0])
        poses = exact.to(poses.device)
    return poses


def camera_records(value: object) -> tuple[tuple[str, ...], Tensor, Tensor, np.ndarray]:
    """The four fields of `Cameras` out of `Cameras.to_json`'s list; UserError if it is not one."""
    if not isinstance(value, list):
        raise UserError(f"cameras: expected a list of cameras, found {type(value).__name__}")
    models, params, sizes, poses = [], [], [], []
    for i, record in enumerate(value):
        try:
            model = str(record["model"])
            check_model(model, f"camera {i}")
            lens = [float(number) for number in record["params"]]
            size = [int(record["width"]), int(record["height"])]
            pose = np.array(record["camera_to_world"], np.float64)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"camera {i}: not a camera record ({type(error).__name__}: {error}); "
                "it needs model, params, width, height and camera_to_world"
            ) from error
        if max(map(abs, size)) > _LARGEST_SIDE:  # int64 could not hold any whole number that JSON can
            raise UserError(f"camera {i}: the image has a side longer than {_LARGEST_SIDE} pixels")
        if len(lens) != CAMERA_MODELS[model]:
            raise UserError(f"camera {i}: {model} takes {CAMERA_MODELS[model]} parameters, found {len(lens)}")
        if pose.shape != (4, 4):
            raise UserError(f"camera {i}: camera_to_world has shape {pose.shape}; it must be (4, 4)")
        models.append(model)
        params.append(lens + [0.0] * (12 - len(lens)))
        sizes.append(size)
        poses.append(pose)
    table = torch.tensor(params, dtype=torch.float64).reshape(-1, 12)
    return tuple(models), table, torch.tensor(sizes).reshape(-1, 2), np.array(poses).reshape(-1, 4, 4)
