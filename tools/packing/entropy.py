"""Whole numbers as a bitstream near their entropy: a table of counts, then constriction's range coder (Bamler 2022).

The coder works on the counts of the tensor itself, so nothing is assumed of how weights are spread; a table costs 100 to 300
bytes, which is counted like everything else.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["decode", "encode"]

_HEAD = struct.Struct("<iHI")  # least symbol, length of the alphabet, bytes of the packed counts
MOST_SYMBOLS = 1 << 28


def encode(symbols: np.ndarray) -> bytes:
    """(n,) integers within 16 bits, n at least 1, as bytes that `decode` turns back; the same bytes for the same symbols."""
    import constriction

    symbols = np.asarray(symbols, np.int64).ravel()
    low = int(symbols.min())
    counts = np.bincount(symbols - low)
    table = zlib.compress(counts.astype("<u4").tobytes(), 9)
    head = _HEAD.pack(low, len(counts), len(table)) + table
    if len(counts) == 1:
        return head
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode((symbols - low).astype(np.int32), _model(counts))
    return head + encoder.get_compressed().astype("<u4").tobytes()


def decode(
    data: bytes,
    count: int,  # how many symbols there are
    where: str,  # the file, for messages
) -> np.ndarray:  # (count,) int32
    """Raises `UserError` for bytes that `encode` did not write."""
    import constriction

    try:
        low, length, packed = _HEAD.unpack_from(data)
        inflated = zlib.decompressobj().decompress(data[_HEAD.size : _HEAD.size + packed], 4 * length + 1)
        counts = np.frombuffer(inflated, "<u4").astype(np.int64)
        rest = data[_HEAD.size + packed :]
        if not 0 < count <= MOST_SYMBOLS or len(counts) != length or counts.sum() != count or len(rest) % 4:
            raise ValueError("counts do not add up")
        if length == 1:
            return np.full(count, low, np.int32)
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(rest, "<u4").astype(np.uint32))
        return (np.asarray(decoder.decode(_model(counts), count)) + low).astype(np.int32)
    except (struct.error, zlib.error, ValueError, AssertionError, IndexError) as error:
        raise UserError(f"{where}: damaged: a packed tensor cannot be decoded ({error})") from error


def _model(counts: np.ndarray):
    import constriction

    # counts, not shares: the coder rounds them to fixed point in one defined way
    return constriction.stream.model.Categorical(counts.astype(np.float32), perfect=False)
