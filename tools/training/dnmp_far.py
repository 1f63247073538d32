"""What lies behind and above the primitives: a small radiance field for the rays that they leave open, before the sky.

A scanner's beams end a few degrees above the horizon, so houses' tops, trees and all that is far have no points and no primitives. The paper fills such
pixels with another model's pictures (the released tester: a Mip-NeRF trained apart); here a contracted hash grid is trained with the rest. Ours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.similarity import Similarity

from ...fields.radiance import RadianceField, RadianceSettings
from ...render.cameras import Cameras
from ...render.volume.contraction import contract
from ...render.volume.distortion import distortion
from ...render.volume.occupancy import OccupancyGrid
from ...render.volume.renderer import VolumeRenderer
from ...render.volume.stepping import Stepping
from .checkpoint import prefixed, select
from .methods import ParameterGroup, radiance_groups

__all__ = ["OPEN", "FarField"]

OPEN = 0.05
"""Light that must be left behind the primitives for the far field to be asked; less shows the sky alone."""
COARSE = ((32, 8), (96, 4), (192, 2))
"""(until step of stage 2, times longer steps)."""
REACH, NEAR = 0.27, 0.02
"""Distances, in sides of the cube: from which steps grow, and at which rays begin."""
EARLY_STOP = 5e-3
"""Light at which a ray ends: a picture of eight bits does not show less."""
RESOLUTION, CASCADES = 64, 6


class _Rates:
    learning_rate, head_learning_rate, head_weight_decay = 4e-2, 1e-2, 1e-6


class FarField:
    """A radiance field in the frame of the primitives; marched only in cells that open pixels of training views look into."""

    def __init__(
        self,
        centre: np.ndarray,
        half_side: float,
        *,
        levels: int,  # of the hash grid
        cone: float,  # length of a step over its distance
        hidden: int,
        backend: str,
        precision: str,
        seed: int,
    ) -> None:
        side = 2.0 * half_side
        self.frame = Similarity(1 / side, np.eye(3), 0.5 - np.asarray(centre, float) / side)
        self.cone = cone
        settings = RadianceSettings(levels=levels, log2_table_size=18, finest_resolution=1024, hidden=hidden)
        self.field = RadianceField(
            settings,
            warp=contract,
            backend=backend,
            precision=precision,
            generator=torch.Generator().manual_seed(seed),
        )
        self.renderer = VolumeRenderer(
            OccupancyGrid(RESOLUTION, CASCADES),
            self._stepping(1),
            NEAR,
            early_stop=EARLY_STOP,
            minimum_alpha=2e-3,
            backend="reference" if backend == "reference" else "auto",
        )
        self.steps = 0
        self.spread: Tensor | float = 0.0
        """Distortion loss of the last `train`: a term of the loss that keeps fog from standing before things."""

    def _stepping(self, coarser: int) -> Stepping:
        cone = self.cone * coarser
        return Stepping(cone * REACH, cone, max(2.0 ** (CASCADES - 1) / RESOLUTION, cone * REACH))

    def groups(self) -> list[ParameterGroup]:
        groups = radiance_groups(self.field, _Rates)
        return [
            ParameterGroup(f"far {g.name}", g.parameters, g.learning_rate, g.sparse, g.weight_decay)
            for g in groups
        ]

    @torch.no_grad()
    def restrict(self, cameras: Cameras, closed: list[Tensor]) -> None:
        """Closes the cells that no open pixel looks into. `closed`: (h, w) bool of each camera, where a primitive is in front."""

        def visible(points: Tensor) -> Tensor:
            world = torch.from_numpy(self.frame.inverse().apply(points.double().numpy()))
            found = torch.zeros(len(points), dtype=torch.bool)
            for index, taken in enumerate(closed):
                todo = torch.nonzero(~found)[:, 0]
                if not len(todo):
                    break
                pixels, z = cameras.project(world[todo], torch.tensor([index]))
                height, width = taken.shape
                x, y = pixels[:, 0].nan_to_num(-1), pixels[:, 1].nan_to_num(-1)
                inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
                rows = torch.nonzero(inside)[:, 0]
                found[todo[rows]] = ~taken[y[rows].long(), x[rows].long()]
            return found

        self.renderer.occupancy.restrict(visible)

    @torch.no_grad()
    def before_step(self, generator: torch.Generator) -> None:
        """Keeps the occupied cells up to date, as the method "hash-grid" does; once a step of stage 2."""
        step, occupancy = self.steps, self.renderer.occupancy
        coarser = next((n for until, n in COARSE if step < until), 1)
        self.renderer.stepping = self._stepping(coarser)
        if step % 16 == 0:
            cells = occupancy.values.numel()
            share = 1.0 if step == 0 else min(0.25, (1 << 16) / cells)
            occupancy.update(self.field.density, self._stepping(1).smallest, generator, share)
        self.steps += 1

    def train(
        self,
        origins: Tensor,  # (r, 3) frame of the primitives
        directions: Tensor,  # (r, 3) unit
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # (r, 3) colour, premultiplied; (r,) opacity
        """Differentiable with respect to the field's parameters. Leaves in `spread` how far light is scattered along the rays."""
        jitter = torch.rand(len(origins), generator=generator)
        seen, samples, _ = self.renderer.train(
            self._inside(origins), directions, jitter, self.field.geometry, self.field.colour, self.field.look
        )
        if len(samples):
            # distances counted in steps, as in the method "hash-grid"
            stepping = self.renderer.stepping
            unit = stepping.smallest / math.sqrt(3)
            reach = stepping.to_steps(samples.distance) * unit
            width = torch.full_like(reach, unit)
            self.spread = distortion(seen.weights, reach, width, samples.ray, samples.starts).mean()
        return seen.colour, seen.opacity

    @torch.no_grad()
    def render(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """As `train`, without jitter and gradients."""
        self.renderer.stepping = self._stepping(1)
        seen = self.renderer.render(self._inside(origins), directions, self.field.geometry, self.field.colour)
        return seen.colour, seen.opacity

    def _inside(self, points: Tensor) -> Tensor:
        shift = torch.from_numpy(self.frame.translation)
        return (points.double() * self.frame.scale + shift).float().contiguous()

    def state(self) -> dict[str, Tensor]:
        tensors = prefixed("field.", self.field.state_dict())
        tensors |= prefixed("occupancy.", self.renderer.occupancy.state())
        return tensors | {"steps": torch.tensor(self.steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.field.load_state_dict(select(state, "field."))
        self.renderer.occupancy.load_state(select(state, "occupancy."))
        self.steps = int(state["steps"])
