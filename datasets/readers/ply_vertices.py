"""All that a .ply says of its vertices, whatever the properties are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["read_vertices"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_LONGEST_HEADER = 1 << 16


def read_vertices(path: Path) -> np.ndarray:
    """A structured array, one field a property, of the element "vertex"; binary files are mapped, not read.

    UserError for a damaged header, a vertex element that is not the first or has lists, and a file shorter than its header says.
    """
    with open(path, "rb") as file:
        start = file.read(_LONGEST_HEADER)
    end = start.find(b"end_header")
    if not start.startswith(b"ply") or end < 0:
        raise UserError(f"{path}: no .ply header; copy the file again")
    first = start.find(b"\n", end) + 1
    order, count, fields = _parsed(path, start[:end].decode("ascii", "replace"))
    if order:
        dtype = np.dtype([(name, order + kind) for name, kind in fields])
        wanted = first + count * dtype.itemsize
        if path.stat().st_size < wanted:
            raise UserError(
                f"{path}: {path.stat().st_size} bytes, {wanted} are needed for {count} vertices; "
                "the file is cut short, copy it again"
            )
        if count == 0:
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, "r", first, (count,))
    dtype = np.dtype(fields)
    with open(path, "rb") as file:
        file.seek(first)
        try:
            stored = np.loadtxt(file, dtype, max_rows=count, ndmin=1) if count else np.zeros(0, dtype)
        except ValueError as error:
            raise UserError(f"{path}: vertices cannot be read ({str(error)[:150]})") from error
    if len(stored) != count:
        raise UserError(f"{path}: {len(stored)} of {count} vertices; the file is cut short, copy it again")
    return stored


def _parsed(path: Path, header: str) -> tuple[str, int, list[tuple[str, str]]]:
    """Byte order ("" for text), number of vertices, and their properties."""
    order, count, fields, element = None, None, [], None
    for line in header.splitlines()[1:]:
        words = line.split()
        if words[:1] == ["format"] and len(words) > 1:
            order = _ORDERS.get(words[1])
        elif words[:1] == ["element"] and len(words) == 3:
            element = words[1]
            if count is None and element != "vertex":
                raise UserError(f"{path}: the .ply starts with element {element}, vertex is needed first")
            if element == "vertex":
                count = int(words[2]) if words[2].isdigit() else None
        elif words[:1] == ["property"] and element == "vertex":
            if len(words) != 3 or words[1] not in _TYPES:
                raise UserError(
                    f"{path}: vertex property {' '.join(words[1:])} is not read; needed: one number"
                )
            fields.append((words[2], _TYPES[words[1]]))
    if order is None or count is None or len({name for name, _ in fields}) != len(fields):
        raise UserError(f"{path}: the .ply header has no format, no vertices, or a property twice")
    missing = {"x", "y", "z"} - {name for name, _ in fields}
    if missing:
        raise UserError(f"{path}: vertices have no {', '.join(sorted(missing))}")
    return order, count, fields
