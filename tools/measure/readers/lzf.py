"""LZF decompression, as PCD's binary_compressed uses it (liblzf's stream format)."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["decompress", "decompress_reference"]


@numba.njit(cache=True)
def _decompress(source: np.ndarray, target: np.ndarray) -> int:
    """Fills `target` from `source`; the number of bytes written, or -1 when the stream is damaged."""
    read, written = 0, 0
    while read < source.size:
        control = np.int64(source[read])
        read += 1
        if control < 32:  # a run of literal bytes
            length = control + 1
            if read + length > source.size or written + length > target.size:
                return -1
            for _ in range(length):
                target[written] = source[read]
                written += 1
                read += 1
            continue
        length = control >> 5
        if length == 7:
            if read >= source.size:
                return -1
            length += np.int64(source[read])
            read += 1
        if read >= source.size:
            return -1
        start = written - ((control & 31) << 8) - np.int64(source[read]) - 1
        read += 1
        length += 2
        if start < 0 or written + length > target.size:
            return -1
        for _ in range(length):  # byte by byte: source and target of a back reference may overlap
            target[written] = target[start]
            written += 1
            start += 1
    return written


def decompress(data: bytes, size: int) -> bytes | None:
    """`size` bytes, or None when the stream is damaged or holds another number of bytes."""
    target = np.empty(size, np.uint8)
    written = _decompress(np.frombuffer(data, np.uint8).copy(), target)
    return target.tobytes() if written == size else None


def decompress_reference(data: bytes, size: int) -> bytes | None:
    """The same in plain Python."""
    out, read = bytearray(), 0
    try:
        while read < len(data):
            control = data[read]
            read += 1
            if control < 32:
                run = data[read : read + control + 1]
                if len(run) <= control:
                    return None
                out += run
                read += control + 1
                continue
            length = (control >> 5) + 2
            if length == 9:
                length += data[read]
                read += 1
            start = len(out) - ((control & 31) << 8) - data[read] - 1
            read += 1
            if start < 0:
                return None
            for i in range(length):
                out.append(out[start + i])
    except IndexError:
        return None
    return bytes(out) if len(out) == size else None
