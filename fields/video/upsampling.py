"""One step from a small picture of features to a larger one: convolution, pixel shuffle, norm, scale and shift, GELU.

The block of NeRV and FFNeRV with the modulation of Lee et al. 2024 (CAM): x = gelu(gamma(t) norm(conv(x)) + beta(t)), the norm over
the pixels of each channel and frame. Ours: the bias stands behind the norm, which would cancel it, and is one a channel; and a second
scale and shift over place, of every channel, of a low rank: a few grids for all channels, mixed for each. The paper's way for images,
one grid for all channels, is rank 1 with equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UpsamplingBlock"]


class UpsamplingBlock(nn.Module):
    """(b, inputs, h, w) to (b, outputs, stride h, stride w)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        norm: bool,  # over the pixels of a frame, for each channel
        compact: bool = False,  # a 3 x 3 for each channel, then 1 x 1, instead of a full 3 x 3
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.norm = stride, norm

        def weight(*shape: int) -> nn.Parameter:
            bound = math.sqrt(6 / math.prod(shape[1:]))
            return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)

        self.spatial = weight(inputs, 1, 3, 3) if compact else None
        side = 1 if compact else 3
        self.weight = weight(outputs * stride * stride, inputs, side, side)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(
        self,
        x: Tensor,  # (b, inputs, h, w)
        scale: Tensor | None = None,  # (b, outputs): gamma - 1
        shift: Tensor | None = None,  # (b, outputs): beta
        place: tuple[Tensor, Tensor, Tensor]
        | None = None,  # grids of gamma - 1 and of beta (rank, rows, columns) each, and their weights (2, outputs, rank)
        quantiser: Callable[[Tensor], Tensor] | None = None,  # of the weights
    ) -> Tensor:  # (b, outputs, stride * h, stride * w)
        """Differentiable with respect to everything. Without scale, shift and place it is the plain block."""
        kept = quantiser or (lambda w: w)
        if self.spatial is not None:
            x = functional.conv2d(x, kept(self.spatial), padding=1, groups=x.shape[1])
            x = functional.conv2d(x, kept(self.weight))
        else:
            x = functional.conv2d(x, kept(self.weight), padding=1)
        if self.stride > 1:
            x = functional.pixel_shuffle(x, self.stride)
        if self.norm:
            x = functional.instance_norm(x)
        x = x + self.bias.view(1, -1, 1, 1)
        if scale is not None and shift is not None:
            x = torch.addcmul(shift[:, :, None, None], x, 1 + scale[:, :, None, None])
        if place is not None:
            of_scale, of_shift, mix = place
            maps = functional.interpolate(
                torch.stack([of_scale, of_shift]), size=x.shape[2:], mode="bilinear", align_corners=True
            )  # corners on corners
            gamma, beta = functional.conv2d(
                maps.flatten(0, 1)[None], mix.flatten(0, 1)[:, :, None, None], groups=2
            ).chunk(2, 1)
            x = torch.addcmul(beta, x, 1 + gamma)
        return functional.gelu(x)
