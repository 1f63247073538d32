"""JSON from outside: bounded, and numbers in it checked for shape and finiteness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["array_of", "read_json"]

_LARGEST = 4 << 30


def read_json(path: Path) -> object:
    """The file's content. Raises UserError if it is missing, larger than 4 GB, or not JSON."""
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise UserError(f"{path}: {size >> 20} MB; up to {_LARGEST >> 20} MB are read")
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error})") from error


def array_of(
    value: object,
    shape: tuple[int | None, ...],  # None: any length
    where: str,  # names file and key in the message
) -> np.ndarray:
    """`value` as finite float64 of `shape`, or a UserError that says what was expected and found."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: expected numbers of shape {_text(shape)}, found {type(value).__name__}"
        ) from None
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape)):
        raise UserError(f"{where}: expected shape {_text(shape)}, found {array.shape}")
    if not np.isfinite(array).all():
        raise UserError(f"{where}: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
