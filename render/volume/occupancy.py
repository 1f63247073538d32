"""Which cells of space hold anything: a cascade of grids, each covering twice the side of the one before.

Cascade k covers the cube of side 2^k around the centre (0.5, 0.5, 0.5) of the field cube. A cell keeps an optical
thickness (density times the smallest step): it decays, and is raised by what the field answers at a jittered point
inside the cell (Mueller et al. 2022, appendix E.2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["OccupancyGrid"]


class OccupancyGrid:
    """`cascades` grids of resolution^3 cells; every cell counts as occupied until the first update."""

    def __init__(
        self,
        resolution: int = 128,
        cascades: int = 1,
        *,
        threshold: float = 0.01,
        decay: float = 0.95,
        device: str | torch.device = "cpu",
    ) -> None:
        if resolution % 8 or resolution < 8 or cascades < 1:
            raise ValueError(
                f"resolution must be a multiple of 8 and cascades >= 1, got {resolution}, {cascades}"
            )
        self.resolution, self.cascades = resolution, cascades
        self.threshold, self.decay = threshold, decay
        shape = (cascades, resolution, resolution, resolution)
        self.values = torch.zeros(shape, device=device)
        """Optical thickness of each cell; -1: no camera sees it, it stays empty."""
        self.cells = torch.ones(shape, dtype=torch.bool, device=device)
        """Occupied or not."""
        self._skips: np.ndarray | None = None
        self._skip_table: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.values.device

    @torch.no_grad()
    def update(
        self,
        density: Callable[[Tensor], Tensor],  # (n, 3) cube coordinates -> (n,) density per cube unit
        step: float,  # smallest step of the marching, cube units
        generator: torch.Generator,
        share: float = 1.0,  # of all cells, to look at this time
        batch: int = 1 << 18,
    ) -> int:
        """Decays all values, looks at `share` of the cells (half of them drawn from occupied ones when share < 1), and
        marks anew. Returns how many points were evaluated."""
        flat = self.values.view(-1)
        if share >= 1:
            chosen = torch.nonzero(flat >= 0)[:, 0]
        else:
            count = max(1, int(len(flat) * share / 2))
            uniform = torch.randint(len(flat), (count,), generator=generator, device=self.device)
            occupied = torch.nonzero(self.cells.view(-1))[:, 0]
            if len(occupied) > count:
                occupied = occupied[
                    torch.randint(len(occupied), (count,), generator=generator, device=self.device)
                ]
            chosen = torch.cat([uniform, occupied])
            chosen = torch.unique(chosen[flat[chosen] >= 0])
        fresh = torch.empty(len(chosen), device=self.device)
        for start in range(0, len(chosen), batch):
            part = chosen[start : start + batch]
            jitter = torch.rand(len(part), 3, generator=generator, device=self.device)
            fresh[start : start + batch] = density(self.cell_positions(part, jitter)) * step
        flat.copy_(torch.where(flat < 0, flat, flat * self.decay))
        flat[chosen] = torch.maximum(flat[chosen], fresh)
        self.mark()
        return len(chosen)

    def mark(self) -> None:
        """Recomputes `cells` from `values`."""
        total = self.values.clamp(min=0).sum(dtype=torch.float64)
        mean = total / (self.values >= 0).sum().clamp(min=1)  # stays on the device: nobody waits for it
        torch.gt(self.values, torch.where(mean < self.threshold, mean, self.threshold), out=self.cells)
        self._changed()

    def _changed(self) -> None:
        self._skips = self._skip_table = None

    def skips(self) -> np.ndarray:
        """(cascades, r, r, r) uint8 for marching on the CPU, see `occupancy_cpu.skips`; made when first asked for after a change."""
        if self._skips is None:
            from .occupancy_cpu import skips

            self._skips = skips(self.cells.numpy())
        return self._skips

    def skip_table(self) -> Tensor:
        """The same as a tensor on the device, for marching on GPUs; see `occupancy_skips.skips`."""
        if self._skip_table is None:
            from .occupancy_skips import skips

            self._skip_table = skips(self.cells)
        return self._skip_table

    def cell_positions(
        self,
        index: Tensor,  # (n,) int64 flat cell numbers
        offset: Tensor,  # (n, 3) in [0, 1], place inside the cell
    ) -> Tensor:  # (n, 3) cube coordinates
        r = self.resolution
        cascade = index // r**3
        rest = index % r**3
        corner = torch.stack([rest // r**2, rest // r % r, rest % r], dim=1)
        unit = (corner + offset) / r
        side = 2.0 ** cascade.to(unit.dtype)
        return (unit - 0.5) * side[:, None] + 0.5

    def occupied(
        self,
        positions: Tensor,  # (n, 3) cube coordinates
    ) -> Tensor:  # (n,) bool; False outside the outermost cube
        reach = (positions - 0.5).abs().amax(dim=1)
        cascade = torch.zeros(len(positions), dtype=torch.int64, device=positions.device)
        for k in range(self.cascades - 1):
            cascade += reach >= 0.5 * 2.0**k
        side = 2.0 ** cascade.to(positions.dtype)
        cell = ((positions - 0.5) / side[:, None] + 0.5) * self.resolution
        cell = cell.long().clamp(0, self.resolution - 1)
        inside = reach < 0.5 * 2.0 ** (self.cascades - 1)
        return self.cells[cascade, cell[:, 0], cell[:, 1], cell[:, 2]] & inside

    @torch.no_grad()
    def restrict(
        self,
        visible: Callable[[Tensor], Tensor],  # (n, 3) cube coordinates -> (n,) bool
        group: int = 4,
    ) -> float:
        """Closes for good the groups of group^3 cells none of whose corners, nor the centre, is visible.

        Returns the share that stays open.
        """
        n = self.resolution // group
        unit = torch.stack(
            torch.meshgrid(*[torch.arange(n, device=self.device)] * 3, indexing="ij"), -1
        ).view(-1, 3)
        offsets = torch.tensor(
            [[0.5, 0.5, 0.5]] + [[i & 1, i >> 1 & 1, i >> 2] for i in range(8)], device=self.device
        )
        for cascade in range(self.cascades):
            seen = torch.zeros(len(unit), dtype=torch.bool, device=self.device)
            for offset in offsets:
                todo = torch.nonzero(~seen)[:, 0]
                if len(todo) == 0:
                    break
                seen[todo] = visible(((unit[todo] + offset) / n - 0.5) * 2.0**cascade + 0.5)
            closed = ~seen.view(n, n, n)
            for axis in range(3):
                closed = closed.repeat_interleave(group, dim=axis)
            self.values[cascade][closed] = -1.0
        self.cells &= self.values >= 0
        self._changed()
        return float((self.values >= 0).float().mean())

    def share_occupied(self) -> float:
        return float(self.cells.float().mean())

    def state(self) -> dict[str, Tensor]:
        return {"values": self.values, "cells": self.cells}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.values.copy_(tensors["values"])
        self.cells.copy_(tensors["cells"].bool())
        self._changed()
