"""Text that comes from outside: bounded, decoded leniently, numbers checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["numbers", "read_text"]

_LARGEST = 512 << 20


def read_text(path: Path) -> str:
    """The file's text (UTF-8, else Latin-1). Raises UserError if it is missing, larger than 512 MB or binary."""
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise UserError(f"{path}: {size >> 20} MB; motion files up to {_LARGEST >> 20} MB are read")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if b"\0" in data[:4096]:
        raise UserError(f"{path}: is a binary file, expected text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def numbers(path: Path, where: str, tokens: list[str], count: int | None = None) -> np.ndarray:
    """`tokens` as finite float64, `count` of them if given; `where` names the place in a UserError."""
    if count is not None and len(tokens) != count:
        raise UserError(f"{path}: {where}: expected {count} numbers, found {len(tokens)}")
    try:
        values = np.array(tokens, np.float64)
    except ValueError as error:
        raise UserError(f"{path}: {where}: expected numbers, found something else ({error})") from None
    if not np.isfinite(values).all():
        raise UserError(f"{path}: {where}: found a value that is not finite")
    return values
