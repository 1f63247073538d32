"""PCD, the Point Cloud Library's format: ascii, binary and binary_compressed (PCL documentation, "The PCD file format")."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .ply import ascii_table
from .raw import MOST_POINTS, Raw, columns

__all__ = ["read"]

_LONGEST_HEADER = 1 << 14
_IDENTITY = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def read(path: Path) -> Raw:
    """Points, and normals and colours where present; organised (h, w, 3) when the header's HEIGHT is above 1.

    Coordinates stay in the sensor's frame: a VIEWPOINT other than the identity is reported, not applied, as PCL does.
    Raises `UserError` for a header that contradicts itself or the file's size.
    """
    data = path.read_bytes()
    match = re.search(rb"(?:^|\n)DATA[ \t]+(\w+)[ \t]*\r?\n", data[:_LONGEST_HEADER])
    if match is None:
        raise UserError(f"{path}: not a PCD file (no DATA line in its first {_LONGEST_HEADER} bytes)")
    header = {}
    for line in data[: match.start()].decode("latin-1").splitlines():
        words = line.split("#")[0].split()
        if words:
            header[words[0].upper()] = words[1:]
    names, dtype, count, shape = _layout(path, header)
    mode, start = match[1].decode().lower(), match.end()
    if mode == "ascii":
        widths = [int(np.prod(dtype[i].shape, dtype=int)) for i in range(len(names))]
        lines = data[start:].decode("latin-1").splitlines()[:count]
        if len(lines) < count:
            raise UserError(f"{path}: the header promises {count} points, but {len(lines)} lines follow")
        values = ascii_table(path, lines, sum(widths))
        at = np.concatenate([[0], np.cumsum(widths)])
        table = {name: values[:, at[i]] for i, name in enumerate(names)}
    elif mode == "binary":
        if start + count * dtype.itemsize > len(data):
            raise UserError(
                f"{path}: the header promises {count} points of {dtype.itemsize} bytes, but only "
                f"{len(data) - start} bytes follow; the file is cut short"
            )
        rows = np.frombuffer(data, dtype, count, start)
        table = {name: rows[name] for name in names}
    elif mode == "binary_compressed":
        table = _compressed(path, data[start:], names, dtype, count)
    else:
        raise UserError(f"{path}: PCD data of kind {mode!r}; ascii, binary and binary_compressed are known")
    table = {name: column if column.ndim == 1 else column[:, 0] for name, column in table.items()}
    points = columns(table, ("x", "y", "z"))
    try:
        viewpoint = [float(v) for v in header.get("VIEWPOINT", _IDENTITY)]
    except ValueError as error:
        raise UserError(f"{path}: the PCD header is damaged (VIEWPOINT: {error})") from error
    notes = (
        ()
        if viewpoint == _IDENTITY
        else (f"VIEWPOINT {viewpoint} is not applied: points stay in the sensor's frame",)
    )
    return Raw(
        points=points if shape is None else points.reshape(*shape, 3),
        normals=columns(table, ("normal_x", "normal_y", "normal_z")),
        colours=_colours(table),
        notes=notes,
    )


def _layout(path: Path, header: dict) -> tuple[list[str], np.dtype, int, tuple[int, int] | None]:
    """Field names (padding renamed apart), the dtype of one point, the number of points, (h, w) if organised."""
    try:
        names = header["FIELDS"]
        sizes = [int(v) for v in header["SIZE"]]
        kinds = [v.lower() for v in header["TYPE"]]
        counts = [int(v) for v in header.get("COUNT", ["1"] * len(names))]
        width, height = int(header["WIDTH"][0]), int(header.get("HEIGHT", ["1"])[0])
        count = int(header.get("POINTS", [str(width * height)])[0])
        if not len(names) == len(sizes) == len(kinds) == len(counts):
            raise UserError(
                f"{path}: the PCD header has {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE, {len(counts)} COUNT"
            )
        if min(counts) < 1 or max(counts) > 4096:
            raise UserError(f"{path}: PCD COUNT {counts} is out of range")
        if not all(k in ("f", "i", "u") and s in (1, 2, 4, 8) for k, s in zip(kinds, sizes)):
            raise UserError(
                f"{path}: PCD TYPE {kinds} of SIZE {sizes}: F, I or U of 1, 2, 4 or 8 bytes are known"
            )
        names = [f"{name}#{i}" if name == "_" else name for i, name in enumerate(names)]
        dtype = np.dtype([(n, f"<{k}{s}", (c,)) for n, k, s, c in zip(names, kinds, sizes, counts)])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"{path}: the PCD header is damaged ({type(error).__name__}: {error})") from error
    if not 0 <= count <= MOST_POINTS or width * height != count:
        raise UserError(f"{path}: PCD WIDTH {width} x HEIGHT {height} does not give POINTS {count}")
    if not {"x", "y", "z"} <= set(names):
        raise UserError(f"{path}: PCD fields are {names}; x, y and z are needed")
    return names, dtype, count, (height, width) if height > 1 else None


def _compressed(
    path: Path, body: bytes, names: list[str], dtype: np.dtype, count: int
) -> dict[str, np.ndarray]:
    """Compressed data are stored field by field, not point by point."""
    from .lzf import decompress

    if len(body) < 8:
        raise UserError(f"{path}: the compressed data are cut short")
    packed, size = (int(v) for v in np.frombuffer(body, "<u4", 2))
    if size != count * dtype.itemsize or packed > len(body) - 8:
        raise UserError(
            f"{path}: compressed data of {packed} bytes for {size} do not fit {count} points of {dtype.itemsize} bytes "
            f"({len(body) - 8} bytes follow)"
        )
    data = decompress(body[8 : 8 + packed], size)
    if data is None:
        raise UserError(f"{path}: the compressed data are damaged")
    table, start = {}, 0
    for i, name in enumerate(names):
        table[name] = np.frombuffer(data, dtype[i].base, count * int(np.prod(dtype[i].shape)), start).reshape(
            count, -1
        )
        start += count * dtype[i].itemsize
    return table


def _colours(table: dict[str, np.ndarray]) -> np.ndarray | None:
    """PCL packs red, green and blue in the bits of one float or integer."""
    packed = table.get("rgb", table.get("rgba"))
    if packed is None:
        return None
    if (
        packed.dtype.kind == "f" and packed.dtype.itemsize == 8
    ):  # from text: the number is the float, or the integer
        as_float = packed.astype(np.float32)
        bits = (
            np.where(packed >= 1, packed, 0).astype(np.uint32)
            if (packed >= 1).any()
            else as_float.view(np.uint32)
        )
    elif packed.dtype.kind == "f":
        bits = np.ascontiguousarray(packed.astype("<f4")).view(np.uint32)
    else:
        bits = packed.astype(np.uint32)
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=1).astype(np.uint8)
