"""Compositing on the CPU: one pass a ray forward, one suffix pass backward.

For a loss that depends on the weights w_i through a value g_i = dL/dw_i, with optical thickness o_i = density_i * length_i,
dL/do_k = T_{k+1} g_k - sum_{i > k} w_i g_i, where T_{k+1} is the light left behind sample k.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from .compositing import Composite

__all__ = ["composite", "transmittance"]


@njit(parallel=True, cache=True)
def _forward(density, colour, distance, length, starts, out_colour, out_opacity, out_distance, weights):
    channels = colour.shape[0]
    for ray in prange(len(starts) - 1):
        light = np.float32(1)
        opacity = np.float32(0)
        travelled = np.float32(0)
        for i in range(starts[ray], starts[ray + 1]):
            passing = np.exp(-density[i] * length[i])
            weight = light * (np.float32(1) - passing)
            weights[i] = weight
            opacity += weight
            travelled += weight * distance[i]
            for c in range(channels):
                out_colour[ray, c] += weight * colour[c, i]
            light *= passing
        out_opacity[ray] = opacity
        out_distance[ray] = travelled


@njit(parallel=True, cache=True)
def _backward(
    density, colour, distance, length, starts, weights, d_colour, d_opacity, d_distance, d_weights, density_out, colour_out
):  # fmt: skip
    channels = colour.shape[0]
    for ray in prange(len(starts) - 1):
        behind = np.float32(0)  # sum over later samples of w_i g_i
        optical = np.float32(0)
        for i in range(starts[ray], starts[ray + 1]):
            optical += density[i] * length[i]
        for i in range(starts[ray + 1] - 1, starts[ray] - 1, -1):
            g = d_opacity[ray] + d_distance[ray] * distance[i] + d_weights[i]
            for c in range(channels):
                g += d_colour[ray, c] * colour[c, i]
                colour_out[c, i] = d_colour[ray, c] * weights[i]
            light_behind = np.exp(-optical)
            optical -= density[i] * length[i]
            density_out[i] = length[i] * (light_behind * g - behind)
            behind += weights[i] * g


@njit(parallel=True, cache=True)
def _transmittance(density, length, starts, light, reaching, left):
    for ray in prange(len(starts) - 1):
        now = light[ray]
        for i in range(starts[ray], starts[ray + 1]):
            reaching[i] = now
            now *= np.exp(-density[i] * length[i])
        left[ray] = now


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, colour, distance, length, starts):
        arrays = (
            density.detach().contiguous().numpy(),
            colour.detach().t().contiguous().numpy(),
            distance.detach().contiguous().numpy(),
            length.detach().contiguous().numpy(),
            starts.numpy(),
        )
        rays, channels = len(starts) - 1, colour.shape[1]
        out_colour = np.zeros((rays, channels), np.float32)
        out_opacity, out_distance = np.empty(rays, np.float32), np.empty(rays, np.float32)
        weights = np.empty(len(density), np.float32)
        _forward(*arrays, out_colour, out_opacity, out_distance, weights)
        ctx.arrays, ctx.weights = arrays, weights
        return tuple(torch.from_numpy(a) for a in (out_colour, out_opacity, out_distance, weights))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_colour, d_opacity, d_distance, d_weights):
        density_out = np.empty_like(ctx.weights)
        colour_out = np.empty_like(ctx.arrays[1])
        gradients = (g.contiguous().numpy() for g in (d_colour, d_opacity, d_distance, d_weights))
        _backward(*ctx.arrays, ctx.weights, *gradients, density_out, colour_out)
        return torch.from_numpy(density_out), torch.from_numpy(colour_out).t(), None, None, None


def composite(density: Tensor, colour: Tensor, distance: Tensor, length: Tensor, starts: Tensor) -> Composite:
    """See `compositing.composite`; float32."""
    return Composite(*_Composite.apply(density, colour, distance, length, starts))


def transmittance(
    density: Tensor, length: Tensor, starts: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `compositing.transmittance`; float32."""
    rays = len(starts) - 1
    light = np.ones(rays, np.float32) if initial is None else initial.detach().contiguous().numpy()
    reaching, left = np.empty(len(density), np.float32), np.empty(rays, np.float32)
    arrays = (density.detach().contiguous().numpy(), length.detach().contiguous().numpy(), starts.numpy())
    _transmittance(*arrays, light, reaching, left)
    return torch.from_numpy(reaching), torch.from_numpy(left)
