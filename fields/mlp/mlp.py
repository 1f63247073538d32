"""Small perceptrons without biases, as tiny-cuda-nn's FullyFusedMLP: the heads of every field here."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from fieldstone.core.backends import Backend, Backends
from fieldstone.core.errors import UserError

__all__ = ["MLP", "MLP_BFLOAT16", "PRECISIONS", "Mlp", "has_bfloat16", "resolve_precision"]

MLP = Backends("mlp")
MLP.add(Backend("cpu", "fieldstone.fields.mlp.mlp_cpu", ("cpu",)))
MLP.add(Backend("reference", "fieldstone.fields.mlp.mlp_reference", ("cpu", "cuda")))


def _no_bfloat16_kernel() -> str | None:
    from .simd_bfloat16 import available

    return None if available() else "this CPU has no AVX-512 BF16"


MLP_BFLOAT16 = Backends("bfloat16 mlp")
MLP_BFLOAT16.add(
    Backend("cpu", "fieldstone.fields.mlp.mlp_cpu_bfloat16", ("cpu",), unavailable=_no_bfloat16_kernel)
)
MLP_BFLOAT16.add(Backend("reference", "fieldstone.fields.mlp.mlp_reference", ("cpu", "cuda")))

PRECISIONS = ("auto", "float32", "bfloat16")


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware that our kernel uses (AVX-512 BF16)."""
    return _no_bfloat16_kernel() is None


def resolve_precision(name: str, device: str = "cpu") -> str:
    """The arithmetic behind `name`: "auto" is bfloat16 on GPUs and on CPUs that have it, else float32.

    bfloat16 may be forced anywhere; on a CPU without our kernel torch does it, which is slower than our float32 (measured).
    """
    if name not in PRECISIONS:
        raise UserError(f"unknown precision {name!r}; there are {', '.join(PRECISIONS)}")
    if name == "auto":
        return "bfloat16" if device == "cuda" or has_bfloat16() else "float32"
    return name


class Mlp(nn.Module):
    """Linear layers without biases, ReLU between them, linear at the end. Parameters are always float32.

    Weights start uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010, as tiny-cuda-nn does).
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        hidden_layers: int,
        outputs: int,
        *,
        precision: str = "float32",
        backend: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = [inputs, *[hidden] * hidden_layers, outputs]
        self.weights = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            bound = math.sqrt(6 / (fan_in + fan_out))
            self.weights.append(
                nn.Parameter((torch.rand(fan_out, fan_in, generator=generator) * 2 - 1) * bound)
            )
        self.precision, self.backend = precision, backend

    def forward(
        self,
        x: Tensor,  # (n, inputs), or (n, inputs - j) with shared
        shared: Tensor | None = None,  # (m, j) inputs common to several samples, e.g. a ray's direction
        index: Tensor | None = None,  # (n,) int32 rows of shared
        outputs: int | None = None,  # only the first so many
    ) -> Tensor:  # (n, outputs) float32
        """Differentiable with respect to x and the weights; to shared only with the reference back end."""
        weights = tuple(self.weights)
        if outputs is not None:
            weights = (*weights[:-1], weights[-1][:outputs])
        if self.precision == "bfloat16":
            module = MLP_BFLOAT16.load(self.backend, x.device.type)
            return module.mlp_bfloat16(x, weights, shared, index)
        return MLP.load(self.backend, x.device.type).mlp(x, weights, shared, index)
