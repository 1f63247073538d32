"""Numeric .npz files from outside: bounded, no objects, every array checked when it is asked for."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["NumberArchive"]

_LARGEST = 2 << 30


class NumberArchive:
    """An open .npz whose arrays are decoded one at a time. A context manager.

    Raises UserError for what is not an .npz and for one that unpacks to more than 2 GB. Keys that are never asked for are
    never decoded, so an object array among them does no harm.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                size = sum(entry.file_size for entry in archive.infolist())
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path}: is not a readable .npz ({error})") from error
        if size > _LARGEST:
            raise UserError(f"{self.path}: unpacks to {size >> 20} MB; up to {_LARGEST >> 20} MB are read")
        self._file = np.load(self.path, allow_pickle=False)

    def __enter__(self) -> NumberArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._file.files

    def names(self) -> list[str]:
        return sorted(self._file.files)

    def array(
        self,
        key: str,
        shape: tuple[int | None, ...],  # None: any length
        *,
        missing: bool = False,  # NaN allowed, for values that were not observed
    ) -> np.ndarray:
        """The array `key` as float64 (integers and booleans keep their dtype), its shape checked, finite."""
        value = self._raw(key)
        if value.dtype.kind not in "fiub":
            raise UserError(f"{self.path}: {key}: expected numbers, found dtype {value.dtype}")
        if value.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, value.shape)):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise UserError(f"{self.path}: {key}: expected shape ({wanted}), found {value.shape}")
        if value.dtype.kind == "f":
            value = value.astype(np.float64)
            bad = np.isinf(value) if missing else ~np.isfinite(value)
            if bad.any():
                raise UserError(f"{self.path}: {key}: {int(bad.sum())} of {value.size} values are not finite")
        return value

    def text(self, key: str) -> str:
        """The single string stored under `key`."""
        value = self._raw(key)
        if value.dtype.kind not in "US" or value.size != 1:
            raise UserError(f"{self.path}: {key}: expected one string, found {value.dtype} {value.shape}")
        item = value.reshape(-1)[0]
        return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)

    def _raw(self, key: str) -> np.ndarray:
        if key not in self:
            raise UserError(f"{self.path}: expected the key {key}, found {', '.join(self.names()) or 'none'}")
        try:
            return self._file[key]
        except ValueError as error:
            if "pickle" in str(error).lower():
                raise UserError(
                    f"{self.path}: {key} is an object array; objects are never loaded: store numbers"
                ) from None
            raise UserError(f"{self.path}: {key}: damaged ({error})") from error
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{self.path}: {key}: damaged ({error})") from error
