"""Calibration files of KITTI's kind: lines of a key, a colon and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fieldstone.core.errors import UserError

__all__ = ["keyed_lines", "numbers_of"]


def keyed_lines(path: Path) -> dict[str, list[str]]:
    """Key to words of every line "key: words". UserError if the file cannot be read."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); the data set's calibration belongs to it"
        ) from error
    return {
        key.strip(): rest.split()
        for key, colon, rest in (line.partition(":") for line in text.splitlines())
        if colon
    }


def numbers_of(words: list[str], count: int, where: str) -> np.ndarray:
    """`count` finite numbers (float64). UserError that says `where` for anything else."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError as error:
        raise UserError(f"{where}: {error}; {count} numbers are needed") from error
    if len(values) != count or not np.isfinite(values).all():
        raise UserError(f"{where}: {len(values)} numbers, {count} finite ones are needed")
    return values
