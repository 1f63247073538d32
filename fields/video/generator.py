"""Frame numbers to frames: latents of that time, blocks that double the size, scale and shift over time in each block.

The generator of FFNeRV (Lee et al. 2023) with temporal modulation as Lee et al. 2024 (CAM, section 4.3) have it: gamma and beta for
every channel of every block, linear in time between nodes. Ours: one grid for all blocks, modulation over place too (`upsampling`),
a softmax over neighbours (`aggregation`), any frame size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..modulation import CoordinateModulation
from .aggregation import aggregate
from .latents import TemporalLatents
from .shape import GeneratorShape
from .upsampling import UpsamplingBlock

__all__ = ["FrameGenerator"]

_MIXED = 0.3
"""Spread of the first weights of grids over place: of the size that a grid comes to."""


class FrameGenerator(nn.Module):
    """sRGB frames in [0, 1] at frame numbers; number i of N is time i / (N - 1), and numbers may be fractions.

    Without modulation it is the plain generator bit for bit, and with it at its first values too.
    """

    def __init__(self, shape: GeneratorShape, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.quantiser: Callable[[Tensor], Tensor] | None = None
        """Applied to weights, latents and grids on the way, to train what will be packed."""
        high, wide = shape.latent_size
        self.latents = TemporalLatents(
            shape.latent_nodes, shape.latent_channels, high, wide, generator=generator
        )
        inputs = len(shape.latent_nodes) * shape.latent_channels
        self.blocks = nn.ModuleList()
        for stride, outputs in zip(shape.strides, shape.channels, strict=True):
            self.blocks.append(
                UpsamplingBlock(
                    inputs, outputs, stride, norm=shape.norm, compact=shape.compact, generator=generator
                )
            )
            inputs = outputs
        bound = (1 / (3 * inputs)) ** 0.5
        self.head = nn.Parameter(
            (torch.rand(shape.head_channels, inputs, 3, 3, generator=generator) * 2 - 1) * bound
        )
        self.head_bias = nn.Parameter(torch.zeros(shape.head_channels))
        self.modulation: CoordinateModulation | None = None
        if shape.modulation_nodes:
            # channels differ from block to block: one layer as wide as all of them together. The rows looked up are few, so the
            # kernel for millions of points has no place here
            self.modulation = CoordinateModulation(
                1, (shape.modulation_nodes,), channels=sum(shape.channels), backend="reference"
            )

        rank, nodes = shape.place_rank, shape.place_nodes()
        self.place_scales = nn.ParameterList(nn.Parameter(torch.zeros(rank, *size)) for size in nodes)
        self.place_shifts = nn.ParameterList(nn.Parameter(torch.zeros(rank, *size)) for size in nodes)
        """Grids over place of each block, behind gamma - 1 and beta; zeros, so that weights alone must not be."""
        self.place_weights = nn.ParameterList(
            nn.Parameter(_MIXED * torch.randn(2, outputs, rank, generator=generator))
            for outputs in shape.channels[: len(nodes)]
        )

    def forward(
        self,
        numbers: Tensor,  # (b,) frame numbers, int64 or floats
    ) -> Tensor:  # (b, 3, height, width)
        """Differentiable with respect to parameters."""
        return self.frames_and_own(numbers)[0]

    def frames_and_own(
        self,
        numbers: Tensor,  # (b,)
    ) -> tuple[Tensor, Tensor]:  # (b, 3, height, width) each
        """Frames, and what they are before neighbours are joined in (the same where there are none)."""
        offsets = self.shape.neighbours
        if not offsets:
            frames = self._heads(numbers)
            return frames, frames
        last = self.shape.frames - 1
        around = [(numbers + offset).clamp(0, last) for offset in offsets]
        # a frame that several others need is made once
        wanted, place = torch.unique(torch.cat([numbers, *around]), return_inverse=True)
        said = self._heads(wanted)
        place = place.view(1 + len(offsets), -1)
        colours, own = said[:, :3], said[place[0]]
        count = len(offsets)
        frames = aggregate(
            own[:, :3],
            [colours[rows] for rows in place[1:]],
            own[:, 3 : 3 + 2 * count],
            own[:, 3 + 2 * count :],
        )
        return frames, own[:, :3]

    def _heads(self, numbers: Tensor) -> Tensor:
        """(b, head channels, height, width): colours in [0, 1], then flows and weights as they come."""
        shape, quantiser = self.shape, self.quantiser
        times = numbers.float() / max(1, shape.frames - 1)
        x = self.latents(times, quantiser)
        scales, shifts = self._modulation(times)
        places = list(zip(self.place_scales, self.place_shifts, self.place_weights, strict=True))
        for number, block in enumerate(self.blocks):
            place = places[number] if places else None
            if place is not None and quantiser:
                place = tuple(quantiser(part) for part in place)
            x = block(x, scales[number], shifts[number], place, quantiser)
        head = quantiser(self.head) if quantiser else self.head
        x = functional.conv2d(x, head, self.head_bias, padding=1)[:, :, : shape.height, : shape.width]
        colours = torch.sigmoid(x[:, :3])
        return colours if not shape.neighbours else torch.cat([colours, x[:, 3:]], dim=1)

    def _modulation(self, times: Tensor) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """gamma - 1 and beta of each block, (b, channels) each."""
        if self.modulation is None:
            return [None] * len(self.blocks), [None] * len(self.blocks)
        grids = [self.quantiser(grid) for grid in self.modulation.grids] if self.quantiser else None
        scales, shifts = self.modulation(times[:, None], grids).chunk(2, dim=1)
        widths = list(self.shape.channels)
        return list(scales.split(widths, dim=1)), list(shifts.split(widths, dim=1))

    def grid_parameters(self) -> list[nn.Parameter]:
        """Grids of the modulation over time; none without it."""
        return list(self.modulation.parameters()) if self.modulation is not None else []

    def place_parameters(self) -> list[nn.Parameter]:
        """Grids of the modulation over place and their weights; none without it."""
        return [*self.place_scales, *self.place_shifts, *self.place_weights]

    def latent_parameters(self) -> list[nn.Parameter]:
        return list(self.latents.parameters())

    def network_parameters(self) -> list[nn.Parameter]:
        """Weights and biases of blocks and head."""
        return [*self.blocks.parameters(), self.head, self.head_bias]

    def parameters_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
