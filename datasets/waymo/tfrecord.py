"""TFRecord files: a length, its checksum, the bytes, their checksum, and so on.

The layout is TensorFlow's ("TFRecords format details"): uint64 length, uint32 masked CRC-32C of it, the data, uint32 masked CRC-32C of
the data, all little-endian; masked is ((crc >> 15) | (crc << 17)) + 0xa282ead8.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fieldstone.core.errors import UserError

from .crc32c import crc32c

__all__ = ["Record", "is_tfrecord", "masked", "records"]

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")


@dataclass(frozen=True)
class Record:
    """One record; `data` looks into the mapped file."""

    number: int
    """From 0."""
    offset: int
    """Of `data` in the file, bytes."""
    data: memoryview


def masked(checksum: int) -> int:
    """TensorFlow's disguise of a CRC that is stored beside what it is of."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def is_tfrecord(path: Path) -> bool:
    """Whether the file starts with a length and the checksum of that length."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD.size)
    except OSError:
        return False
    return len(head) == _HEAD.size and masked(crc32c(head[:8])) == _HEAD.unpack(head)[1]


def records(
    path: Path,
    *,
    verify: bool = True,  # False: lengths only, for a file that was read through before
) -> Iterator[Record]:
    """Every record of `path` in its order. UserError that names the file and the record for what does not match or is cut short."""
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path}: the file is empty; copy it again")
    with open(path, "rb") as file:
        # not closed by hand: frames look into it, and it goes with the last of them
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    at, number = 0, 0
    while at < size:
        if size - at < _HEAD.size:
            raise UserError(_cut(path, number, at, at + _HEAD.size, size))
        length, checksum = _HEAD.unpack_from(whole, at)
        if masked(crc32c(whole[at : at + 8])) != checksum:
            raise UserError(
                f"{path}: record {number} at byte {at}: the checksum of its length ({length}) does not match; "
                "the file is damaged or no TFRecord, copy it again"
            )
        start, end = at + _HEAD.size, at + _HEAD.size + length
        if end + _TAIL.size > size:
            raise UserError(_cut(path, number, at, end + _TAIL.size, size))
        data = whole[start:end]
        if verify and masked(crc32c(data)) != _TAIL.unpack_from(whole, end)[0]:
            raise UserError(
                f"{path}: record {number} at byte {at}: the checksum of its {length} bytes does not match; "
                "the file is damaged, copy it again"
            )
        yield Record(number, start, data)
        at, number = end + _TAIL.size, number + 1


def _cut(path: Path, number: int, at: int, needed: int, size: int) -> str:
    return f"{path}: record {number} at byte {at} ends at byte {needed} and the file at {size}; it is cut short, copy it again"
