"""Linear blend skinning: each vertex moves with the weighted mean of its joints' transforms (Romero et al. 2017, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from fieldstone.core.backends import Backend, Backends

__all__ = ["SKINNING", "skin"]

SKINNING = Backends("skinning")
SKINNING.add(Backend("cpu", "fieldstone.fields.articulated.skinning_cpu", ("cpu",)))
SKINNING.add(Backend("reference", "fieldstone.fields.articulated.skinning_reference", ("cpu", "cuda")))


def skin(
    vertices: Tensor,  # (b, v, 3) or (1, v, 3) rest positions
    transforms: Tensor,  # (b, j, 3, 4) from rest to posed
    weights: Tensor,  # (v, j)
    *,
    backend: str = "auto",
) -> Tensor:  # (b, v, 3)
    """v' = sum_k w_k (R_k v + t_k).

    Differentiable with respect to vertices and transforms; with respect to weights, twice, and under torch.func only with
    the back end "reference", which "auto" takes for anything but float32 on the CPU.
    """
    if backend == "auto" and (vertices.dtype != torch.float32 or weights.requires_grad):
        backend = "reference"
    return SKINNING.load(backend, vertices.device.type).skin(vertices, transforms, weights)
