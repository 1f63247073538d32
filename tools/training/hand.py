"""The method "hand": a radiance field on the rest hand, seen through known poses (LISA's and HandNeRF's setting, on our hash grid).

The capture has `hand.npz` beside it (model, shape, one pose per time). Each step takes pixels of one pose; samples near its posed surface
are taken back to the rest hand (`fields.articulated.deformer`), where one hash grid holds density and colour. Directions are turned
with them: what light at the camera does is learned as view dependence; light that stays in the room is learned as if it were paint,
and is wrong on fingers that turn away from it. Space that no posed surface is near is never looked at.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from ...fields.mlp.mlp import resolve_precision
from ...fields.radiance import RadianceField, RadianceSettings
from ...render.cameras import Cameras
from ..hand.synthetic_capture import MOTION_FILE
from .checkpoint import prefixed, restore_generator, select
from .field_scene import FieldScene
from .hand_motion import HandMotion, read_motion
from .methods import ParameterGroup, radiance_groups, read_settings
from .pixels import PixelBatch, Pixels

__all__ = ["HandMethod", "HandScene", "HandSettings"]


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


class HandMethod:
    """See `methods.Method`."""

    name = "hand"
    exports = frozenset({"views"})
    devices = ("cpu",)

    def __init__(self, capture, settings: dict, *, seed: int, device: str) -> None:
        self.options = read_settings(HandSettings, settings, self.name)
        self.settings = asdict(self.options)
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
        self.motion: HandMotion | None = None
        motion = Path(capture.folder) / MOTION_FILE
        if motion.exists():
            self._use(read_motion(motion))

    def groups(self) -> list[ParameterGroup]:
        return radiance_groups(self.field, self.options)

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
            self.motion.frame.apply_to_poses(self.cameras.camera_to_world.cpu().numpy())
        ).float()[pixels.frame]
        directions = torch.einsum("nij,nj->ni", matrices[:, :3, :3], pixels.directions)
        jitter = torch.rand(count, generator=self.generator)
        field = self.motion.posed_field(pose)
        seen, samples, marched = self.motion.renderer(pose).train(
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
        tensors = prefixed("field.", self.field.state_dict())
        tensors["generator"] = self.generator.get_state()
        # the motion goes along, so that a run renders where its capture is not
        arrays = {} if self.motion is None else self.motion.arrays
        return tensors | prefixed("motion.", arrays)

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.field.load_state_dict(select(state, "field."))
        restore_generator(self.generator, state["generator"])
        if motion := select(state, "motion."):
            self._use(motion)

    def scene(self) -> HandScene:
        return HandScene(self)

    def _use(self, arrays: dict[str, Tensor]) -> None:
        options = self.options
        self.motion = HandMotion(
            arrays,
            self.field,
            reach=options.reach_mm * 1e-3,
            resolution=options.resolution,
            steps_across=options.steps_across,
            deformer=options.deformer,
            backend="reference" if options.backend == "reference" else "auto",
        )

    def _pose_of(self, frames: np.ndarray) -> np.ndarray:
        """Number of the pose that each frame shows, from its time."""
        count = len(self.motion)
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


class HandScene(FieldScene):
    """A trained hand as renderers and evaluation see it: a frame of the capture is shown in its pose.

    A camera that is not one of the capture's shows the pose `pose`, which may be set (the first test frame's to begin with); after
    `show_motion`, the frames of a path show the poses of that motion.
    """

    def __init__(self, method: HandMethod) -> None:
        self.method = method
        self.pose: int | None = None
        self.shown: HandMotion | None = None
        capture = method.capture
        self._known = capture.cameras.camera_to_world.cpu()
        super().__init__(method.field, None, Similarity.identity(), background=capture.background)

    def show_motion(self, path: str | Path) -> int:
        """Poses to show instead of the capture's, from a file as `hand fit` writes it; its shape is not used, the hand keeps its own.

        Returns how many there are. Raises `UserError` for a file that is none, or is of another model.
        """
        own = self._motion()
        if "shape" not in own.arrays:
            raise UserError("this run does not know its hand's shape; train it again to show other motions")
        self.shown = own.with_arrays(read_motion(path, own.arrays["shape"].numpy()))
        if self.shown.arrays["canonical"].shape != own.arrays["canonical"].shape:
            self.shown = None
            raise UserError(f"{path}: its model is not the one that this run's hand has")
        return len(self.shown)

    def _motion(self) -> HandMotion:
        if self.method.motion is None:
            raise UserError(f"{self.method.capture.folder}: no {MOTION_FILE} and no poses in the checkpoint")
        return self.method.motion

    def render_view(self, cameras: Cameras, index: int, **options: object) -> dict[str, Tensor]:
        motion = self.shown or self._motion()
        pose = (
            self.pose if self.shown is None else round(index * (len(motion) - 1) / max(len(cameras) - 1, 1))
        )
        if pose is None:
            pose = int(self.method._pose_of(self._frames_like(cameras, index))[0])
        self.field, self.renderer = motion.posed_field(pose), motion.renderer(pose)
        self.frame = motion.frame
        return super().render_view(cameras, index, **options)

    def _frames_like(self, cameras: Cameras, index: int) -> np.ndarray:
        """(1,) the capture's frame that has this camera; else the first test frame."""
        given = cameras.camera_to_world[index].cpu()
        if len(cameras) == len(self._known) and torch.equal(given, self._known[index]):
            return np.array([index])
        same = (self._known - given).abs().amax((1, 2)) < 1e-9
        if same.any():
            return same.nonzero()[0].numpy()
        return np.asarray(self.method.capture.splits.get("test", self.method.train_split))[:1]
