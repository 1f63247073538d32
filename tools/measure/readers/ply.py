"""PLY, ascii and binary of both byte orders (Turk 1994, "The PLY Polygon File Format"). Only the vertices are read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .raw import MOST_POINTS, Raw, columns

__all__ = ["ascii_table", "read"]

_LONGEST_HEADER = 1 << 16
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
_UNIT_COMMENT = re.compile(r"^(?:comment|obj_info)\s+units?\s*[:=]?\s*(\S+)\s*$", re.IGNORECASE)
_VIEWPOINT_COMMENT = re.compile(r"^(?:comment|obj_info)\s+viewpoint\s+(.*)$", re.IGNORECASE)


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(name, type, type of the count or None for a scalar)."""

    @property
    def has_list(self) -> bool:
        return any(count is not None for _, _, count in self.properties)

    def dtype(self, order: str) -> np.dtype:
        return np.dtype([(name, order + kind) for name, kind, _ in self.properties])


def read(path: Path) -> Raw:
    """The vertices of a PLY file: x y z, and nx ny nz, red green blue, sigma where present.

    A comment "unit mm" (or m, um, inch) gives the unit, "viewpoint X Y Z" where the sensor stood. Raises `UserError` for a file that is not a PLY, is cut short, or
    promises more than it holds.
    """
    data = path.read_bytes()
    order, elements, unit, viewpoint, start = _header(path, data)
    vertex = next((e for e in elements if e.name == "vertex"), None)
    if vertex is None or not {"x", "y", "z"} <= {name for name, _, _ in vertex.properties}:
        raise UserError(f"{path}: this PLY has no vertices with x, y and z")
    if vertex.has_list:
        raise UserError(f"{path}: the vertices of this PLY have list properties, which no scanner writes")
    if order == "ascii":
        table = _ascii(path, data[start:], elements)
    else:
        for element in elements[: elements.index(vertex)]:
            start = _skip(path, data, start, element, order)
        dtype = vertex.dtype(order)
        if start + vertex.count * dtype.itemsize > len(data):
            raise UserError(
                f"{path}: the header promises {vertex.count} vertices of {dtype.itemsize} bytes, but only "
                f"{max(0, len(data) - start)} bytes follow; the file is cut short"
            )
        rows = np.frombuffer(data, dtype, vertex.count, start)
        table = {name: rows[name] for name in dtype.names}
    colours = columns(table, ("red", "green", "blue"))
    if colours is not None and table["red"].dtype.kind in "iu":
        colours = np.clip(colours, 0, 255).astype(np.uint8)
    return Raw(
        points=columns(table, ("x", "y", "z")),
        normals=columns(table, ("nx", "ny", "nz")),
        colours=colours,
        sigma=table.get("sigma"),
        viewpoint=viewpoint,
        unit=unit,
    )


def _header(
    path: Path, data: bytes
) -> tuple[str, list[_Element], str | None, tuple[float, float, float] | None, int]:
    """Byte order ("<", ">" or "ascii"), the elements, the unit, the viewpoint, and where the data start."""
    end = re.search(rb"(?:^|\n)end_header[ \t]*\r?\n", data[:_LONGEST_HEADER])
    if not re.match(rb"ply\s*\n", data) or end is None:
        raise UserError(
            f"{path}: not a PLY file (no 'ply' ... 'end_header' in its first {_LONGEST_HEADER} bytes)"
        )
    order, unit, viewpoint, elements = None, None, None, []
    for line in data[: end.start()].decode("latin-1").splitlines()[1:]:
        words = line.split()
        if not words:
            continue
        comment, place = _UNIT_COMMENT.match(line.strip()), _VIEWPOINT_COMMENT.match(line.strip())
        if comment:
            unit = comment[1]
        elif place:
            viewpoint = _three_numbers(place[1]) or viewpoint
        elif words[0] in ("comment", "obj_info"):
            continue
        elif words[0] == "format" and len(words) >= 2:
            order = {"ascii": "ascii", "binary_little_endian": "<", "binary_big_endian": ">"}.get(words[1])
        elif words[0] == "element" and len(words) == 3 and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2])))
            if elements[-1].count > MOST_POINTS:
                raise UserError(
                    f"{path}: {words[2]} elements '{words[1]}' are more than the {MOST_POINTS} we read"
                )
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in _TYPES:
            elements[-1].properties.append((words[2], _TYPES[words[1]], None))
        elif words[0] == "property" and elements and len(words) == 5 and words[1] == "list":
            if words[2] not in _TYPES or words[3] not in _TYPES:
                raise UserError(f"{path}: PLY header line {line!r} names an unknown type")
            elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
        else:
            raise UserError(f"{path}: PLY header line {line!r} is not understood")
    if order is None:
        raise UserError(
            f"{path}: the PLY header has no known format line (ascii, binary_little_endian, binary_big_endian)"
        )
    for element in elements:
        names = [name for name, _, _ in element.properties]
        if len(set(names)) < len(names):
            raise UserError(f"{path}: the PLY element '{element.name}' has a property twice")
    return order, elements, unit, viewpoint, end.end()


def _three_numbers(text: str) -> tuple[float, float, float] | None:
    """None where it is a comment about something else."""
    try:
        numbers = tuple(float(word) for word in text.split())
    except ValueError:
        return None
    return numbers if len(numbers) == 3 and all(math.isfinite(number) for number in numbers) else None


def _skip(path: Path, data: bytes, start: int, element: _Element, order: str) -> int:
    """Where the data of `element` end."""
    if not element.has_list:
        return start + element.count * element.dtype(order).itemsize
    for _ in range(element.count):
        for _, kind, count_kind in element.properties:
            many = 1
            if count_kind is not None:
                size = np.dtype(count_kind).itemsize
                if start + size > len(data):
                    raise UserError(f"{path}: the file ends inside the element '{element.name}'")
                many = int(np.frombuffer(data, order + count_kind, 1, start)[0])
                start += size
            start += max(0, many) * np.dtype(kind).itemsize
    return start


def _ascii(path: Path, body: bytes, elements: list[_Element]) -> dict[str, np.ndarray]:
    lines = body.decode("latin-1").splitlines()
    start = 0
    for element in elements:
        if element.name != "vertex":
            start += element.count
            continue
        names = [name for name, _, _ in element.properties]
        chosen = lines[start : start + element.count]
        if len(chosen) < element.count:
            raise UserError(
                f"{path}: the header promises {element.count} vertices, but {len(chosen)} lines follow"
            )
        values = ascii_table(path, chosen, len(names))
        kinds = {name: kind for name, kind, _ in element.properties}
        return {
            name: values[:, i].astype(np.int64) if kinds[name][0] in "iu" else values[:, i]
            for i, name in enumerate(names)
        }
    raise AssertionError("the caller has found the vertices")


def ascii_table(path: Path, lines: list[str], width: int) -> np.ndarray:
    """(len(lines), width) float64 of lines of numbers; "nan" is a number. Raises `UserError` naming the first bad line."""
    try:
        values = np.array(" ".join(lines).split(), dtype=np.float64)
    except ValueError:
        values = None
    if values is None or values.size != len(lines) * width:
        for number, line in enumerate(lines):
            try:
                count = len([float(word) for word in line.split()])
            except ValueError:
                count = -1
            if count != width:
                raise UserError(
                    f"{path}: data line {number + 1} is {line[:60]!r}; {width} numbers belong there"
                )
        raise UserError(f"{path}: its data lines do not hold {width} numbers each")
    return values.reshape(-1, width)
