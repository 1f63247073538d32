"""The levels of a hash grid: their scales, resolutions, sizes and places in the table.

The definition is tiny-cuda-nn's (grid.h and common_device.h: grid_scale, grid_resolution, grid_index; Mueller et al. 2022,
section 3 and appendix A), so that a weight vector means the same here and there. docs/hash_grid.md has it in full.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["PRIMES", "GridLevels"]

PRIMES = (1, 2654435761, 805459861, 3674653429)
"""One factor a dimension; the first is 1, so that neighbours along x are neighbours in the table."""

_FINEST = 1 << 30
"""Most vertices along an axis: cells, plus one for the upper corner, must fit a signed 32-bit integer."""

_MOST_VALUES = (1 << 31) - 1
"""Most values of a table: 8 GiB, and what 32-bit indices of a kernel reach."""


@dataclass(frozen=True)
class GridLevels:
    """Where every level of a hash grid lies in its table; equal and hashable by its six settings.

    Raises `UserError` for settings out of range. The arrays are read-only.
    """

    dims: int = 3
    """Coordinates of a point, 2 to 4."""
    levels: int = 16
    features: int = 2
    """Values of a row: 1, 2, 4 or 8."""
    log2_table_size: int = 19
    """No level has more than 2^log2_table_size rows."""
    base_resolution: int = 16
    """Vertices along an axis at the coarsest level."""
    per_level_scale: float = 1.3819
    """Growth of the resolution from level to level."""
    scale: np.ndarray = field(init=False, compare=False, repr=False)
    """(L,) float32: cells in a unit length, base_resolution * per_level_scale^level - 1."""
    resolution: np.ndarray = field(init=False, compare=False, repr=False)
    """(L,) uint32: vertices along an axis, ceil(scale) + 1."""
    entries: np.ndarray = field(init=False, compare=False, repr=False)
    """(L,) int64: rows of the level, resolution^dims rounded up to a multiple of 8, or the table size if that is less."""
    offset: np.ndarray = field(init=False, compare=False, repr=False)
    """(L,) int64: rows of the levels before."""
    hashed: np.ndarray = field(init=False, compare=False, repr=False)
    """(L,) bool: rows found by hashing, as the level has more vertices than rows; row-major (x fastest) otherwise.

    tiny-cuda-nn also hashes where resolution^dims overflows 32 bits (above 65535, 1625, 255 vertices along an axis in 2, 3, 4
    dimensions). That adds no level: such a one has more than 2^31 vertices, and a table here at most 2^28 rows.
    """

    def __post_init__(self) -> None:
        for name, low, high in (
            ("dims", 2, 4),
            ("levels", 1, 128),
            ("log2_table_size", 3, 28),
            ("base_resolution", 1, _FINEST),
        ):
            _check_whole(name, getattr(self, name), low, high)
        if self.features not in (1, 2, 4, 8):
            raise UserError(f"hash grid: features must be 1, 2, 4 or 8, got {self.features!r}")
        if not 1 <= self.per_level_scale < math.inf:
            raise UserError(f"hash grid: per_level_scale must be at least 1, got {self.per_level_scale!r}")
        finest = self.base_resolution * float(self.per_level_scale) ** (self.levels - 1)
        if finest > _FINEST:
            raise UserError(
                f"hash grid: {self.levels} levels from {self.base_resolution} growing by {self.per_level_scale} end at a "
                f"resolution of {finest:.3g}, above {_FINEST}; use fewer levels or slower growth"
            )
        scale = _scales(self.levels, self.base_resolution, self.per_level_scale)
        resolution = np.ceil(scale).astype(np.uint32) + np.uint32(1)
        vertices = [int(r) ** self.dims for r in resolution]
        entries = [min(-(-v // 8) * 8, 1 << self.log2_table_size) for v in vertices]
        if sum(entries) * self.features > _MOST_VALUES:
            raise UserError(
                f"hash grid: {sum(entries) * self.features} values are more than the {_MOST_VALUES} supported; "
                f"lower log2_table_size ({self.log2_table_size}), levels or features"
            )
        arrays = {
            "scale": scale,
            "resolution": resolution,
            "entries": np.array(entries, np.int64),
            "offset": np.cumsum([0, *entries[:-1]], dtype=np.int64),
            "hashed": np.array([v > n for v, n in zip(vertices, entries, strict=True)]),
        }
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def size(self) -> int:
        """Rows of all levels."""
        return int(self.entries.sum())

    @property
    def parameters(self) -> int:
        """Values of all levels, stored level after level, then row after row, features together."""
        return self.size * self.features


def _scales(levels: int, base_resolution: int, per_level_scale: float) -> np.ndarray:  # (L,) float32
    """exp2(level * log2(growth)) * base - 1, each operation rounded to float32, as tiny-cuda-nn does on the host.

    The rounding matters: the ceil that follows flips by one where base * growth^level is whole but for it. The two
    transcendental functions are taken in double precision and then rounded, since NumPy's own float32 ones differ
    from machine to machine in the last bit.
    """
    growth = np.float32(math.log2(np.float32(per_level_scale)))
    powers = [np.float32(2.0 ** float(np.float32(level) * growth)) for level in range(levels)]
    return np.array(powers, np.float32) * np.float32(base_resolution) - np.float32(1)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    try:
        valid = low <= operator.index(value) <= high
    except TypeError:
        valid = False
    if not valid:
        raise UserError(f"hash grid: {name} must be a whole number from {low} to {high}, got {value!r}")
