"""Compositing packed samples into rays: emission and absorption (Max 1995; Mildenhall et al. 2020, equation 3)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fieldstone.core.backends import Backend, Backends, missing_module

__all__ = ["COMPOSITING", "Composite", "composite", "transmittance"]

COMPOSITING = Backends("compositing")
COMPOSITING.add(Backend("cpu", "fieldstone.render.volume.compositing_cpu", ("cpu",)))
COMPOSITING.add(
    Backend("cuda", "fieldstone.render.volume.compositing_cuda", ("cuda",), missing_module("triton"))
)
COMPOSITING.add(Backend("reference", "fieldstone.render.volume.compositing_reference", ("cpu", "cuda")))


class Composite(NamedTuple):
    """What r rays see, before any background."""

    colour: Tensor
    """(r, c): the sum of weight * value."""
    opacity: Tensor
    """(r,): the sum of weights."""
    distance: Tensor
    """(r,): the sum of weight * distance, not divided by opacity."""
    weights: Tensor
    """(n,): transmittance * alpha of each sample."""


def composite(
    density: Tensor,  # (n,) per unit length
    colour: Tensor,  # (n, c)
    distance: Tensor,  # (n,)
    length: Tensor,  # (n,)
    starts: Tensor,  # (r + 1,) int64
    *,
    backend: str = "auto",
) -> Composite:
    """alpha = 1 - exp(-density * length), weight = alpha * product of (1 - alpha) before it.

    Differentiable once with respect to density and colour through colour, opacity, distance and weights (the CPU kernel's
    backward is one suffix sum a ray), not with respect to distance or length of the samples.
    """
    return COMPOSITING.load(backend, density.device.type).composite(density, colour, distance, length, starts)


def transmittance(
    density: Tensor,  # (n,)
    length: Tensor,  # (n,)
    starts: Tensor,  # (r + 1,)
    *,
    initial: Tensor | None = None,  # (r,) light left where the samples begin; None: 1
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Light that reaches each sample (n,), and what is left behind each ray (r,). Not differentiable."""
    return COMPOSITING.load(backend, density.device.type).transmittance(density, length, starts, initial)
