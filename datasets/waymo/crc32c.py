"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of a gigabyte: eight bytes a step, and the plain one beside it."""

from __future__ import annotations

import numpy as np

__all__ = ["crc32c", "crc32c_reference"]

_POLYNOMIAL = 0x82F63B78
"""0x1EDC6F41 with its bits turned round, as the least significant bit comes first."""


def _tables() -> np.ndarray:  # (8, 256) uint32
    """Row k: what a byte does to the checksum when k more bytes follow it."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for k in range(1, 8):
        tables[k] = (tables[k - 1] >> 8) ^ tables[0, tables[k - 1] & 0xFF]
    return tables


TABLES = _tables()
_FEW = 64


def crc32c_reference(data: bytes | memoryview) -> int:
    """The checksum, a byte at a time."""
    table, value = TABLES[0].tolist(), 0xFFFFFFFF
    for byte in bytes(data):
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of any length of bytes, some hundred MB a second."""
    if len(data) <= _FEW:
        return crc32c_reference(data)
    from .crc32c_cpu import crc32c_cpu

    return int(crc32c_cpu(np.frombuffer(data, np.uint8), TABLES))
