"""Protocol buffers without a schema: the fields of a message by their numbers (protobuf.dev, "Encoding").

Enough for messages whose numbers are known: varints, 32 and 64 bits, and bytes, packed or not. Groups, which proto3 and the data sets
read here do not use, are refused.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Message", "WireError", "packed_int32"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """Bytes that are no protocol buffer; says where in the message."""


class Message:
    """A message's fields as they stand in its bytes, which are not copied.

    Every access gives a default for what is absent, as proto2 does. WireError for bytes that are no message, and for a field of another type.
    """

    def __init__(
        self,
        data: memoryview | bytes,
        offset: int = 0,  # of `data` in whatever holds it
    ) -> None:
        self._data, self.offset = memoryview(data), offset
        self._fields: dict[int, list[tuple[int, int, int]]] = {}  # number -> (type, start, end or value)
        at, size = 0, len(self._data)
        while at < size:
            key, at = _varint(self._data, at)
            kind, number = key & 7, key >> 3
            start = at
            if kind == _VARINT:
                value, at = _varint(self._data, at)
                self._fields.setdefault(number, []).append((kind, start, value))
                continue
            if kind == _BYTES:
                length, start = _varint(self._data, at)
                at = start + length
            elif kind in (_FIXED64, _FIXED32):
                at = start + (8 if kind == _FIXED64 else 4)
            else:
                raise WireError(f"field {number} at byte {start} has wire type {kind}")
            if number == 0 or at > size:
                raise WireError(f"field {number} at byte {start} ends at {at} of {size}")
            self._fields.setdefault(number, []).append((kind, start, at))

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def _of(self, number: int, kind: int) -> list[tuple[int, int]]:
        found = self._fields.get(number, [])
        if any(each[0] != kind for each in found):
            raise WireError(f"field {number} has wire type {found[0][0]}, {kind} is wanted")
        return [each[1:] for each in found]

    def spans(self, number: int) -> list[tuple[int, int]]:
        """(offset, length) of every value of a bytes field, in whatever holds the message."""
        return [(self.offset + start, end - start) for start, end in self._of(number, _BYTES)]

    def bytes(self, number: int) -> memoryview:
        """The last value of a bytes field (protobuf's rule for a field that is given twice); empty without one."""
        found = self._of(number, _BYTES)
        return self._data[found[-1][0] : found[-1][1]] if found else memoryview(b"")

    def text(self, number: int) -> str:
        return str(self.bytes(number), "utf-8", "replace")

    def messages(self, number: int) -> list[Message]:
        return [
            Message(self._data[start:end], self.offset + start) for start, end in self._of(number, _BYTES)
        ]

    def message(self, number: int) -> Message:
        """The last message of that number; one without fields if there is none."""
        found = self._of(number, _BYTES)
        if not found:
            return Message(b"")
        return Message(self._data[found[-1][0] : found[-1][1]], self.offset + found[-1][0])

    def integer(self, number: int, default: int = 0) -> int:
        """int32, int64, enum or bool: two's complement of 64 bits."""
        found = self._of(number, _VARINT)
        value = found[-1][1] if found else default
        return value - (1 << 64) if value >> 63 else value

    def double(self, number: int, default: float = 0.0) -> float:
        values = self.doubles(number)
        return float(values[-1]) if len(values) else default

    def single(self, number: int, default: float = 0.0) -> float:
        values = self.singles(number)
        return float(values[-1]) if len(values) else default

    def doubles(self, number: int) -> np.ndarray:
        """(n,) float64 of a repeated double, packed or one by one."""
        return self._numbers(number, _FIXED64, "<f8")

    def singles(self, number: int) -> np.ndarray:
        """(n,) float32 of a repeated float, packed or one by one."""
        return self._numbers(number, _FIXED32, "<f4")

    def integers(self, number: int) -> np.ndarray:
        """(n,) int32 of a repeated int32, packed or one by one."""
        parts = [
            packed_int32(self._data[each[1] : each[2]])
            if each[0] == _BYTES
            else np.array([each[2] & 0xFFFFFFFF], np.uint32).view(np.int32)
            for each in self._fields.get(number, [])
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def _numbers(self, number: int, kind: int, dtype: str) -> np.ndarray:
        parts = []
        for found, start, end in self._fields.get(number, []):
            if found not in (kind, _BYTES) or (end - start) % np.dtype(dtype).itemsize:
                raise WireError(f"field {number} at byte {start} holds no numbers of type {dtype}")
            parts.append(np.frombuffer(self._data[start:end], dtype))
        return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where the next thing starts."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError(f"the message ends inside a number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise WireError(f"a number of more than ten bytes at byte {at}")


def packed_int32(data: memoryview) -> np.ndarray:
    """(n,) int32 of varints that follow each other; of more than 32 bits the lower 32, as protobuf has it."""
    stored = np.frombuffer(data, np.uint8)
    if not len(stored):
        return np.zeros(0, np.int32)
    last = np.flatnonzero(stored < 0x80)
    if not len(last) or last[-1] != len(stored) - 1:
        raise WireError("a packed field ends inside a number")
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() >= 10:
        raise WireError("a packed field has a number of more than ten bytes")
    place = np.arange(len(stored)) - np.repeat(first, last - first + 1)
    parts = (stored & np.uint8(0x7F)).astype(np.uint64) << (7 * place).astype(np.uint64)
    parts[place > 4] = 0  # beyond 32 bits: the sign's repetition
    return (np.add.reduceat(parts, first) & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)
