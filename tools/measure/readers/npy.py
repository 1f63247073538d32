"""NumPy's .npy and .npz. Arrays of Python objects are refused: they would run code."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

from .raw import MOST_POINTS, Raw, columns

__all__ = ["read"]


def read(path: Path) -> Raw:
    """(n, 3), (n, 6) with normals, organised (h, w, 3), or a structured array with fields x, y, z.

    A .npz has these as "points" (or its only array), beside "normals", "colours" and "sigma". Raises `UserError`.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _from_array(path, loaded)
        with loaded:
            names = list(loaded.files)
            sizes = {info.filename: info.file_size for info in loaded.zip.infolist()}
            if sum(sizes.values()) > MOST_POINTS * 72:
                raise UserError(f"{path}: unpacks to {sum(sizes.values())} bytes, more than we read")
            name = "points" if "points" in names else names[0] if len(names) == 1 else None
            if name is None:
                raise UserError(f"{path}: arrays {names}; one of them must be called points")
            raw = _from_array(path, loaded[name])
            for part in ("normals", "colours", "sigma"):
                if part in names:
                    setattr(raw, part, loaded[part])
            return raw
    except (ValueError, EOFError, zipfile.BadZipFile, SyntaxError) as error:
        raise UserError(f"{path}: not a NumPy file of plain numbers ({error})") from error


def _from_array(path: Path, array: np.ndarray) -> Raw:
    if array.dtype.names:
        table = {name: array[name].ravel() for name in array.dtype.names}
        points = columns(table, ("x", "y", "z"))
        if points is None:
            raise UserError(f"{path}: fields {list(array.dtype.names)}; x, y and z are needed")
        return Raw(points=points, normals=columns(table, ("nx", "ny", "nz")))
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: an array of {array.dtype}; give numbers")
    if array.ndim == 2 and array.shape[1] == 6:
        return Raw(points=array[:, :3], normals=array[:, 3:])
    if array.ndim not in (2, 3) or array.shape[-1] != 3:
        raise UserError(
            f"{path}: an array of shape {array.shape}; give (n, 3), (n, 6) with normals, or (h, w, 3)"
        )
    return Raw(points=array)
