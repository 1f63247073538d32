"""The light pass of a training step on a GPU: rays stay where they are, and those that ended have no samples in the next wave.

What the CPU saves by picking the rays and samples that go on, a GPU pays for: whenever the host asks how many they are, it waits for
all that is queued. Here it asks once a wave (how many samples were marched) and once at the end (how many are kept).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .compositing import transmittance
from .marching import Samples

__all__ = ["WAVES", "Wave", "light_pass", "pack"]

WAVES = (32, 4096)
"""Samples of a ray, at most, in each wave: fewer and longer than on the CPU, since a wave costs launches whatever its size."""


@dataclass
class Wave:
    """Samples of one wave, all rays counted, and which of them are kept."""

    samples: Samples
    kept: Tensor
    """(n,) bool."""
    known: Tensor | None
    """(n, k) of each sample, or None."""


def light_pass(
    march: Callable[[Tensor | None, int], Samples],  # (first, limit) -> samples of all rays
    look: Callable[..., tuple[Tensor, Tensor | None]],
    condition: Tensor | None,  # (rays, k)
    *,
    early_stop: float,
    minimum_alpha: float,
    backend: str,
) -> tuple[Samples, Tensor | None, int]:
    """See `VolumeRenderer._light_pass`: the same samples, but for the device's rounding."""
    light, first, found, marched = None, None, [], 0
    for limit in WAVES:
        samples = march(first, limit)
        if len(samples) == 0:  # a ray that goes on has a sample where it does
            break
        marched += len(samples)
        more = () if condition is None else (condition[samples.ray.long()],)
        density, known = look(samples.positions, *more)
        reaching, light = transmittance(
            density, samples.length, samples.starts, initial=light, backend=backend
        )
        kept = reaching > early_stop
        if minimum_alpha > 0:
            kept &= density * samples.length > minimum_alpha
        found.append(Wave(samples, kept, known))
        first = torch.where(light > early_stop, samples.resume, torch.inf)
    if not found:
        found = [Wave(samples, samples.ray.bool(), None)]
    return *pack(found), marched


def pack(
    waves: list[Wave],  # of the same rays, nearer samples first
) -> tuple[Samples, Tensor | None]:
    """One packed set out of the kept samples of all waves, and their known values."""
    starts = torch.zeros_like(waves[0].samples.starts)
    before, counts = [], []
    for wave in waves:
        ends = torch.nn.functional.pad(wave.kept.cumsum(0), (1, 0))  # kept ones in front of each sample
        at = ends[wave.samples.starts]
        before.append((ends[:-1], at[:-1]))
        counts.append(at.diff())
        starts[1:] += counts[-1]
    starts = starts.cumsum(0)
    begin, places = starts[:-1], []
    for wave, (ends, at), count in zip(waves, before, counts, strict=True):
        places.append(ends + (begin - at).index_select(0, wave.samples.ray))
        begin = begin + count
    n = int(starts[-1])
    kept, place = (torch.cat(parts) for parts in ([wave.kept for wave in waves], places))
    source = torch.empty(n + 1, dtype=torch.int64, device=starts.device)
    # those that are not kept all go to the place behind the last
    source[torch.where(kept, place, n)] = torch.arange(len(kept), device=starts.device)
    source = source[:n]

    def chosen(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, dim=-1).index_select(-1, source)

    packed = [wave.samples for wave in waves]
    known = None
    if all(wave.known is not None for wave in waves):
        known = chosen([wave.known.t() for wave in waves]).t()
    resume = torch.full_like(packed[0].resume, torch.inf)
    return (
        Samples(
            starts,
            chosen([samples.ray for samples in packed]),
            chosen([samples.distance for samples in packed]),
            chosen([samples.length for samples in packed]),
            chosen([samples.positions.t() for samples in packed]).t(),
            resume,
        ),
        known,
    )
