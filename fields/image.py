"""An image as a field: pixel coordinates to colour, by one of three models of a given size.

"cam": random Fourier features, three hidden layers, norm and modulation over x and y (Lee et al. 2024, section 4.1); "fourier":
the same without (Tancik et al. 2020); "hash-grid": a 2-D hash grid with a small perceptron (Mueller et al. 2022, section 5.1).
The paper's shape is kept at every size: width = frequencies, grids of width / 8 nodes a side; 256 is its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError

from .encodings.hash_grid import HashGrid
from .encodings.levels import GridLevels
from .encodings.random_fourier import RandomFourier
from .mlp.mlp import Mlp
from .modulation import CamMlp, CoordinateModulation

__all__ = ["IMAGE_MODELS", "ImageField", "head_width"]

IMAGE_MODELS = ("cam", "fourier", "hash-grid")

_SIGMA = 10.0 / 512
"""Spread of the frequencies for each pixel of the longer side: 10 at 512, as both papers have it."""
_WIDTHS = range(8, 1025, 8)


class ImageField(nn.Module):
    """Colour in [0, 1] at places in an image of `width` x `height` pixels, with at most `parameters` parameters.

    `UserError` when the budget is too small for the model.
    """

    def __init__(
        self,
        model: str,
        width: int,
        height: int,
        parameters: int,
        *,
        norm: str = "layer",  # of "cam"
        head: int = 64,  # of "hash-grid": width of the perceptron
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if model not in IMAGE_MODELS:
            raise UserError(f"unknown image model {model!r}; there are {', '.join(IMAGE_MODELS)}")
        self.model = model
        longest = max(width, height)
        # isotropic: one unit is the longer side, so that frequencies mean the same along both
        self.register_buffer("extent", torch.tensor([width / longest, height / longest]), persistent=False)
        if model == "hash-grid":
            levels = _levels(parameters, longest, head)
            self.encoding = HashGrid(
                2, levels.levels, levels.features, levels.log2_table_size, levels.base_resolution,
                levels.per_level_scale, backend=backend, generator=generator,
            )  # fmt: skip
            self.mlp = Mlp(
                self.encoding.output_size, head, 2, 3,
                backend="reference" if backend == "reference" else "auto", generator=generator,
            )  # fmt: skip
            return
        fits = [w for w in _WIDTHS if _size(model, w, width, height) <= parameters]
        if not fits:
            least = _size(model, _WIDTHS[0], width, height)
            raise UserError(f"--parameters {parameters}: the smallest {model} model has {least} parameters")
        units = fits[-1]
        modulation = None
        if model == "cam":
            modulation = CoordinateModulation(3, _nodes(units, width, height), backend=backend)
        self.encoding = RandomFourier(2, units, _SIGMA * longest, generator=generator)
        self.mlp = CamMlp(
            2 * units, units, 3, 3, modulation=modulation, norm=norm if model == "cam" else "none",
            backend=backend, generator=generator,
        )  # fmt: skip

    def forward(
        self,
        places: Tensor,  # (n, 2) in [0, 1]: x to the right and y down, as shares of width and height
    ) -> Tensor:  # (n, 3)
        """Differentiable with respect to parameters."""
        if self.model == "hash-grid":
            return torch.sigmoid(self.mlp(self.encoding(places)))
        return torch.sigmoid(self.mlp(self.encoding(places * self.extent), places))

    def grid_parameters(self) -> list[nn.Parameter]:
        """Modulation grids or the hash table; none for "fourier"."""
        if self.model == "hash-grid":
            return [self.encoding.table]
        return self.mlp.grid_parameters() if self.model == "cam" else []

    def mlp_parameters(self) -> list[nn.Parameter]:
        return list(self.mlp.weights) if self.model == "hash-grid" else self.mlp.mlp_parameters()

    def parameters_count(self) -> int:
        """Learned numbers; the fixed frequencies of "cam" and "fourier" follow from the seed."""
        return sum(p.numel() for p in self.parameters())


def _nodes(units: int, width: int, height: int) -> tuple[int, int]:
    """Grid nodes along x and y: (units / 8)^2 of them, in the proportions of the image."""
    side, shape = units / 8, math.sqrt(width / height)
    return max(2, round(side * shape)), max(2, round(side / shape))


def _size(model: str, units: int, width: int, height: int) -> int:
    size = 2 * units * units + units + 2 * (units * units + units) + 3 * units + 3
    return size + (6 * math.prod(_nodes(units, width, height)) if model == "cam" else 0)


def head_width(parameters: int) -> int:
    """A width of the hash grid's perceptron that leaves most of the budget to the table. Ours: of 7,000 parameters, a head of 64 leaves a fifth, and
    32 is worth 2.3 dB more."""
    return 16 if parameters < 6_000 else 32 if parameters < 30_000 else 64


def _levels(parameters: int, longest: int, width: int) -> GridLevels:
    """The hash grid nearest below the budget: the largest table, then as many levels as fit."""
    head = 3 * width + width * width
    found = None
    for log2 in range(6, 23):
        for count in range(4, 17):
            growth = math.exp(math.log(max(longest / 2, 16) / 16) / (count - 1)) if longest > 32 else 1.3
            levels = GridLevels(2, count, 2, log2, 16, growth)
            size = levels.parameters + 2 * count * width + head
            if size <= parameters and (found is None or size > found[0]):
                found = size, levels
    if found is None:
        raise UserError(
            f"--parameters {parameters}: too few for a hash grid and its perceptron, {width} wide; give {head + 1000 + 8 * width} or more"
        )
    return found[1]
