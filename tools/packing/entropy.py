"""Whole numbers as a bitstream near their entropy: a model of how often each comes, then constriction's range coder (Bamler 2022).

The model is what takes fewest bytes of: a curve fitted to the symbols (`curve`), the table of their counts, or none, all symbols in as many
bits as the alphabet needs. It is in the bitstream and counted like everything else.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from fieldstone.core.errors import UserError

from .curve import curve, fit

__all__ = ["MOST_SYMBOLS", "decode", "decode_counted", "encode"]

MOST_SYMBOLS = 1 << 28

_HEAD = struct.Struct("<BhH")  # way, least symbol, length of the alphabet
_CURVE = struct.Struct("<hff")  # centre and factors
_TABLE = struct.Struct("<H")  # bytes of the packed counts
_CURVED, _COUNTED, _PLAIN = range(3)

_FIRST_HEAD = struct.Struct(
    "<iHI"
)  # version 1: least symbol, length of the alphabet, bytes of the packed counts


def encode(symbols: np.ndarray) -> bytes:
    """(n,) integers within 16 bits, n at least 1, as bytes that `decode` turns back; the same bytes for the same symbols."""
    symbols = np.asarray(symbols, np.int64).ravel()
    low = int(symbols.min())
    counts = np.bincount(symbols - low)
    if len(counts) == 1:
        return _HEAD.pack(_PLAIN, low, 1)
    shifted = (symbols - low).astype(np.int32)
    centre, a, b = fit(counts, low)
    ways = {_CURVED: _CURVE.pack(centre, a, b) + _encoded(shifted, curve(low, len(counts), centre, a, b))}
    table = zlib.compress(counts.astype(_type(len(symbols))).tobytes(), 9)
    if len(table) < 1 << 16:
        ways[_COUNTED] = _TABLE.pack(len(table)) + table + _encoded(shifted, counts.astype(np.float64))
    if (len(symbols) * _width(len(counts)) + 7) // 8 < min(map(len, ways.values())):
        bits = (shifted[:, None] >> np.arange(_width(len(counts)))) & 1
        ways[_PLAIN] = np.packbits(bits.astype(np.uint8)).tobytes()
    way = min(ways, key=lambda way: (len(ways[way]), way))
    return _HEAD.pack(way, low, len(counts)) + ways[way]


def decode(
    data: bytes,
    count: int,  # how many symbols there are
    where: str,  # the file, for messages
) -> np.ndarray:  # (count,) int32
    """Raises `UserError` for bytes that `encode` did not write."""
    try:
        way, low, length = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        if not 0 < count <= MOST_SYMBOLS or length < 1:
            raise ValueError("no symbols")
        if way == _PLAIN:
            return _plain(rest, count, length) + low
        if way == _CURVED:
            weights = curve(low, length, *_CURVE.unpack_from(rest))
            rest = rest[_CURVE.size :]
        elif way == _COUNTED:
            (packed,) = _TABLE.unpack_from(rest)
            rest = rest[_TABLE.size :]
            counts = _counts(rest[:packed], count, length, _type(count))
            weights, rest = counts.astype(np.float64), rest[packed:]
        else:
            raise ValueError(f"an unknown model {way}")
        return _decoded(rest, weights, count) + low
    except (struct.error, zlib.error, ValueError, AssertionError, IndexError) as error:
        raise UserError(f"{where}: damaged: a packed tensor cannot be decoded ({error})") from error


def decode_counted(data: bytes, count: int, where: str) -> np.ndarray:  # (count,) int32
    """As `decode`, of what packed files of version 1 hold: always a table of counts."""
    try:
        low, length, packed = _FIRST_HEAD.unpack_from(data)
        rest = data[_FIRST_HEAD.size :]
        if not 0 < count <= MOST_SYMBOLS:
            raise ValueError("no symbols")
        counts = _counts(rest[:packed], count, length, "<u4")
        if length == 1:
            return np.full(count, low, np.int32)
        return _decoded(rest[packed:], counts.astype(np.float32), count) + np.int32(low)
    except (struct.error, zlib.error, ValueError, AssertionError, IndexError) as error:
        raise UserError(f"{where}: damaged: a packed tensor cannot be decoded ({error})") from error


def _width(length: int) -> int:
    return int(length - 1).bit_length()


def _type(count: int) -> str:
    return "<u2" if count < 1 << 16 else "<u4"


def _counts(packed: bytes, count: int, length: int, kind: str) -> np.ndarray:
    size = np.dtype(kind).itemsize
    counts = np.frombuffer(zlib.decompressobj().decompress(packed, size * length + 1), kind).astype(np.int64)
    if len(counts) != length or counts.sum() != count:
        raise ValueError("counts do not add up")
    return counts


def _plain(data: bytes, count: int, length: int) -> np.ndarray:
    width = _width(length)
    if len(data) != (count * width + 7) // 8:
        raise ValueError(f"{len(data)} bytes for {count} symbols of {width} bits")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width).reshape(count, width)
    symbols = (bits.astype(np.int64) << np.arange(width)).sum(1).astype(np.int32)
    if width and symbols.max() >= length:
        raise ValueError("a symbol outside the alphabet")
    return symbols


def _encoded(shifted: np.ndarray, weights: np.ndarray) -> bytes:
    import constriction

    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(shifted, _model(weights))
    return encoder.get_compressed().astype("<u4").tobytes()


def _decoded(data: bytes, weights: np.ndarray, count: int) -> np.ndarray:
    import constriction

    if len(data) % 4:
        raise ValueError("counts do not add up")
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
    return np.asarray(decoder.decode(_model(weights), count)).astype(np.int32)


def _model(weights: np.ndarray):
    import constriction

    # weights, not shares: the coder rounds them to fixed point in one defined way. In float64: sums of many in float32 stop growing, and
    # leave symbols without a share
    return constriction.stream.model.Categorical(weights, perfect=False)
