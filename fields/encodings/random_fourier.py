"""Random Fourier features (Tancik et al. 2020, "Fourier features let networks learn high frequency functions", equation 5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fieldstone.core.errors import UserError

__all__ = ["RandomFourier"]


class RandomFourier(nn.Module):
    """sin(2 pi B v), cos(2 pi B v), rows of B drawn from N(0, sigma^2); B is fixed and travels with the state."""

    def __init__(
        self, dims: int, frequencies: int, sigma: float, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if frequencies < 1 or not (math.isfinite(sigma) and sigma > 0):
            raise UserError(
                f"random Fourier features: {frequencies} frequencies, sigma {sigma}; both above 0"
            )
        self.register_buffer("matrix", sigma * torch.randn(frequencies, dims, generator=generator))

    @property
    def output_size(self) -> int:
        return 2 * len(self.matrix)

    def forward(
        self,
        x: Tensor,  # (n, dims)
    ) -> (
        Tensor
    ):  # (n, 2 * frequencies): all sines, then all cosines; a transposed view of feature-major storage
        """Differentiable with respect to x."""
        angle = (2 * math.pi) * (self.matrix @ x.t())
        return torch.cat([angle.sin(), angle.cos()]).t()
