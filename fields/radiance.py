"""A radiance field: hash grid, density head, colour head (Mueller et al. 2022, section 5.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .activations import sigmoid, truncated_exp
from .encodings.hash_grid import HashGrid
from .encodings.spherical_harmonics import spherical_harmonics
from .mlp.mlp import Mlp

__all__ = ["RadianceField", "RadianceSettings"]


@dataclass(frozen=True)
class RadianceSettings:
    """Sizes of a `RadianceField`; plain data."""

    levels: int = 16
    features: int = 2
    log2_table_size: int = 19
    base_resolution: int = 16
    finest_resolution: int = 2048
    """Vertices of the finest level along the side of what the grid covers."""
    interpolation: str = "linear"
    hidden: int = 64
    density_layers: int = 1
    colour_layers: int = 2
    geometry_features: int = 16
    """Outputs of the density head; the first is the density's logarithm, all go to the colour head."""
    direction_degree: int = 4

    def per_level_scale(self) -> float:
        if self.levels == 1:
            return 1.0
        return math.exp(math.log(self.finest_resolution / self.base_resolution) / (self.levels - 1))


class RadianceField(nn.Module):
    """Density and view-dependent sRGB colour over the cube.

    `warp` maps cube coordinates to [0, 1]^3 before the grid (a contraction for unbounded scenes); None: they are used as
    they are. Density depends on position only.
    """

    def __init__(
        self,
        settings: RadianceSettings,
        *,
        warp: Callable[[Tensor], Tensor] | None = None,
        backend: str = "auto",
        precision: str = "float32",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.warp = settings, warp
        self.grid = HashGrid(
            dims=3,
            levels=settings.levels,
            features=settings.features,
            log2_table_size=settings.log2_table_size,
            base_resolution=settings.base_resolution,
            per_level_scale=settings.per_level_scale(),
            interpolation=settings.interpolation,
            backend=backend,
            generator=generator,
        )
        heads = {
            "precision": precision,
            "backend": "reference" if backend == "reference" else "auto",
            "generator": generator,
        }
        self.density_head = Mlp(
            self.grid.output_size,
            settings.hidden,
            settings.density_layers,
            settings.geometry_features,
            **heads,
        )
        self.colour_head = Mlp(
            settings.geometry_features + settings.direction_degree**2,
            settings.hidden,
            settings.colour_layers,
            3,
            **heads,
        )

    def geometry(
        self,
        positions: Tensor,  # (n, 3) cube coordinates
        encoded: Tensor | None = None,  # (n, levels * features) of `look` at these positions
    ) -> tuple[Tensor, Tensor]:  # (n,) density per cube unit, (n, geometry_features)
        """Density and the features its head hands to the colour head. Differentiable."""
        features = self.density_head(self.grid(self._inside(positions), encoded))
        return truncated_exp(features[:, 0]), features

    @torch.no_grad()
    def look(
        self,
        positions: Tensor,  # (n, 3) cube coordinates
    ) -> tuple[Tensor, Tensor]:  # (n,) density, (n, levels * features)
        """Density without gradients, and the encoding, which `geometry` takes back for the samples that count."""
        encoded = self.grid(self._inside(positions))
        return truncated_exp(self.density_head(encoded, outputs=1)[:, 0]), encoded

    def _inside(self, positions: Tensor) -> Tensor:
        return self.warp(positions) if self.warp is not None else positions

    def density(self, positions: Tensor, condition: None = None) -> Tensor:
        """(n,) density per cube unit at positions (n, 3)."""
        encoded = self.grid(self._inside(positions))
        return truncated_exp(self.density_head(encoded, outputs=1)[:, 0])

    def colour(
        self,
        directions: Tensor,  # (r, 3) unit, looking along
        features: Tensor,  # (n, geometry_features) of `geometry`
        ray: Tensor,  # (n,) int32, the direction of each sample
    ) -> Tensor:  # (n, 3) sRGB in (0, 1)
        """Colour seen along each sample's direction; not differentiable with respect to directions."""
        basis = spherical_harmonics(directions, self.settings.direction_degree)
        return sigmoid(self.colour_head(features, basis, ray))

    def to_json(self) -> dict:
        return asdict(self.settings)
