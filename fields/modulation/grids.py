"""Scale and shift for every layer of a perceptron, looked up at a coordinate in one small grid.

Lee, Rho, Nam, Ko, Park 2024 (Coordinate-Aware Modulation for Neural Fields), section 3: x = act(gamma_l(c) norm(Wx + b) +
beta_l(c)). The paper keeps one pair of grids a layer; here all layers' values of a node lie side by side, so that one look-up
serves all, and what is kept is gamma - 1, so that zeros are the plain perceptron and quantisation treats both alike (ours).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from fieldstone.core.backends import Backend, Backends
from fieldstone.core.errors import UserError

__all__ = ["LOOKUP", "CoordinateModulation"]

LOOKUP = Backends("grid look-up")
LOOKUP.add(Backend("cpu", "fieldstone.fields.modulation.lookup_cpu", ("cpu",)))
LOOKUP.add(Backend("matrix", "fieldstone.fields.modulation.lookup_matrix", ("cuda", "cpu")))
LOOKUP.add(Backend("reference", "fieldstone.fields.modulation.lookup_reference", ("cpu", "cuda")))

_MOST_NODES = 1 << 24


class CoordinateModulation(nn.Module):
    """gamma and beta of `layers` layers at coordinates in [0, 1]^d, d = `len(resolution)` from 1 to 3.

    A "border" axis has node i at i / (R - 1) and is held beyond its ends (the policy outside what was trained on, time
    included); a "wrap" axis has node i at i / R and is periodic.

    `factors`: "dense" is one grid over all coordinates. "sum" and "product" (two or three coordinates) keep one grid for each
    coordinate left out - lines for two, planes for three - and join them: gamma - 1 and beta are sums, or gamma is the product of
    (1 + p) and beta of (1 + q), less 1. All start at zero with a gradient; a plain product of zeros, as in the released code,
    has none.

    Settings out of range raise `UserError`.
    """

    def __init__(
        self,
        layers: int,
        resolution: tuple[int, ...],  # nodes along each coordinate, at least 2
        *,
        channels: int = 1,  # 1: one scale and shift for a whole layer; its width: one a channel; or for runs of channels
        padding: tuple[str, ...] | str = "border",  # or "wrap"; one for all axes or one an axis
        factors: str = "dense",  # "sum", "product"
        backend: str = "auto",
    ) -> None:
        super().__init__()
        dims = len(resolution)
        padding = (padding,) * dims if isinstance(padding, str) else tuple(padding)
        if not 1 <= dims <= 3:
            raise UserError(f"modulation: {dims} coordinates; there must be 1, 2 or 3")
        if any(int(count) != count or count < 2 for count in resolution):
            raise UserError(f"modulation: resolution {tuple(resolution)}: each axis needs at least 2 nodes")
        if len(padding) != dims or any(kind not in ("border", "wrap") for kind in padding):
            raise UserError(f"modulation: padding {padding}: give border or wrap for each of {dims} axes")
        if factors not in ("dense", "sum", "product"):
            raise UserError(f"modulation: unknown factors {factors!r}; there are dense, sum, product")
        if factors != "dense" and dims == 1:
            raise UserError("modulation: one coordinate has nothing to factorise; use factors dense")
        if layers < 1 or channels < 1:
            raise UserError(f"modulation: {layers} layers of {channels} channels; both must be at least 1")
        self.layers, self.channels, self.factors, self.backend = layers, channels, factors, backend
        self.resolution = tuple(int(count) for count in resolution)
        self.wrap = tuple(kind == "wrap" for kind in padding)
        self.axes = (
            [tuple(range(dims))]
            if factors == "dense"
            else list(itertools.combinations(range(dims), dims - 1))
        )
        nodes = [math.prod(self.resolution[axis] for axis in axes) for axes in self.axes]
        if sum(nodes) > _MOST_NODES:
            raise UserError(
                f"modulation: resolution {self.resolution} has {sum(nodes)} nodes; most are {_MOST_NODES}"
            )
        self.grids = nn.ParameterList(
            nn.Parameter(torch.zeros(count, layers * 2 * channels)) for count in nodes
        )
        """One a factor, (nodes, layers * 2 * channels): of each layer gamma - 1, then beta."""

    def forward(
        self,
        coordinates: Tensor,  # (n, d)
        grids: list[Tensor] | None = None,  # in place of the parameters: quantised ones, say
    ) -> Tensor:  # (n, layers * 2 * channels): of each layer gamma - 1, then beta
        """Differentiable with respect to coordinates and grids. Raises `ValueError` for coordinates of another shape."""
        if coordinates.ndim != 2 or coordinates.shape[1] != len(self.resolution):
            raise ValueError(
                f"modulation: expected coordinates (n, {len(self.resolution)}), got {tuple(coordinates.shape)}"
            )
        interpolate = LOOKUP.load(self.backend, coordinates.device.type).interpolate
        parts = []
        for axes, grid in zip(self.axes, grids if grids is not None else self.grids, strict=True):
            chosen = coordinates if len(axes) == len(self.resolution) else coordinates[:, list(axes)]
            shape = tuple(self.resolution[axis] for axis in axes)
            parts.append(interpolate(chosen, grid, shape, tuple(self.wrap[axis] for axis in axes)))
        if len(parts) == 1:
            return parts[0]
        if self.factors == "sum":
            return sum(parts[1:], parts[0])
        product = 1 + parts[0]
        for part in parts[1:]:
            product = product * (1 + part)
        return product - 1

    def split(
        self,
        packed: Tensor,  # (n, layers * 2 * channels)
    ) -> tuple[Tensor, Tensor]:  # gamma, beta: (n, layers, channels)
        """gamma and beta of every layer out of what `forward` gives."""
        pairs = packed.unflatten(1, (self.layers, 2, self.channels))
        return 1 + pairs[:, :, 0], pairs[:, :, 1]

    def extra_repr(self) -> str:
        padding = ", ".join("wrap" if wrap else "border" for wrap in self.wrap)
        return f"{self.layers} layers, {self.resolution}, {padding}, {self.channels} channels, {self.factors}"
