"""Compositing on NVIDIA GPUs, in Triton: a tile of rays x samples a program, in float32.

Samples of a ray lie side by side, so neighbouring lanes read neighbouring samples; sums along a ray are scans of a tile, carried
from tile to tile. A warp works on few rays, so that long rays hold few others up. No atomics: the same input gives the same bits.

Backward is the CPU kernel's suffix sum, walked from the last tile to the first: with optical thickness o_i = density_i * length_i and
g_i = dL/dw_i, dL/do_k = T_{k+1} g_k - sum_{i > k} w_i g_i. The light T_{k+1} behind each sample is kept from forward.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .compositing import Composite

__all__ = ["composite", "transmittance"]

_RAYS, _SAMPLES = 8, 16
"""Of a tile, for one warp."""

_CHANNELS = 4
"""Colour channels a program adds up at once."""


@triton.jit
def _alpha(optical):
    """1 - exp(-optical), without cancellation where it is small."""
    series = 1.0 - optical * (1.0 / 5.0) * (1.0 - optical * (1.0 / 6.0))
    series = 1.0 - optical * (1.0 / 3.0) * (1.0 - optical * (1.0 / 4.0) * series)
    small = optical * (1.0 - optical * 0.5 * series)
    return tl.where(tl.abs(optical) < 0.3, small, 1.0 - tl.exp(-optical))


@triton.jit
def _rows(start_ptr, rays, RAYS: tl.constexpr):
    """Rays of this program, whether they exist, and where their samples begin and end, (RAYS,) each."""
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    valid = ray < rays
    begin = tl.load(start_ptr + ray, mask=valid, other=0)
    end = tl.load(start_ptr + ray + 1, mask=valid, other=0)
    return ray, valid, begin, end


@triton.jit
def _thickness(density_ptr, length_ptr, i, inside):
    """Optical thickness of samples i; 0 outside."""
    return tl.load(density_ptr + i, mask=inside, other=0.0) * tl.load(length_ptr + i, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["n", "rays", "channels"])
def _forward_kernel(
    density_ptr,  # (n,)
    colour_ptr,  # (channels, n)
    distance_ptr,  # (n,)
    length_ptr,  # (n,)
    start_ptr,  # (rays + 1,)
    n,
    rays,
    channels,
    out_colour_ptr,  # (rays, channels)
    out_opacity_ptr,  # (rays,)
    out_distance_ptr,  # (rays,)
    weight_ptr,  # (n,)
    behind_ptr,  # (n,): light behind each sample
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    ray, valid, begin, end = _rows(start_ptr, rays, RAYS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    leads = tl.program_id(1) == 0  # writes what does not depend on the channel
    passed = tl.zeros([RAYS], tl.float32)  # optical thickness in front of the last sample before the tile
    colour = tl.zeros([RAYS, CHANNELS], tl.float32)
    opacity = tl.zeros([RAYS], tl.float32)
    travelled = tl.zeros([RAYS], tl.float32)
    for first in range(0, tl.max(end - begin, axis=0), SAMPLES):
        i = begin[:, None] + first + tl.arange(0, SAMPLES)[None, :]
        inside = i < end[:, None]
        optical = _thickness(density_ptr, length_ptr, i, inside)
        # what lies in front is summed by itself: a sum less a sample's own, which may be thousands, has lost the digits
        previous = _thickness(density_ptr, length_ptr, i - 1, inside & (i > begin[:, None]))
        before = passed[:, None] + tl.cumsum(previous, axis=1)
        weight = tl.exp(-before) * _alpha(optical)
        passed += tl.sum(previous, axis=1)
        at = channel[None, None, :].to(tl.int64) * n + i[:, :, None]
        value = tl.load(
            colour_ptr + at, mask=inside[:, :, None] & (channel < channels)[None, None, :], other=0.0
        )
        colour += tl.sum(weight[:, :, None] * value, axis=1)
        if leads:
            opacity += tl.sum(weight, axis=1)
            travelled += tl.sum(weight * tl.load(distance_ptr + i, mask=inside, other=0.0), axis=1)
            tl.store(weight_ptr + i, weight, mask=inside)
            tl.store(behind_ptr + i, tl.exp(-(before + optical)), mask=inside)
    held = valid[:, None] & (channel < channels)[None, :]
    tl.store(out_colour_ptr + ray[:, None] * channels + channel[None, :], colour, mask=held)
    if leads:
        tl.store(out_opacity_ptr + ray, opacity, mask=valid)
        tl.store(out_distance_ptr + ray, travelled, mask=valid)


@triton.jit(do_not_specialize=["n", "rays", "channels"])
def _backward_kernel(
    colour_ptr,  # (channels, n)
    distance_ptr,  # (n,)
    length_ptr,  # (n,)
    start_ptr,  # (rays + 1,)
    n,
    rays,
    channels,
    weight_ptr,  # (n,)
    behind_ptr,  # (n,)
    d_colour_ptr,  # (rays, channels)
    d_opacity_ptr,  # (rays,)
    d_distance_ptr,  # (rays,)
    d_weight_ptr,  # (n,)
    density_out_ptr,  # (n,)
    colour_out_ptr,  # (channels, n)
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    ray, valid, begin, end = _rows(start_ptr, rays, RAYS)
    d_opacity = tl.load(d_opacity_ptr + ray, mask=valid, other=0.0)
    d_distance = tl.load(d_distance_ptr + ray, mask=valid, other=0.0)
    later = tl.zeros([RAYS], tl.float32)  # sum of w_i g_i over the tiles behind
    for last in range(0, tl.max(end - begin, axis=0), SAMPLES):
        i = end[:, None] - 1 - last - tl.arange(0, SAMPLES)[None, :]  # from the last sample to the first
        inside = i >= begin[:, None]
        weight = tl.load(weight_ptr + i, mask=inside, other=0.0)
        g = d_opacity[:, None] + d_distance[:, None] * tl.load(distance_ptr + i, mask=inside, other=0.0)
        g += tl.load(d_weight_ptr + i, mask=inside, other=0.0)
        for c in range(channels):
            pull = tl.load(d_colour_ptr + ray * channels + c, mask=valid, other=0.0)[:, None]
            at = tl.cast(c, tl.int64) * n + i
            g += pull * tl.load(colour_ptr + at, mask=inside, other=0.0)
            tl.store(colour_out_ptr + at, pull * weight, mask=inside)
        share = weight * g
        behind = later[:, None] + tl.cumsum(share, axis=1) - share
        light = tl.load(behind_ptr + i, mask=inside, other=0.0)
        length = tl.load(length_ptr + i, mask=inside, other=0.0)
        tl.store(density_out_ptr + i, length * (light * g - behind), mask=inside)
        later += tl.sum(share, axis=1)


@triton.jit(do_not_specialize=["rays"])
def _transmittance_kernel(
    density_ptr,  # (n,)
    length_ptr,  # (n,)
    start_ptr,  # (rays + 1,)
    rays,
    light_ptr,  # (rays,) or None: 1
    reaching_ptr,  # (n,)
    left_ptr,  # (rays,)
    RAYS: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    ray, valid, begin, end = _rows(start_ptr, rays, RAYS)
    light = tl.full([RAYS], 1.0, tl.float32)
    if light_ptr is not None:
        light = tl.load(light_ptr + ray, mask=valid, other=0.0)
    passed = tl.zeros([RAYS], tl.float32)
    total = tl.zeros([RAYS], tl.float32)
    for first in range(0, tl.max(end - begin, axis=0), SAMPLES):
        i = begin[:, None] + first + tl.arange(0, SAMPLES)[None, :]
        inside = i < end[:, None]
        optical = _thickness(density_ptr, length_ptr, i, inside)
        # what lies in front is summed by itself: a sum less a sample's own, which may be thousands, has lost the digits
        previous = _thickness(density_ptr, length_ptr, i - 1, inside & (i > begin[:, None]))
        before = passed[:, None] + tl.cumsum(previous, axis=1)
        tl.store(reaching_ptr + i, light[:, None] * tl.exp(-before), mask=inside)
        passed += tl.sum(previous, axis=1)
        total += tl.sum(optical, axis=1)
    tl.store(left_ptr + ray, light * tl.exp(-total), mask=valid)


_TILE = {"RAYS": _RAYS, "SAMPLES": _SAMPLES, "num_warps": 1}


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, density, colour, distance, length, starts):
        rays, n, channels = len(starts) - 1, len(density), colour.shape[1]
        colour = colour.t().contiguous()
        density, distance, length = density.contiguous(), distance.contiguous(), length.contiguous()
        starts = starts.contiguous()
        out_colour = density.new_empty(rays, channels)
        out_opacity, out_distance = density.new_empty(rays), density.new_empty(rays)
        weights, behind = torch.empty_like(density), torch.empty_like(density)
        if rays:
            with torch.cuda.device_of(density):
                _forward_kernel[(triton.cdiv(rays, _RAYS), max(1, triton.cdiv(channels, _CHANNELS)))](
                    density, colour, distance, length, starts, n, rays, channels,
                    out_colour, out_opacity, out_distance, weights, behind, CHANNELS=_CHANNELS, **_TILE,
                )  # fmt: skip
        ctx.save_for_backward(colour, distance, length, starts, weights, behind)
        return out_colour, out_opacity, out_distance, weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_colour, d_opacity, d_distance, d_weights):
        colour, distance, length, starts, weights, behind = ctx.saved_tensors
        rays, n, channels = len(starts) - 1, len(weights), len(colour)
        density_out, colour_out = torch.empty_like(weights), torch.empty_like(colour)
        if rays:
            gradients = [g.contiguous() for g in (d_colour, d_opacity, d_distance, d_weights)]
            with torch.cuda.device_of(weights):
                _backward_kernel[(triton.cdiv(rays, _RAYS),)](
                    colour, distance, length, starts, n, rays, channels, weights, behind, *gradients,
                    density_out, colour_out, **_TILE,
                )  # fmt: skip
        return density_out, colour_out.t(), None, None, None


def composite(density: Tensor, colour: Tensor, distance: Tensor, length: Tensor, starts: Tensor) -> Composite:
    """See `compositing.composite`. Raises `TypeError` for another dtype than float32."""
    _check(density=density, colour=colour, distance=distance, length=length)
    return Composite(*_Composite.apply(density, colour, distance, length, starts))


def transmittance(
    density: Tensor, length: Tensor, starts: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `compositing.transmittance`. Raises `TypeError` for another dtype than float32."""
    _check(density=density, length=length, **({} if initial is None else {"initial": initial}))
    rays = len(starts) - 1
    density, length = density.detach().contiguous(), length.detach().contiguous()
    light = None if initial is None else initial.detach().contiguous()
    reaching, left = torch.empty_like(density), density.new_empty(rays)
    if rays:
        with torch.cuda.device_of(density):
            _transmittance_kernel[(triton.cdiv(rays, _RAYS),)](
                density, length, starts.contiguous(), rays, light, reaching, left, **_TILE
            )
    return reaching, left


def _check(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise TypeError(
                f"the cuda back end takes float32, got {name} {tensor.dtype}; use backend='reference'"
            )
