"""Columns of feature-major arrays, picked and placed in parallel: torch's index_select along the last axis is several times slower."""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

__all__ = ["move_columns", "places", "select_columns"]


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


@njit(cache=True)
def _count(rays, starts):
    for ray in rays:
        starts[ray + 1] += 1


@njit(cache=True)
def _place(rays, free, place):
    for i in range(len(rays)):
        place[i] = free[rays[i]]
        free[rays[i]] += 1


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


def places(
    waves: list[Tensor],  # each (m,) int64, the ray of every item of a wave
    rays: int,
) -> tuple[Tensor, list[Tensor]]:  # (rays + 1,) int64 starts; for each wave (m,) int64 places
    """Where items go when waves are packed ray by ray, earlier waves first. One pass each: cheaper than sorting or counting in torch."""
    starts = np.zeros(rays + 1, np.int64)
    for wave in waves:
        _count(wave.numpy(), starts)
    np.cumsum(starts, out=starts)
    free, found = starts[:-1].copy(), []
    for wave in waves:
        place = np.empty(len(wave), np.int64)
        _place(wave.numpy(), free, place)
        found.append(torch.from_numpy(place))
    return torch.from_numpy(starts), found
