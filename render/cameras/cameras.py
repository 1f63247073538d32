"""Posed cameras, each with its own lens and size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fieldstone.core.errors import UserError
from fieldstone.core.similarity import Similarity

from .checks import camera_records, check_lenses, checked_poses, checked_sizes
from .direction_tables import DirectionTables, pixel_centres
from .lenses import Lenses
from .models import CAMERA_MODELS, scaled_parameters

__all__ = ["Cameras", "Rays"]

_PARAMETERS = 12
_TABLES = DirectionTables(capacity_bytes=768 << 20)


class Rays(NamedTuple):
    """m rays in the frame of the cameras they came from."""

    origins: Tensor
    """(m, 3) float32."""
    directions: Tensor
    """(m, 3) float32, unit length; NaN for a pixel through which the lens sees nothing."""
    z_per_distance: Tensor
    """(m,) float32, cosine of the angle to the optical axis: z_depth = distance * z_per_distance."""


@dataclass(frozen=True, eq=False)
class Cameras:
    """n posed cameras of any mix of models.

    Camera space has OpenCV's axes (x right, y down, z forward) and the pixel in column j and row i has its
    centre at (j + 0.5, i + 0.5). Lens mathematics is done in float64. Arrays given as numpy or float32 are
    converted.

    Raises UserError, naming the camera's index, for an unknown model, an image without pixels, a focal length
    that is not positive, numbers that are not finite, and a pose that is not rigid; a rotation that is off by
    rounding (up to 1e-3) is replaced by the nearest rotation. No cameras at all (n = 0) is allowed.
    """

    models: tuple[str, ...]
    """n names out of `CAMERA_MODELS`."""
    params: Tensor
    """(n, 12) float64: each model's parameters in COLMAP's order, in pixels, padded with zeros."""
    sizes: Tensor
    """(n, 2) int64: width and height in pixels."""
    camera_to_world: Tensor
    """(n, 4, 4) float64, rigid, to the source frame."""

    def __post_init__(self) -> None:
        models = tuple(self.models)
        device = self.camera_to_world.device if isinstance(self.camera_to_world, Tensor) else "cpu"
        params = torch.as_tensor(self.params, dtype=torch.float64, device=device)
        if params.ndim != 2 or len(params) != len(models) or params.shape[1] > _PARAMETERS:
            raise UserError(
                f"cameras: parameters of shape {tuple(params.shape)} for {len(models)} models; "
                f"give ({len(models)}, {_PARAMETERS}), padded with zeros"
            )
        params = torch.nn.functional.pad(params, (0, _PARAMETERS - params.shape[1]))
        sizes = checked_sizes(self.sizes, len(models), device)
        check_lenses(models, params, sizes)
        for name, value in (
            ("models", models),
            ("params", params),
            ("sizes", sizes),
            ("camera_to_world", checked_poses(self.camera_to_world, len(models))),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def pinhole(
        camera_to_world: Tensor | np.ndarray,  # (4, 4) or (n, 4, 4)
        focal: float | Sequence | Tensor | np.ndarray,  # pixels: one, (2,) fx fy, (n, 1), (n, 2)
        width: int,
        height: int,
        principal: Sequence | Tensor | np.ndarray | None = None,  # (2,) or (n, 2); the image's middle if None
    ) -> Cameras:
        """n PINHOLE cameras of one size."""
        poses = torch.as_tensor(camera_to_world, dtype=torch.float64)
        poses = poses[None] if poses.ndim == 2 else poses
        n = len(poses)

        def pairs(value: object) -> Tensor:
            value = torch.as_tensor(value, dtype=torch.float64, device=poses.device)
            if value.ndim == 1 and len(value) not in (1, 2):
                value = value[:, None]
            return value.reshape(-1, value.shape[-1] if value.ndim else 1).expand(n, 2)

        middle = (width / 2, height / 2) if principal is None else principal
        params = torch.cat([pairs(focal), pairs(middle)], 1)
        return Cameras(("PINHOLE",) * n, params, torch.tensor([[width, height]]).expand(n, 2), poses)

    @staticmethod
    def concatenate(batches: Iterable[Cameras]) -> Cameras:
        """All cameras of all batches in order, on the device of the first."""
        batches = list(batches)
        if not batches:
            return Cameras((), torch.zeros(0, 12), torch.zeros(0, 2), torch.zeros(0, 4, 4))
        device = batches[0].device
        return Cameras(
            tuple(model for batch in batches for model in batch.models),
            *(
                torch.cat([getattr(batch, name).to(device) for batch in batches])
                for name in ("params", "sizes", "camera_to_world")
            ),
        )

    def __len__(self) -> int:
        return len(self.models)

    def __getitem__(self, key: int | slice | Sequence | Tensor | np.ndarray) -> Cameras:
        """The chosen cameras: an integer keeps a batch of one; a boolean mask (n,) works too."""
        rows = np.arange(len(self))[key.cpu().numpy() if isinstance(key, Tensor) else key]
        rows = np.atleast_1d(np.asarray(rows, np.int64))
        chosen = torch.as_tensor(rows, device=self.device)
        return Cameras(
            tuple(self.models[row] for row in rows),
            self.params[chosen],
            self.sizes[chosen],
            self.camera_to_world[chosen],
        )

    @property
    def device(self) -> torch.device:
        return self.camera_to_world.device

    @property
    def positions(self) -> Tensor:
        """(n, 3) float64 optical centres."""
        return self.camera_to_world[:, :3, 3]

    @property
    def forward(self) -> Tensor:
        """(n, 3) float64 unit optical axes."""
        return self.camera_to_world[:, :3, 2]

    def size(self, i: int) -> tuple[int, int]:
        """Width and height of camera i."""
        width, height = self.sizes[i].tolist()
        return width, height

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(
            self.models, self.params.to(device), self.sizes.to(device), self.camera_to_world.to(device)
        )

    def with_poses(self, camera_to_world: Tensor | np.ndarray) -> Cameras:
        """The same lenses at other poses (n, 4, 4)."""
        return Cameras(self.models, self.params, self.sizes, torch.as_tensor(camera_to_world).to(self.device))

    def transformed(self, similarity: Similarity) -> Cameras:
        """The same cameras in the frame `similarity` maps to: axes rotate, centres move and scale."""
        return self.with_poses(similarity.apply_to_poses(self.camera_to_world.detach().cpu().numpy()))

    def resized(
        self,
        width: int | Sequence | Tensor | np.ndarray,  # one for all cameras, or (n,)
        height: int | Sequence | Tensor | np.ndarray,
    ) -> Cameras:
        """The same views on images of another size, intrinsics scaled along each axis.

        Where the axes scale differently, a model with one focal length becomes its sibling with two.
        """
        new = torch.stack([torch.as_tensor(side).expand(len(self)) for side in (width, height)], 1).cpu()
        scales = (new.double() / self.sizes.cpu().double()).tolist()
        lenses = [
            scaled_parameters(model, params, *scale)
            for model, params, scale in zip(self.models, self.params, scales, strict=True)
        ]
        params = torch.stack([values for _, values in lenses]) if lenses else self.params
        return Cameras(tuple(model for model, _ in lenses), params, new, self.camera_to_world)

    def downscaled(self, factor: float) -> Cameras:
        """The same views on images `factor` times smaller; sizes are rounded, halves upwards, to at least a
        pixel.
        """
        if not factor > 0:
            raise UserError(f"cannot downscale cameras by {factor}; give a positive factor")
        new = (self.sizes.double() / factor + 0.5).floor().clamp_min(1).long()
        return self.resized(new[:, 0], new[:, 1])

    @cached_property
    def _cached_lenses(self) -> Lenses:
        return Lenses.of(self.models, self.params, self.sizes)

    @property
    def lenses(self) -> Lenses:
        """The lenses rewritten into one table of coefficients."""
        # a graph is used once and parameters that are being learnt change in place: neither may be cached
        if self.params.requires_grad:
            return Lenses.of(self.models, self.params, self.sizes)
        return self._cached_lenses

    @property
    def closed_form(self) -> bool:
        """Whether `rays` needs no iterations for any camera. If it does, gather from `direction_table`
        instead.
        """
        return self.lenses.closed_form

    def project(
        self,
        points: Tensor,  # (m, 3) world
        index: Tensor,  # (m,) int64 camera of each point; (1,) for all
    ) -> tuple[Tensor, Tensor]:  # (m, 2) pixels, (m,) z_depth
        """Where points appear, in the dtype of `points`.

        A point that has no image (behind a perspective lens, past the radius where a distortion polynomial
        turns back, straight behind a fisheye) gets NaN pixels, never a wrong pixel; z_depth is always finite,
        and negative behind the camera. Differentiable with respect to `points`, `params` and
        `camera_to_world`; NaN pixels have gradient 0.
        """
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device).reshape(-1)
        poses = self.camera_to_world[index]
        offset = points.to(self.camera_to_world) - poses[:, :3, 3]
        local = (offset[:, :, None] * poses[:, :3, :3]).sum(1)
        pixels = self.lenses.project(local, index)
        return pixels.to(points.dtype), local[:, 2].to(points.dtype)

    def unproject(
        self,
        pixels: Tensor,  # (m, 2)
        index: Tensor,  # (m,) int64 camera of each pixel; (1,) for all
    ) -> Tensor:  # (m, 3)
        """Unit directions in camera space, in the dtype of `pixels` (float64 for integers). Not
        differentiable.

        NaN where no direction has this image (corners of a fisheye's image, pixels past a distortion's fold).
        """
        pixels = torch.as_tensor(pixels, device=self.device)
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device).reshape(-1)
        directions = self.lenses.unproject(pixels.double(), index)
        return directions.to(pixels.dtype) if pixels.is_floating_point() else directions

    @cached_property
    def _pixel_to_world(self) -> Tensor:
        """(n, 12): rotation times inverse intrinsics of pinholes, row-major, then the position."""
        fx, fy, cx, cy = self.lenses.table[:, :4].T
        rotation = self.camera_to_world[:, :3, :3]
        x, y = rotation[:, :, 0] / fx[:, None], rotation[:, :, 1] / fy[:, None]
        ahead = rotation[:, :, 2] - x * cx[:, None] - y * cy[:, None]
        return torch.cat([x, y, ahead, self.positions], 1)

    @torch.no_grad()
    def rays(
        self,
        index: Tensor,  # (m,) int64 camera of each pixel; (1,) for all
        pixels: Tensor,  # (m, 2)
    ) -> Rays:
        """Rays through pixel positions (pixel centres are at +0.5). Not differentiable.

        One closed form for pinholes. For iterative lenses (`closed_form` is False) a trainer that draws pixel
        centres is served faster by `rays_from_directions` with directions gathered from `direction_table`.
        """
        lenses = self.lenses
        if not lenses.all_pinhole or self.params.requires_grad or self.camera_to_world.requires_grad:
            return self.rays_from_directions(index, self.unproject(torch.as_tensor(pixels).double(), index))
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device).reshape(-1)
        pixels = torch.as_tensor(pixels, device=self.device).double()
        rows = self._pixel_to_world[index]
        world = pixels[:, 0:1] * rows[:, 0:3] + pixels[:, 1:2] * rows[:, 3:6] + rows[:, 6:9]
        z_per_distance = 1 / world.norm(dim=1)  # the vector has z = 1 in camera space
        origins = rows[:, 9:].float().expand(len(pixels), 3)
        return Rays(origins, (world * z_per_distance[:, None]).float(), z_per_distance.float())

    @torch.no_grad()
    def rays_from_directions(
        self,
        index: Tensor,  # (m,) int64 camera of each direction; (1,) for all
        directions: Tensor,  # (m, 3) unit, camera space
    ) -> Rays:
        """Rays of known camera-space directions, such as rows of `direction_table`."""
        index = torch.as_tensor(index, dtype=torch.int64, device=self.device).reshape(-1)
        poses = self.camera_to_world[index].to(directions.dtype)
        world = (poses[:, :3, :3] * directions[:, None, :]).sum(2)
        origins = poses[:, :3, 3].float().expand(len(directions), 3)
        return Rays(origins, world.float(), directions[:, 2].float())

    def image_rays(self, i: int) -> Rays:
        """Rays through all pixel centres of camera i, row-major (h * w)."""
        index = torch.tensor([range(len(self))[i]], device=self.device)
        if self.lenses.all_pinhole:
            return self.rays(index, pixel_centres(*self.size(i), self.device))
        return self.rays_from_directions(index, self.direction_table(i).reshape(-1, 3))

    def direction_table(self, i: int) -> Tensor:  # (h, w, 3)
        """Camera-space unit directions of the pixel centres of camera i, float32; NaN where the lens sees
        nothing.

        Computed once for each distinct lens and size (12 bytes a pixel) and shared between all cameras that
        have them: do not write to it. The most recently used tables are kept, up to 768 MB.
        """
        i = range(len(self))[i]
        key = (self.models[i], *self.params[i].detach().tolist())
        return _TABLES.get(key, self.lenses, i, *self.size(i))

    def lens_index(self) -> Tensor:  # (n,) int64
        """For each camera the first camera with the same model, parameters and size, hence the same direction
        table.
        """
        first: dict[tuple, int] = {}
        rows = zip(self.models, self.params.tolist(), self.sizes.tolist(), strict=True)
        found = [first.setdefault((model, *lens, *size), i) for i, (model, lens, size) in enumerate(rows)]
        return torch.tensor(found, dtype=torch.int64, device=self.device)

    def valid_pixels(self, i: int) -> Tensor:  # (h, w) bool
        """Through which pixels camera i sees anything; all of them for a sound calibration of a perspective
        lens.
        """
        return self.direction_table(i).isfinite().all(-1)

    def to_json(self) -> list[dict]:
        """Plain data: a list of {model, params, width, height, camera_to_world}; numbers survive exactly."""
        return [
            {
                "model": model,
                "params": params[: CAMERA_MODELS[model]],
                "width": width,
                "height": height,
                "camera_to_world": pose,
            }
            for model, params, (width, height), pose in zip(
                self.models,
                self.params.tolist(),
                self.sizes.tolist(),
                self.camera_to_world.tolist(),
                strict=True,
            )
        ]

    @staticmethod
    def from_json(value: list[dict]) -> Cameras:
        """Inverse of `to_json`. Raises UserError for anything else."""
        return Cameras(*camera_records(value))
