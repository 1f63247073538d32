"""What primitives look like: features at their vertices and, as an option, of a shared hash grid; colour by direction; a sky behind.

The paper's: free features at vertices, interpolated, one perceptron for opacity and colour of all primitives (Lu, Xu et al. 2023, section 3.3). Ours:
the hash grid read where a ray meets the surface, which resolves what lies between vertices; opacity that does not depend on the view; the view
as spherical harmonics instead of the product of normal and direction; and a sky that is learned with the rest.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from ..activations import elementwise, sigmoid
from ..encodings.hash_grid import HashGrid
from ..encodings.spherical_harmonics import spherical_harmonics
from ..mlp.mlp import Mlp

__all__ = ["PrimitiveAppearance"]

GEOMETRY_FEATURES = 16
DEGREE = 4
OPAQUE = 1.5
"""Added before the sigmoid: primitives start nearly opaque, since there is something where they are."""


class PrimitiveAppearance(nn.Module):
    """Opacity and colour of surface points, and the colour of directions where nothing is."""

    def __init__(
        self,
        vertices: int,
        *,
        features: int = 8,
        levels: int = 12,
        log2_table_size: int = 18,
        finest_resolution: int = 2048,
        hidden: int = 64,
        hidden_layers: int = 1,
        colour_layers: int = 2,
        view_dependent: bool = True,
        frequencies: int = 0,  # of the features at vertices, before the head; the paper has 6
        backend: str = "auto",
        precision: str = "float32",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        kernels = "reference" if backend == "reference" else "auto"
        heads = {"precision": precision, "backend": kernels, "generator": generator}
        self.view_dependent, self.frequencies = view_dependent, frequencies
        self.vertex = (
            nn.Parameter((torch.rand(vertices, features, generator=generator) - 0.5) * 0.2)
            if features
            else None
        )
        self.grid = None
        if levels:
            growth = math.exp(math.log(finest_resolution / 16) / max(levels - 1, 1))
            self.grid = HashGrid(
                3, levels, 2, log2_table_size, 16, growth, backend=kernels, generator=generator
            )
        inputs = features * (1 + 2 * frequencies) + (self.grid.output_size if self.grid else 0)
        self.opacity_head = Mlp(inputs, hidden, hidden_layers, GEOMETRY_FEATURES, **heads)
        self.colour_head = Mlp(GEOMETRY_FEATURES + DEGREE**2, hidden, colour_layers, 3, **heads)
        self.sky_grid = HashGrid(3, 8, 2, 14, 8, 1.6, backend=kernels, generator=generator)
        self.sky_head = Mlp(self.sky_grid.output_size, 32, 1, 3, **heads)

    def surface(
        self,
        at_vertices: Tensor | None,  # (n, features) interpolated, if there are any
        inside: Tensor,  # (n, 3) where the points are, in the unit cube of the grid
        directions: Tensor,  # (r, 3) unit, looking along
        ray: Tensor,  # (n,) int32, the direction of each point
    ) -> tuple[Tensor, Tensor]:  # (n,) opacity, (n, 3) sRGB
        """Differentiable with respect to features and parameters. Opacity depends on the place alone.

        Without gradients a row hangs, bit for bit, on its own inputs only, whatever else is asked at once.
        """
        if at_vertices is not None and self.frequencies:
            # linear in frequency, as the released code's scripts ask for: 1, ..., 32
            turned = [at_vertices * k for k in torch.linspace(1, 32, self.frequencies).tolist()]
            waves = [elementwise(wave, each) for wave in (torch.sin, torch.cos) for each in turned]
            at_vertices = torch.cat([at_vertices, *waves], 1)
        parts = ([] if at_vertices is None else [at_vertices]) + (
            [] if self.grid is None else [self.grid(inside)]
        )
        hidden = self.opacity_head(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        if not self.view_dependent:
            directions = torch.zeros_like(directions[:1])
            ray = torch.zeros_like(ray)
        colour = self.colour_head(hidden, spherical_harmonics(directions, DEGREE), ray)
        return sigmoid(hidden[:, 0] + OPAQUE), sigmoid(colour)

    @torch.no_grad()
    def start_from(self, positions: Tensor) -> None:  # (v, 3) of the vertices, of order 1
        """Features start as the places of the vertices, their sines and cosines at 3 octaves: the paper's 21."""
        turned = [positions * 2.0**octave for octave in range(3)]
        self.vertex.copy_(torch.cat([positions, *map(torch.sin, turned), *map(torch.cos, turned)], 1))

    def of_vertices(self, rows: Tensor) -> PrimitiveAppearance:
        """The same with the features of some vertices (k,) only; all else is shared."""
        if self.vertex is None:
            return self
        chosen = copy.copy(self)
        chosen._parameters = dict(self._parameters)
        chosen.vertex = nn.Parameter(self.vertex.detach()[rows], requires_grad=False)
        return chosen

    def sky(self, directions: Tensor) -> Tensor:  # (r, 3) unit -> (r, 3) sRGB
        """What is so far away that only the direction counts. Differentiable with respect to parameters."""
        return sigmoid(self.sky_head(self.sky_grid(0.5 + 0.49 * directions)))
