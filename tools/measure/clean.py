"""Which rows of a point array are points: not NaN, not the zeros of empty pixels, not there twice."""

from __future__ import annotations

import numpy as np

from .bounds_cpu import bounds

__all__ = ["clean_rows"]


def clean_rows(
    points: np.ndarray,  # (n, 3) float64
    *,
    zeros: bool,  # drop rows that are exactly (0, 0, 0)
    duplicates: bool,  # keep only the first of rows that are equal bit for bit
) -> tuple[np.ndarray | None, list[str]]:
    """(n,) bool of the rows to keep, or None when all are, and a line with the count of each kind removed."""
    if not (zeros or duplicates) and bounds(points)[2] == 0:
        return None, []
    keep = np.isfinite(points).all(axis=1)
    notes = _note([], len(points) - int(keep.sum()), "without finite coordinates")
    if zeros:
        empty = keep & ~points.any(axis=1)
        notes = _note(notes, int(empty.sum()), "at exactly (0, 0, 0)")
        keep &= ~empty
    if duplicates:
        again = _repeated(points, keep)
        notes = _note(notes, len(again), "that repeat another exactly")
        keep[again] = False
    return (None if keep.all() else keep), notes


def _repeated(points: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Indices of the kept rows that equal an earlier kept row.

    Rows are sorted by a 64-bit mix of their bits, which settles the usual case (no two alike) with one sort of integers;
    only rows whose mixes collide are compared themselves.
    """
    indices = np.flatnonzero(keep)
    bits = (points[indices] + 0.0).view(np.uint64)  # adding zero makes -0.0 equal to 0.0
    mix = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    for column in (1, 2):
        mix ^= mix >> np.uint64(29)
        mix = (mix + bits[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
    ordered = np.sort(mix)
    collide = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(collide):
        return np.zeros(0, np.int64)
    suspects = np.flatnonzero(np.isin(mix, collide))
    _, first = np.unique(bits[suspects], axis=0, return_index=True)
    again = np.ones(len(suspects), bool)
    again[first] = False
    return indices[suspects[again]]


def _note(notes: list[str], count: int, what: str) -> list[str]:
    return [*notes, f"{count} points {what} removed"] if count else notes
