"""How large a frame generator is: everything that decides its tensors, as plain data, and the largest one within a budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

from fieldstone.core.errors import UserError

__all__ = ["GeneratorShape", "generator_shape"]

_LOWEST = 9
"""Rows or columns, whichever are fewer, that the latents should have about (the paper: 9 x 16 for every size)."""
_NARROWING = 0.75
"""Channels of a block for each of the one before: the last blocks have the most pixels and need the fewest."""
_LEAST_CHANNELS = 6
_WIDEST = 1024
_PLACE_SPACING = 8
_PLACE_SHARE = 0.21
"""Most of the parameters that may be spent on modulation over place, when its spacing is chosen here."""


@dataclass(frozen=True)
class GeneratorShape:
    """Sizes of a `FrameGenerator`."""

    frames: int
    height: int
    width: int
    strides: tuple[int, ...]
    """Of the blocks, first to last. Their product times the latents' size covers the frame; what sticks out is cut off."""
    channels: tuple[int, ...]
    """Of what the blocks give."""
    latent_nodes: tuple[int, ...]
    """Nodes in time of each latent grid."""
    latent_channels: int
    modulation_nodes: int = 0
    """Nodes in time of gamma and beta; 0: no modulation over time."""
    place_spacing: int = 0
    """Pixels of a block's output from node to node of what modulates over place; 0: no modulation over place."""
    place_rank: int = 4
    """Grids over place behind the gammas, and behind the betas, of a block's channels."""
    norm: bool = True
    compact: bool = False
    neighbours: tuple[int, ...] = ()
    """Offsets of the frames that flows bring in, (-1, 1) say; none: no aggregation."""

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        total = math.prod(self.strides)
        return -(-self.height // total), -(-self.width // total)

    def place_nodes(self) -> list[tuple[int, int]]:
        """Rows and columns of nodes of each block's grid over place; none without it."""
        if not self.place_spacing:
            return []
        nodes, (high, wide) = [], self.latent_size
        for stride in self.strides:
            high, wide = high * stride, wide * stride
            nodes.append((max(2, -(-high // self.place_spacing)), max(2, -(-wide // self.place_spacing))))
        return nodes

    @property
    def head_channels(self) -> int:
        """Colours; with neighbours also a weight for every frame that is joined and a flow for all but the own."""
        return 3 + (1 + 3 * len(self.neighbours) if self.neighbours else 0)

    def parameters(self) -> int:
        """Learned numbers of the generator."""
        high, wide = self.latent_size
        count = sum(self.latent_nodes) * self.latent_channels * high * wide
        inputs = len(self.latent_nodes) * self.latent_channels
        for stride, outputs in zip(self.strides, self.channels, strict=True):
            wider = outputs * stride * stride
            count += (9 * inputs + wider * inputs if self.compact else 9 * wider * inputs) + outputs
            inputs = outputs
        count += self.head_channels * (9 * inputs + 1)
        return count + _place_parameters(self) + 2 * self.modulation_nodes * sum(self.channels)

    def to_json(self) -> dict:
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def generator_shape(
    frames: int,
    height: int,
    width: int,
    parameters: int,  # at most
    *,
    modulation_nodes: int,
    place_spacing: int
    | None,  # None: 8, or twice, four times, ... that, to cost a fifth of the parameters at most
    norm: bool,
    place_rank: int = 4,
    compact: bool = False,
    neighbours: tuple[int, ...] = (),
    latent_share: float = 0.2,  # of the parameters, about
    strides: tuple[int, ...] | None = None,  # None: twos, to latents of about 9 rows
) -> GeneratorShape:
    """The widest generator within `parameters`; `UserError` if the smallest is too large."""
    if strides is None:
        count = max(1, round(math.log2(max(min(height, width) / _LOWEST, 2))))
        strides = (2,) * count
    shape = GeneratorShape(
        frames, height, width, strides, (), _latent_nodes(frames), 1, modulation_nodes, place_spacing or 0, place_rank,
        norm, compact, tuple(neighbours),
    )  # fmt: skip
    if place_spacing is None:
        shape = replace(shape, place_spacing=_PLACE_SPACING)
        while _place_parameters(shape) > _PLACE_SHARE * parameters and shape.place_spacing < max(
            height, width
        ):
            shape = replace(shape, place_spacing=2 * shape.place_spacing)
    high, wide = shape.latent_size
    each = sum(shape.latent_nodes) * high * wide
    shape = replace(shape, latent_channels=max(1, round(latent_share * parameters / each)))
    while True:
        fits = [w for w in range(_LEAST_CHANNELS, _WIDEST) if _widths(shape, w).parameters() <= parameters]
        if fits:
            return _widths(shape, fits[-1])
        if shape.latent_channels == 1:
            least = _widths(shape, _LEAST_CHANNELS).parameters()
            raise UserError(
                f"--parameters {parameters}: the smallest generator for {frames} frames of {width} x {height} has {least}"
            )
        shape = replace(shape, latent_channels=shape.latent_channels - 1)


def _place_parameters(shape: GeneratorShape) -> int:
    nodes = shape.place_nodes()
    mixed = sum(shape.channels) if nodes else 0
    return 2 * shape.place_rank * (sum(rows * columns for rows, columns in nodes) + mixed)


def _latent_nodes(frames: int) -> tuple[int, ...]:
    """An eighth, a quarter, a half and all of the frames, without what would be twice the same."""
    return tuple(sorted({max(1, -(-frames // share)) for share in (8, 4, 2, 1)}))


def _widths(shape: GeneratorShape, first: int) -> GeneratorShape:
    channels = tuple(
        max(_LEAST_CHANNELS, round(first * _NARROWING**number)) for number in range(len(shape.strides))
    )
    return replace(shape, channels=channels)
