"""The method "hand": a radiance field on the rest hand, seen through known poses (LISA's and HandNeRF's setting, on our hash grid).

The capture has `hand.npz` beside it (model, shape, one pose per time). Each step takes pixels of one pose; samples near its posed surface
are taken back to the rest hand (`fields.articulated.deformer`), where one hash grid holds density and colour. Directions are turned
with them, so that light beside the camera is learned as view dependence. Space that no posed surface is near is never looked at.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
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
from ...fields.mlp.mlp import resolve_precision
from ...fields.radiance import RadianceField, RadianceSettings
from ...render.cameras import Cameras
from ...render.volume.occupancy import OccupancyGrid
from ...render.volume.renderer import VolumeRenderer
from ...render.volume.stepping import Stepping
from ..hand.result import open_result
from ..hand.synthetic_capture import MOTION_FILE
from .field_scene import FieldScene
from .methods import ParameterGroup
from .pixels import PixelBatch, Pixels

__all__ = ["HandMethod", "HandScene", "HandSettings", "PosedField"]


@dataclass
class HandSettings:
    """Everything the user may set with `--set key=value`."""

    levels: int = 12
    features: int = 2
    log2_table_size: int = 17
    base_resolution: int = 16
    finest_resolution: int = 512
    hidden: int = 64
    precision: str = "auto"
    backend: str = "auto"
    learning_rate: float = 1e-2
    head_learning_rate: float = 5e-3
    head_weight_decay: float = 1e-6
    rays: int = 4096
    reach_mm: float = 4.0
    """How far from the posed surface there may be anything."""
    steps_across: int = 768
    """Steps along the diagonal of the cube around all poses."""
    resolution: int = 128
    """Cells along the cube's side, of the tables that take points back."""
    huber: float = 0.1
    deformer: bool = True
    """False: the field lives in the posed frame, for comparison."""


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


class HandMethod:
    """See `methods.Method`."""

    name = "hand"
    exports = frozenset({"views"})

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = _options(settings)
        self.settings = asdict(self.options)
        if device != "cpu":
            raise UserError(f"method hand runs on the CPU so far, not on {device}: use --device cpu")
        self.capture, self.device = capture, device
        self.generator = torch.Generator().manual_seed(seed)
        self.train_split = np.asarray(capture.splits["train"])
        self.cameras = capture.cameras[self.train_split]
        options = self.options
        self.field = RadianceField(
            RadianceSettings(
                levels=options.levels,
                features=options.features,
                log2_table_size=options.log2_table_size,
                base_resolution=options.base_resolution,
                finest_resolution=options.finest_resolution,
                hidden=options.hidden,
            ),
            backend=options.backend,
            precision=resolve_precision(options.precision, device),
            generator=torch.Generator().manual_seed(seed),
        )
        self._pixels: dict[int, Pixels] = {}
        self._spaces: dict[int, PosedSpace] = {}
        self._renderers: dict[int, VolumeRenderer] = {}
        self.motion: dict[str, Tensor] | None = None
        motion = Path(capture.folder) / MOTION_FILE
        if motion.exists():
            self._use_motion(_motion(motion))

    def groups(self) -> list[ParameterGroup]:
        options = self.options
        heads = [*self.field.density_head.parameters(), *self.field.colour_head.parameters()]
        table = self.field.grid.table
        table.gradient_in_place = True
        return [
            ParameterGroup("grid", [table], options.learning_rate, sparse=True),
            ParameterGroup(
                "heads", heads, options.head_learning_rate, weight_decay=options.head_weight_decay
            ),
        ]

    def before_step(self, step: int, progress: float) -> None:
        pass

    def batch(self, step: int) -> tuple[int, PixelBatch]:
        if self.motion is None:
            raise UserError(
                f"{self.capture.folder}: no {MOTION_FILE}; method hand needs the poses beside the pictures "
                "(`hand fit` writes such a file, `hand capture` a whole synthetic capture)"
            )
        poses = self._pose_of(self.train_split)
        if not self._pixels:
            for pose in np.unique(poses):
                chosen = np.flatnonzero(poses == pose)
                self._pixels[int(pose)] = Pixels(
                    self.capture, self.train_split[chosen], self.cameras[chosen], self.device
                )
        known = sorted(self._pixels)
        pose = known[int(torch.randint(len(known), (1,), generator=self.generator))]
        drawn = self._pixels[pose].draw(self.options.rays, self.generator)
        frame = torch.from_numpy(np.flatnonzero(poses == pose))[drawn.frame]
        return pose, drawn._replace(frame=frame)

    def loss(self, batch: tuple[int, PixelBatch]) -> tuple[Tensor, dict[str, float]]:
        pose, pixels = batch
        count = len(pixels.frame)
        matrices = torch.from_numpy(
            self.frame.apply_to_poses(self.cameras.camera_to_world.cpu().numpy())
        ).float()[pixels.frame]
        directions = torch.einsum("nij,nj->ni", matrices[:, :3, :3], pixels.directions)
        jitter = torch.rand(count, generator=self.generator)
        field = self.posed_field(pose)
        seen, samples, marched = self.renderer(pose).train(
            matrices[:, :3, 3].contiguous(), directions, jitter, field.geometry, field.colour, field.look
        )
        behind = torch.rand(count, 3, generator=self.generator)
        target = pixels.colour * pixels.alpha[:, None] + behind * (1 - pixels.alpha)[:, None]
        colour = seen.colour + behind * (1 - seen.opacity)[:, None]
        loss = torch.nn.functional.huber_loss(colour, target, delta=self.options.huber)
        error = float((colour - target).detach().square().mean())
        return loss, {
            "psnr": -10 * math.log10(max(error, 1e-12)),
            "rays": count,
            "samples": len(samples),
            "marched": marched,
        }

    def state(self) -> dict[str, Tensor]:
        tensors = {f"field.{name}": value.detach() for name, value in self.field.state_dict().items()}
        tensors["generator"] = self.generator.get_state()
        # the motion goes along, so that a run renders where its capture is not
        return tensors | {f"motion.{name}": value for name, value in (self.motion or {}).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}

        self.field.load_state_dict(part("field."))
        self.generator.set_state(state["generator"].cpu())
        if part("motion."):
            self._use_motion(part("motion."))

    def scene(self) -> HandScene:
        return HandScene(self)

    def posed_field(self, pose: int) -> PosedField:
        """The field as pose number `pose` shows it."""
        return PosedField(self.field, self.space(pose) if self.options.deformer else None, self.to_rest)

    def space(self, pose: int) -> PosedSpace:
        """The table of a pose, made when first asked for."""
        if pose not in self._spaces:
            self._spaces[pose] = self.deformer.pose(
                self._rest[pose],
                self._skinning[pose],
                low=torch.zeros(3),
                side=1.0,
                resolution=self.options.resolution,
                reach=self.options.reach_mm * 1e-3 * self.frame.scale,
            )
        return self._spaces[pose]

    def renderer(self, pose: int) -> VolumeRenderer:
        """Marches only through cells near the surface of a pose."""
        if pose not in self._renderers:
            occupancy = OccupancyGrid(self.options.resolution, 1)
            near = self.space(pose).occupied[None]
            occupancy.load_state({"values": near.float(), "cells": near})
            self._renderers[pose] = VolumeRenderer(
                occupancy,
                Stepping(math.sqrt(3) / self.options.steps_across),
                0.0,
                backend="reference" if self.options.backend == "reference" else "auto",
            )
        return self._renderers[pose]

    def _pose_of(self, frames: np.ndarray) -> np.ndarray:
        """Number of the pose that each frame shows, from its time."""
        count = len(self.motion["skinning"])
        if self.capture.times is None:
            if count > 1:
                raise UserError(
                    f"{self.capture.folder}: {MOTION_FILE} has {count} poses, but frames have no time"
                )
            return np.zeros(len(frames), int)
        return (
            np.round(np.asarray(self.capture.times)[frames] * max(count - 1, 1))
            .astype(int)
            .clip(0, count - 1)
        )

    def _use_motion(self, motion: dict[str, Tensor]) -> None:
        """Cube around all poses, cube around the rest hand, and the deformer between them, in coordinates of the first."""
        self.motion = motion
        skinning, rest = motion["skinning"], motion["rest"]
        posed = torch.stack(
            [((motion["weights"] @ s[:, :3].flatten(1)).unflatten(-1, (3, 4)) @ _with_one(r)[..., None])[..., 0]
             for s, r in zip(skinning, rest)]
        )  # fmt: skip
        margin = 2 * self.options.reach_mm * 1e-3
        self.frame = _cube(posed.reshape(-1, 3), margin)
        rest_cube = _cube(motion["canonical"], 2 * margin)
        # lengths in cube coordinates, so that marching, tables and transforms share them
        scale, shift = self.frame.scale, torch.from_numpy(self.frame.translation).float()
        moved = skinning[:, :, :3].clone()
        moved[..., 3] = scale * moved[..., 3] + shift - (moved[..., :3] @ shift[:, None])[..., 0]
        self._skinning, self._rest = moved, rest * scale + shift
        self.deformer = Deformer(motion["canonical"] * scale + shift, motion["weights"], apart=0.012 * scale)
        self.to_rest = self.frame.inverse().then(rest_cube)
        self._spaces.clear()
        self._renderers.clear()


class HandScene(FieldScene):
    """A trained hand as renderers and evaluation see it: a frame of the capture is shown in its pose.

    A camera that is not one of the capture's shows the pose `pose`, which may be set (the first test frame's to begin with).
    """

    def __init__(self, method: HandMethod) -> None:
        self.method = method
        self.pose: int | None = None
        capture = method.capture
        self._known = capture.cameras.camera_to_world.cpu()
        super().__init__(method.field, None, Similarity.identity(), background=capture.background)

    def render_view(self, cameras: Cameras, index: int, **options: object) -> dict[str, Tensor]:
        method, capture = self.method, self.method.capture
        if method.motion is None:
            raise UserError(f"{capture.folder}: no {MOTION_FILE} and no poses in the checkpoint")
        frame = index if len(cameras) == len(self._known) else None
        if frame is None or not torch.equal(cameras.camera_to_world[index].cpu(), self._known[frame]):
            same = (self._known - cameras.camera_to_world[index].cpu()).abs().amax((1, 2)) < 1e-9
            frame = int(same.nonzero()[0]) if same.any() else None
        pose = self.pose
        if frame is not None and pose is None:
            pose = int(method._pose_of(np.array([frame]))[0])
        elif pose is None:
            first = capture.splits.get("test", method.train_split)
            pose = int(method._pose_of(np.asarray(first)[:1])[0])
        self.field, self.renderer, self.frame = method.posed_field(pose), method.renderer(pose), method.frame
        return super().render_view(cameras, index, **options)


def _with_one(points: Tensor) -> Tensor:
    return torch.cat((points, torch.ones_like(points[:, :1])), 1)


def _cube(points: Tensor, margin: float) -> Similarity:
    """The smallest axis-aligned cube around points and a margin, to [0, 1]^3."""
    low, high = points.amin(0).double().numpy() - margin, points.amax(0).double().numpy() + margin
    side = float((high - low).max())
    centre = (low + high) / 2
    return Similarity(1 / side, np.eye(3), 0.5 - centre / side)


def _motion(path: Path) -> dict[str, Tensor]:
    """Rest hand, weights, and per pose the corrected rest vertices and skinning transforms, of a hand refined once."""
    data, result = open_result(str(path))
    model = ArticulatedModel(subdivide(cap(data), 1), dtype=torch.float64)
    identity = model.identity(torch.from_numpy(result.shape))
    posed = model(
        identity=identity,
        pose=torch.from_numpy(result.pose),
        translation=torch.from_numpy(result.translation),
        pose_format="axis_angle",
    )
    return {
        "canonical": identity.vertices[0].float(),
        "weights": model.weights.float(),
        "rest": posed.rest_vertices.expand(len(result.pose), -1, -1).float().contiguous(),
        "skinning": posed.skinning[:, :, :3].float().contiguous(),
    }


def _options(settings: dict) -> HandSettings:
    known = {item.name for item in fields(HandSettings)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise UserError(
            f"unknown setting {unknown[0]!r} of method hand; there are {', '.join(sorted(known))}"
        )
    return HandSettings(**settings)
