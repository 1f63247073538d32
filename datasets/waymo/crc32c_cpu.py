"""The kernel of `crc32c`: slicing by eight (Kounavis and Berry 2008)."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["crc32c_cpu"]


@njit(cache=True, nogil=True)
def crc32c_cpu(
    data,  # (n,) uint8
    tables,  # (8, 256) uint32
):
    """The checksum as `crc32c_reference` has it."""
    value = np.uint32(0xFFFFFFFF)
    whole = len(data) - len(data) % 8
    for i in range(0, whole, 8):
        value = np.uint32(
            tables[7, data[i] ^ (value & 0xFF)]
            ^ tables[6, data[i + 1] ^ ((value >> 8) & 0xFF)]
            ^ tables[5, data[i + 2] ^ ((value >> 16) & 0xFF)]
            ^ tables[4, data[i + 3] ^ (value >> 24)]
            ^ tables[3, data[i + 4]]
            ^ tables[2, data[i + 5]]
            ^ tables[1, data[i + 6]]
            ^ tables[0, data[i + 7]]
        )
    for i in range(whole, len(data)):
        value = np.uint32(tables[0, (value ^ data[i]) & 0xFF] ^ (value >> 8))
    return np.uint32(value ^ np.uint32(0xFFFFFFFF))
