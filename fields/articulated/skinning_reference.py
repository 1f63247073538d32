"""Linear blend skinning in plain torch: any float dtype, any device, differentiable as often as torch is."""

from __future__ import annotations

from torch import Tensor

__all__ = ["skin"]


def skin(vertices: Tensor, transforms: Tensor, weights: Tensor) -> Tensor:
    """See `skinning.skin`."""
    blended = (weights @ transforms.flatten(2)).unflatten(-1, (3, 4))
    return (blended[..., :3] @ vertices[..., None]).squeeze(-1) + blended[..., 3]
