"""The multiresolution hash encoding as a module (Mueller et al. 2022, section 3), the same on every back end."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fieldstone.core.backends import Backend, Backends, missing_module
from fieldstone.core.errors import UserError
from fieldstone.core.memory import zeros_in_large_pages

from .levels import GridLevels

__all__ = ["HASH_GRID", "INTERPOLATIONS", "HashGrid"]

INTERPOLATIONS = ("linear", "smoothstep")

HASH_GRID = Backends("hash grid")
"""Each module offers `encode(x, table, levels, interpolation)`; see docs/add_a_back_end.md."""
HASH_GRID.add(Backend("cuda", "fieldstone.fields.encodings.hash_cuda", ("cuda",), missing_module("triton")))
HASH_GRID.add(Backend("cpu", "fieldstone.fields.encodings.hash_cpu", ("cpu",)))
HASH_GRID.add(Backend("reference", "fieldstone.fields.encodings.hash_reference", ("cpu", "cuda")))
# Last, so that "auto" never picks it: its precision depends on how it was built.
HASH_GRID.add(
    Backend("tcnn", "fieldstone.fields.encodings.hash_tcnn", ("cuda",), missing_module("tinycudann"))
)

_START = 1e-4
"""Half the width of the uniform distribution a table starts from (section 4)."""


class HashGrid(nn.Module):
    """Features of points in [0, 1]^dims, interpolated in `levels` grids of growing resolution.

    `table` is one flat float32 parameter in tiny-cuda-nn's layout, so weights move between back ends, and to and from
    tinycudann, unchanged. Points outside [0, 1] get the features of some other place, as in tiny-cuda-nn: mask them.

    The fast back ends are differentiable once, with respect to points and table; asking more of them raises torch's
    "once_differentiable" error. For second derivatives (a loss on normals, say) use backend="reference".

    Settings out of range, an unknown interpolation or an unknown back end raise `UserError`; so does, in `forward`, a back end
    that cannot run where the points are.
    """

    def __init__(
        self,
        dims: int = 3,  # 2, 3, 4
        levels: int = 16,
        features: int = 2,  # a level: 1, 2, 4, 8
        log2_table_size: int = 19,
        base_resolution: int = 16,  # vertices along an axis of the coarsest level
        per_level_scale: float = 1.3819,
        interpolation: str = "linear",  # or "smoothstep": with continuous first derivatives
        backend: str = "auto",  # "cuda", "cpu", "reference", "tcnn"
        generator: torch.Generator | None = None,  # of the first values of the table
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise UserError(
                f"hash grid: unknown interpolation {interpolation!r}; there are {', '.join(INTERPOLATIONS)}"
            )
        if backend != "auto" and backend not in HASH_GRID.names():
            raise UserError(
                f"hash grid: unknown back end {backend!r}; there are auto, {', '.join(HASH_GRID.names())}"
            )
        self.levels = GridLevels(dims, levels, features, log2_table_size, base_resolution, per_level_scale)
        self.interpolation, self.backend = interpolation, backend
        uniform = torch.rand(
            self.levels.parameters, generator=generator, device=generator.device if generator else None
        )
        values = zeros_in_large_pages(uniform.shape).copy_(uniform * (2 * _START) - _START)
        self.table = nn.Parameter(values.to(device))

    @property
    def output_size(self) -> int:
        """Values `forward` gives a point."""
        return self.levels.levels * self.levels.features

    def forward(
        self,
        x: Tensor,  # (n, dims) in [0, 1]
        known: Tensor
        | None = None,  # (n, levels * features): the result, if it was computed before at these weights
    ) -> (
        Tensor
    ):  # (n, levels * features) float32; a transposed view of feature-major storage from the fast back ends
        """Differentiable with respect to x and the table. Raises `ValueError` for x of another shape.

        With `known`, a back end that can (cpu) computes only gradients; the others look the values up again.
        """
        if x.ndim != 2 or x.shape[1] != self.levels.dims:
            raise ValueError(f"hash grid: expected points (n, {self.levels.dims}), got {tuple(x.shape)}")
        module = HASH_GRID.load(self.backend, x.device.type)
        # the parameter itself, not a view: the cpu back end looks at its `grad`
        if known is not None and getattr(module, "TAKES_KNOWN_VALUES", False):
            return module.encode(x, self.table, self.levels, self.interpolation, known)
        return module.encode(x, self.table, self.levels, self.interpolation)

    def extra_repr(self) -> str:
        return f"{self.levels}, interpolation={self.interpolation!r}, backend={self.backend!r}"
