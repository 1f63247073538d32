"""Which moments of a moving scene training looks at: the middle one first, then more and more on both sides.

Pumarola et al. 2021 (D-NeRF), section 5, add the pictures of a motion one after another, so that a warp follows what moves; without
it things that move far are learned several times over, each blurred. From the middle outwards is ours: half as far to follow.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .pixels import PixelBatch, Pixels

__all__ = ["Moments"]

FIRST = 0.15
"""Share of the frames that training starts with."""


class Moments:
    """Times of the training frames, and how many of them are in use: all, once `until` of the budget is used up."""

    def __init__(
        self,
        times: Tensor,  # (frames,) in [0, 1]
        until: float,  # share of the budget; 0: all frames from the start
    ) -> None:
        self.times, self.until = times, until
        self.middle = float(times.median())
        self._far = (times - self.middle).abs()
        self._ordered = self._far.sort().values.tolist()
        self.use(0.0)

    def use(self, progress: float) -> None:
        """Takes in the frames that are due after that share of the budget."""
        self.share = min(FIRST + (1 - FIRST) * progress / self.until, 1.0) if self.until > 0 else 1.0
        self.reach = self._ordered[math.ceil(self.share * len(self._ordered)) - 1]

    @property
    def span(self) -> tuple[float, float]:
        """Earliest and latest time in use; outside training times nothing is known, and all of [0, 1] counts in the end."""
        if self.share >= 1:
            return 0.0, 1.0
        return max(self.middle - self.reach, 0.0), min(self.middle + self.reach, 1.0)

    def draw(self, pixels: Pixels, count: int, generator: torch.Generator) -> PixelBatch:
        """At most `count` pixels, uniform over the frames in use."""
        if self.share >= 1:
            return pixels.draw(count, generator)
        wanted = int(1.2 * count / self.share) + 64
        while True:
            drawn = pixels.draw(wanted, generator)
            kept = torch.nonzero(self._far[drawn.frame] <= self.reach)[:count, 0]
            if len(kept):
                return PixelBatch(*(values[kept] for values in drawn))
            wanted *= 2

    def some(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 1) times drawn from `span`."""
        low, high = self.span
        drawn = torch.rand(count, 1, generator=generator, device=generator.device)
        return low + (high - low) * drawn

    @torch.no_grad()
    def hold_beyond(self, grid: Tensor) -> None:
        """Sets the nodes over time of a modulation, (nodes, k), that no moment in use reads to the outermost that one does."""
        if self.share >= 1:
            return
        low, high = self.span
        place = torch.linspace(0, 1, len(grid))
        gap = 0.999 / (len(grid) - 1)
        read = torch.nonzero((place > low - gap) & (place < high + gap))[:, 0]
        first, last = int(read[0]), int(read[-1])
        grid[:first] = grid[first]
        grid[last + 1 :] = grid[last]
