"""A hand's poses as a field is seen through them: cubes, tables that take points back, renderers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from ...fields.articulated.deformer import Deformer, PosedSpace
from ...fields.articulated.geometry import cap, subdivide
from ...fields.articulated.model import ArticulatedModel
from ...fields.encodings.spherical_harmonics import spherical_harmonics
from ...fields.radiance import RadianceField
from ...render.volume.occupancy import OccupancyGrid
from ...render.volume.renderer import VolumeRenderer
from ...render.volume.stepping import Stepping
from ..hand.result import open_result

__all__ = ["HandMotion", "PosedField", "read_motion"]


class PosedField:
    """A radiance field seen through one pose: what the renderer calls. Cube coordinates are of the cube around all poses."""

    def __init__(self, field: RadianceField, space: PosedSpace | None, to_rest: Similarity) -> None:
        self.field, self.space = field, space
        self.scale = float(to_rest.scale)
        self.shift = torch.from_numpy(np.asarray(to_rest.translation)).float()

    def _place(self, positions: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.space is None:
            return positions, None
        canonical, turn, _ = self.space.to_canonical(positions)
        return (canonical * self.scale + self.shift).clamp(0, 1), turn

    def look(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.field.look(self._place(positions)[0])

    def density(self, positions: Tensor, condition: None = None) -> Tensor:
        return self.field.density(self._place(positions)[0])

    def geometry(self, positions: Tensor, encoded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Density, and features with the turn to the rest hand behind them, which `colour` needs."""
        place, turn = self._place(positions)
        density, features = self.field.geometry(place, encoded)
        if turn is None:
            turn = torch.eye(3).expand(len(positions), 3, 3)
        return density, torch.cat((features, turn.flatten(1)), 1)

    def colour(self, directions: Tensor, features: Tensor, ray: Tensor) -> Tensor:
        features, turn = features[:, :-9], features[:, -9:].detach().unflatten(1, (3, 3))
        own = (turn @ directions[ray.long()][..., None])[..., 0]
        own = torch.nn.functional.normalize(own, dim=1)
        basis = spherical_harmonics(own, self.field.settings.direction_degree)
        index = torch.arange(len(own), dtype=torch.int32)
        return torch.sigmoid(self.field.colour_head(features, basis, index))

    def parameters(self):
        return self.field.parameters()


class HandMotion:
    """Poses of one hand. Coordinates are of the cube around all of them; the field lives in the cube around the hand at rest."""

    def __init__(
        self,
        arrays: dict[str, Tensor],  # as `read_motion` gives them
        field: RadianceField,
        *,
        reach: float,  # metres from the posed surface within which there may be anything
        resolution: int,  # cells along the cube
        steps_across: int,
        deformer: bool,
        backend: str,
    ) -> None:
        self.arrays, self.field = arrays, field
        self.reach, self.resolution = reach, resolution
        self._settings = {
            "reach": reach,
            "resolution": resolution,
            "steps_across": steps_across,
            "deformer": deformer,
            "backend": backend,
        }
        self._spaces: dict[int, PosedSpace] = {}
        self._renderers: dict[int, VolumeRenderer] = {}
        skinning, rest = arrays["skinning"], arrays["rest"]
        posed = torch.stack(
            [((arrays["weights"] @ s[:, :3].flatten(1)).unflatten(-1, (3, 4)) @ _with_one(r)[..., None])[..., 0]
             for s, r in zip(skinning, rest)]
        )  # fmt: skip
        self.frame = _cube(posed.reshape(-1, 3), 2 * reach)
        """From the source frame to the cube around all poses."""
        rest_cube = _cube(arrays["canonical"], 4 * reach)
        # lengths in cube coordinates, so that marching, tables and transforms share them
        scale, shift = self.frame.scale, torch.from_numpy(self.frame.translation).float()
        moved = skinning[:, :, :3].clone()
        moved[..., 3] = scale * moved[..., 3] + shift - (moved[..., :3] @ shift[:, None])[..., 0]
        self._skinning, self._rest = moved, rest * scale + shift
        self.deformer = Deformer(arrays["canonical"] * scale + shift, arrays["weights"], apart=0.012 * scale)
        self.to_rest = self.frame.inverse().then(rest_cube)

    def __len__(self) -> int:
        return len(self.arrays["skinning"])

    def with_arrays(self, arrays: dict[str, Tensor]) -> HandMotion:
        """Other poses of the same hand, seen through the same field."""
        return HandMotion(arrays, self.field, **self._settings)

    def posed_field(self, pose: int) -> PosedField:
        """The field as pose number `pose` shows it."""
        return PosedField(self.field, self.space(pose) if self._settings["deformer"] else None, self.to_rest)

    def space(self, pose: int) -> PosedSpace:
        """The table of a pose, made when first asked for."""
        if pose not in self._spaces:
            self._spaces[pose] = self.deformer.pose(
                self._rest[pose],
                self._skinning[pose],
                low=torch.zeros(3),
                side=1.0,
                resolution=self.resolution,
                reach=self.reach * self.frame.scale,
            )
        return self._spaces[pose]

    def renderer(self, pose: int) -> VolumeRenderer:
        """Marches only through cells near the surface of a pose."""
        if pose not in self._renderers:
            occupancy = OccupancyGrid(self.resolution, 1)
            near = self.space(pose).occupied[None]
            occupancy.load_state({"values": near.float(), "cells": near})
            self._renderers[pose] = VolumeRenderer(
                occupancy,
                Stepping(math.sqrt(3) / self._settings["steps_across"]),
                0.0,
                backend=self._settings["backend"],
            )
        return self._renderers[pose]


def read_motion(path: str | Path, shape: np.ndarray | None = None) -> dict[str, Tensor]:
    """Rest hand, weights, shape, and per pose the corrected rest vertices and skinning transforms, of a hand refined once.

    path: a result file; shape: another shape than the file's. Raises `UserError`.
    """
    data, result = open_result(str(path))
    shape = result.shape if shape is None else shape
    if len(shape) > data.shape_basis.shape[2]:
        raise UserError(
            f"{path}: shape: expected at most {data.shape_basis.shape[2]} numbers, the model's, found {len(shape)}"
        )
    model = ArticulatedModel(subdivide(cap(data), 1), dtype=torch.float64)
    identity = model.identity(torch.from_numpy(np.asarray(shape, np.float64)))
    posed = model(
        identity=identity,
        pose=torch.from_numpy(result.pose),
        translation=torch.from_numpy(result.translation),
        pose_format="axis_angle",
    )
    return {
        "canonical": identity.vertices[0].float(),
        "shape": torch.from_numpy(np.asarray(shape, np.float64)),
        "weights": model.weights.float(),
        "rest": posed.rest_vertices.expand(len(result.pose), -1, -1).float().contiguous(),
        "skinning": posed.skinning[:, :, :3].float().contiguous(),
    }


def _with_one(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones_like(points[:, :1])), 1)


def _cube(points: Tensor, margin: float) -> Similarity:
    """The smallest axis-aligned cube around points and a margin, to [0, 1]^3."""
    low, high = points.amin(0).double().numpy() - margin, points.amax(0).double().numpy() + margin
    side = float((high - low).max())
    centre = (low + high) / 2
    return Similarity(1 / side, np.eye(3), 0.5 - centre / side)
