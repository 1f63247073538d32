"""Columns of feature-major arrays, picked in parallel: torch's index_select along the last axis is several times slower."""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

__all__ = ["move_columns", "select_columns"]


@njit(cache=True)
def _move_range(source, index, place, out, first, last):
    for start in range(first, last, 1024):
        stop = min(last, start + 1024)
        for row in range(source.shape[0]):
            for i in range(start, stop):
                out[row, place[i]] = source[row, index[i]]


@njit(parallel=True, cache=True)
def _move(source, index, place, out, workers):
    n = len(index)
    for worker in prange(workers):
        _move_range(source, index, place, out, worker * n // workers, (worker + 1) * n // workers)


def move_columns(
    source: Tensor,  # (k, n) float32, contiguous
    index: Tensor,  # (m,) int64 columns of source
    place: Tensor,  # (m,) int64 columns of out, distinct
    out: Tensor,  # (k, any) float32, contiguous
) -> None:
    """out[:, place] = source[:, index]. Not differentiable."""
    _move(source.detach().numpy(), index.numpy(), place.numpy(), out.numpy(), get_num_threads())


def select_columns(
    source: Tensor,  # (k, n) float32, contiguous
    index: Tensor,  # (m,) int64, in range
) -> Tensor:  # (k, m)
    """source[:, index]. Not differentiable."""
    out = torch.from_numpy(np.empty((source.shape[0], len(index)), np.float32))
    move_columns(source, index, torch.arange(len(index)), out)
    return out
