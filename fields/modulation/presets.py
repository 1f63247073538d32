"""The paper's models, with their exact sizes. They are for comparison: the fields that train here are sized for what they do.

Sizes are those of the released code (github maincold2/CAM, commit a639d61), counted from its layers; the page's figure for images,
266K, does not match its own code's 269,827.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError

from ..encodings.frequency import frequency_encoding
from ..encodings.integrated import integrated_encoding
from ..encodings.random_fourier import RandomFourier
from .grids import CoordinateModulation
from .perceptron import CamMlp

__all__ = ["PaperRadiance", "image_cam", "mip_nerf_direction_cam", "sphere_coordinates", "t_nerf_time_cam"]


def sphere_coordinates(
    directions: Tensor,  # (n, 3) unit
) -> Tensor:  # (n, 2): azimuth / 2 pi, to be wrapped, and elevation from straight down (0) to straight up (1)
    """Where a direction stands in a grid. The released code neither wraps the azimuth nor tells upward elevations apart."""
    azimuth = torch.atan2(directions[:, 1], directions[:, 0]) / (2 * torch.pi) + 0.5
    elevation = torch.asin(directions[:, 2].clamp(-1, 1)) / torch.pi + 0.5
    return torch.stack([azimuth, elevation], dim=1)


class _ImageCam(nn.Module):
    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.encoding = RandomFourier(2, 256, 10.0, generator=generator)
        self.mlp = CamMlp(
            512, 256, 3, 3, modulation=CoordinateModulation(3, (32, 32)), norm="layer", generator=generator
        )

    def forward(self, x: Tensor) -> Tensor:  # (n, 2) pixel centres in [0, 1] -> (n, 3) sRGB
        return torch.sigmoid(self.mlp(self.encoding(x), x))


def image_cam(generator: torch.Generator | None = None) -> nn.Module:
    """The paper's image model: 256 Fourier features, 3 x 256, 32 x 32 grids: 269,827 parameters."""
    return _ImageCam(generator)


class PaperRadiance(nn.Module):
    """The radiance networks of the paper: trunk 8 x 256 with a skip, density, bottleneck, one view layer of 128.

    `paper_mode`: density depends on the view direction and on the other samples of the ray. Such a field has no surface of its own:
    `density` refuses, and with it occupancy grids and mesh export.
    """

    def __init__(self, kind: str, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.kind = kind
        mip = kind == "mip-nerf"
        self.paper_mode = mip
        grids = (
            CoordinateModulation(8, (10, 3), padding=("wrap", "border"))
            if mip
            else CoordinateModulation(8, (5,))
        )
        inputs = 96 if mip else 63
        self.trunk = CamMlp(
            inputs, 256, 8, 0, modulation=grids, norm="ray" if mip else "none", skip=4, generator=generator
        )
        self.density_layer = nn.Linear(256, 1)
        self.bottleneck = nn.Linear(256, 256)
        self.view = CamMlp(256 + 27, 128, 1, 3, generator=generator)
        self.warp = None if mip else CamMlp(27 + 9, 64, 4, 3, skip=2, generator=generator)

    def forward(
        self,
        positions: Tensor,  # (n, 3)
        directions: Tensor,  # (n, 3) unit
        *,
        variance: Tensor | None = None,  # (n, 3) of the cone's Gaussian, mip-nerf only
        time: Tensor | None = None,  # (n, 1) in [0, 1], t-nerf only
        rays: Tensor | None = None,  # (n,) rising ray numbers, mip-nerf only: its norm runs over a ray
    ) -> tuple[Tensor, Tensor]:  # (n,) density, (n, 3) sRGB
        if self.warp is None:
            features = integrated_encoding(positions, variance, 16)
            hidden = self.trunk(features, sphere_coordinates(directions), groups=rays)
        else:
            moved = positions + self.warp(torch.cat([_with_itself(positions, 4), _with_itself(time, 4)], 1))
            hidden = self.trunk(_with_itself(moved, 10), time)
        density = nn.functional.softplus(self.density_layer(hidden)[:, 0] - 1)
        seen = torch.cat([self.bottleneck(hidden), _with_itself(directions, 4)], 1)
        return density, torch.sigmoid(self.view(seen))

    def density(self, positions: Tensor, condition: Tensor | None = None) -> Tensor:
        """(n,) at positions (n, 3) and time `condition` (n, 1); `UserError` in paper mode."""
        if self.paper_mode:
            raise UserError(
                "this model's density depends on the view direction and on the other samples of a ray (the paper's mode): "
                "it has no surface, so no mesh can be exported; train method cam, whose density does not"
            )
        directions = torch.zeros_like(positions)
        return self(positions, directions, time=condition)[0]


def _with_itself(x: Tensor, octaves: int) -> Tensor:
    """NeRF's encoding without pi, the identity in front."""
    return torch.cat([x, frequency_encoding(x / torch.pi, octaves)], dim=1)


def mip_nerf_direction_cam(generator: torch.Generator | None = None) -> PaperRadiance:
    """Mip-NeRF with direction modulation as published, 612,740 + 480 = 613,220 parameters; its density has no surface."""
    return PaperRadiance("mip-nerf", generator)


def t_nerf_time_cam(generator: torch.Generator | None = None) -> PaperRadiance:
    """NerfAcc's T-NeRF with time modulation, 613,191 + 80 = 613,271 parameters."""
    return PaperRadiance("t-nerf", generator)
