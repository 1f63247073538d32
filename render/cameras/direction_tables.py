"""Camera-space directions of every pixel of a lens, computed once and kept within a memory bound."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch
from torch import Tensor

from .lenses import Lenses

__all__ = ["DirectionTables", "pixel_centres"]

_CHUNK = 1 << 18  # pixels unprojected at once: keeps the float64 temporaries of a 50-megapixel image small


def pixel_centres(width: int, height: int, device: torch.device | str = "cpu") -> Tensor:  # (h * w, 2)
    """Centres (j + 0.5, i + 0.5) of all pixels in float64, row-major."""
    x = torch.arange(width, dtype=torch.float64, device=device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=device) + 0.5
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)


class DirectionTables:
    """A least-recently-used cache of direction tables, one per distinct lens, size and device."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._tables: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, lenses: Lenses, row: int, width: int, height: int) -> Tensor:
        """(h, w, 3) float32 unit directions of lens `row`; shared, so not to be written to."""
        device = lenses.table.device
        key = (*key, width, height, str(device))
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        table = torch.empty(height * width, 3, device=device)
        index = torch.tensor([row], device=device)
        rows_per_chunk = max(1, _CHUNK // width)
        for top in range(0, height, rows_per_chunk):
            rows = min(rows_per_chunk, height - top)
            pixels = pixel_centres(width, rows, device)
            pixels[:, 1] += top
            table[top * width : (top + rows) * width] = lenses.unproject(pixels, index).float()
        table = table.reshape(height, width, 3)
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > 1 and self._bytes() > self.capacity_bytes:
                self._tables.popitem(last=False)
        return table

    def _bytes(self) -> int:
        return sum(table.nbytes for table in self._tables.values())
