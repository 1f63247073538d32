"""What a mesh is looked at through: the pixels of one camera, pixels of many, or bare rays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fieldstone.core.errors import UserError

from ..cameras import Cameras, Rays, pixel_centres

__all__ = ["View"]


@dataclass(frozen=True, eq=False)
class View:
    """m rays in a shape of their own. Made by `View.of`."""

    shape: tuple[int, ...]
    """(height, width) of a frame, else (m,)."""
    camera: Cameras | None
    """The camera of a frame, or the cameras `index` counts in; None for bare rays."""
    index: Tensor | None = None
    """(m,) int64 camera of each pixel; None for a frame."""
    pixels: Tensor | None = None
    """(m, 2); None for a frame."""
    given: Rays | None = None
    """Bare rays."""

    @staticmethod
    def of(camera: Cameras | Rays, index: Tensor | None, pixels: Tensor | None) -> View:
        """Raises UserError where the arguments do not say which rays are meant."""
        if isinstance(camera, Rays):
            if index is not None or pixels is not None:
                raise UserError("fragments: rays were given, so neither index nor pixels may be")
            origins, directions, z = camera
            if (
                origins.shape != directions.shape
                or origins.ndim != 2
                or origins.shape[1] != 3
                or z.shape != (len(origins),)
            ):
                raise UserError(
                    f"fragments: rays of shapes {tuple(origins.shape)}, {tuple(directions.shape)}, {tuple(z.shape)};"
                    " give (m, 3), (m, 3), (m,)"
                )
            return View((len(origins),), None, given=camera)
        if pixels is None:
            if index is not None:
                raise UserError(
                    "fragments: index was given without pixels; give both, or neither for a whole frame"
                )
            if len(camera) != 1:
                raise UserError(
                    f"fragments: {len(camera)} cameras; a whole frame is of one (cameras[i]), pixels of many need index and pixels"
                )
            width, height = camera.size(0)
            return View((height, width), camera)
        pixels = torch.as_tensor(pixels, device=camera.device)
        if pixels.ndim != 2 or pixels.shape[1] != 2:
            raise UserError(f"fragments: pixels of shape {tuple(pixels.shape)}; give (m, 2)")
        index = torch.as_tensor(
            0 if index is None else index, dtype=torch.int64, device=camera.device
        ).reshape(-1)
        if len(index) not in (1, len(pixels)):
            raise UserError(
                f"fragments: index of length {len(index)} for {len(pixels)} pixels; give one a pixel, or one"
            )
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(camera):
            raise UserError(
                f"fragments: camera index {int(index.min())} to {int(index.max())}, but there are {len(camera)} cameras"
            )
        return View((len(pixels),), camera, index.expand(len(pixels)), pixels)

    @property
    def device(self) -> torch.device:
        return self.given.origins.device if self.camera is None else self.camera.device

    @property
    def count(self) -> int:
        """How many rays there are."""
        total = 1
        for side in self.shape:
            total *= side
        return total

    @property
    def is_pinhole_frame(self) -> bool:
        """Whether all rays pass through the pixel centres of one undistorted camera."""
        return self.camera is not None and self.pixels is None and self.camera.lenses.all_pinhole

    @cached_property
    def rays(self) -> tuple[Tensor, Tensor, Tensor]:
        """Origins (m, 3), unit directions (m, 3) and z_per_distance (m,) in float64.

        The lens is undone exactly for each pixel (NaN where it sees nothing). `Cameras.rays` rounds to float32, which moves
        a ray by up to 1e-4 pixels: enough to change the face of one pixel in some thousands.
        """
        if self.camera is None:
            return tuple(part.double() for part in self.given)
        if self.pixels is not None:
            return self._through(self.pixels.double(), self.index)
        height, width = self.shape
        index = torch.zeros(1, dtype=torch.int64, device=self.device)
        return self._through(pixel_centres(width, height, self.device), index)

    @cached_property
    def z_per_distance(self) -> Tensor:
        """float64, of the view's shape."""
        if not self.is_pinhole_frame:
            return self.rays[2].reshape(self.shape)
        fx, fy, cx, cy = self.camera.lenses.table[0, :4]
        height, width = self.shape
        x = (torch.arange(width, device=self.device) + 0.5 - cx) / fx
        y = (torch.arange(height, device=self.device) + 0.5 - cy) / fy
        return (x.square()[None, :] + y.square()[:, None] + 1).rsqrt()

    def rows(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (n, 3) of the rays numbered `chosen` (n,), as they were given: with their graph."""
        if self.camera is None:
            return self.given.origins[chosen], self.given.directions[chosen]
        origins, directions, _ = self.rays
        return origins[chosen], directions[chosen]

    def rows_beside(self, chosen: Tensor, step: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Origins and unit directions (n, 3) in float64 of rays `step` pixels (right, down) of those numbered `chosen` (n,)."""
        if self.camera is None:
            raise UserError("bare rays have no pixels beside them; give the level of detail yourself")
        if self.pixels is None:
            index = torch.zeros(1, dtype=torch.int64, device=self.device)
            width = self.shape[1]
            pixels = torch.stack([chosen % width, chosen // width], 1).double() + 0.5
        else:
            index, pixels = self.index[chosen], self.pixels[chosen].double()
        return self._through(pixels + torch.tensor(step, dtype=torch.float64, device=self.device), index)[:2]

    def _through(self, pixels: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        poses = self.camera.camera_to_world[index]
        local = self.camera.unproject(pixels, index)
        world = (poses[:, :3, :3] * local[:, None, :]).sum(2)
        return poses[:, :3, 3].expand(len(pixels), 3), world, local[:, 2]
