"""Marching on the CPU: each worker walks a range of rays once, appending to buffers of its own.

A table of jumps says whether a cell is occupied and, where it is not, how large a cube round it is empty: few look-ups a ray.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from .marching import Samples
from .occupancy import OccupancyGrid
from .stepping import Stepping

__all__ = ["march"]


@njit(cache=True)
def _steps(t, smallest, cone, t0, t1, largest, growth):
    if t <= t0:
        return t / smallest
    if t <= t1:
        return t0 / smallest + np.log(t / t0) / growth
    return t0 / smallest + np.log(t1 / t0) / growth + (t - t1) / largest


@njit(cache=True)
def _distance(s, smallest, cone, t0, t1, largest, growth):
    if cone == 0 or s * smallest <= t0:
        return s * smallest
    s0 = t0 / smallest
    t = t0 * np.exp(growth * (s - s0))
    if t <= t1:
        return t
    s1 = s0 + np.log(t1 / t0) / growth
    return t1 + (s - s1) * largest


@njit(cache=True)
def _box(ox, oy, oz, dx, dy, dz, low, high):
    """Entry and exit distance of the cube [low, high]^3; entry > exit if the ray misses it."""
    enter, leave = -np.inf, np.inf
    for o, d in ((ox, dx), (oy, dy), (oz, dz)):
        if abs(d) < 1e-12:
            if o < low or o > high:
                return 1.0, 0.0
        else:
            a, b = (low - o) / d, (high - o) / d
            enter = max(enter, min(a, b))
            leave = min(leave, max(a, b))
    return enter, leave


@njit(cache=True)
def _inverse(d):
    return 1.0 / d if d != 0 else np.inf


@njit(cache=True)
def _exit(p, inverse, side):
    """Distance along one axis from p (in cells) to `side`, the border of its cell that the ray leaves through."""
    return (side - p) * inverse if np.isfinite(inverse) else np.inf


@njit(cache=True)
def _march_range(
    origins, directions, skips, near, jitter, first, limit, constants,
    out_distance, out_length, counts, resume, first_ray, last_ray,
):  # fmt: skip
    """Writes the samples of a range of rays one after another; returns how many there are, or were room enough."""
    smallest, cone, t0, t1, largest = constants
    growth = np.log1p(cone)
    cascades, resolution = skips.shape[0], skips.shape[1]
    half = 0.5 * 2.0 ** (cascades - 1)
    capacity = len(out_distance)
    used = 0
    for ray in range(first_ray, last_ray):
        ox, oy, oz = np.float64(origins[ray, 0]), np.float64(origins[ray, 1]), np.float64(origins[ray, 2])
        dx, dy, dz = (
            np.float64(directions[ray, 0]),
            np.float64(directions[ray, 1]),
            np.float64(directions[ray, 2]),
        )
        kx, ky, kz = _inverse(dx), _inverse(dy), _inverse(dz)
        bx, by, bz = np.int64(dx > 0), np.int64(dy > 0), np.int64(dz > 0)
        enter, leave = _box(ox, oy, oz, dx, dy, dz, 0.5 - half, 0.5 + half)
        enter = max(enter, near)
        begun = used
        resume[ray] = np.inf
        if first[ray] >= 0:
            s = np.float64(first[ray])
        elif enter < leave:
            # the lattice is anchored at the camera, so it is the same whatever lies in between
            s = np.ceil(_steps(enter, smallest, cone, t0, t1, largest, growth) - jitter[ray]) + jitter[ray]
        else:
            s = np.inf
        while s < np.inf:
            t = _distance(s, smallest, cone, t0, t1, largest, growth)
            if t >= leave:
                break
            px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
            reach = max(abs(px - 0.5), abs(py - 0.5), abs(pz - 0.5))
            cascade = 0
            side = 0.5
            while reach >= side and cascade < cascades - 1:
                cascade += 1
                side *= 2.0
            step_length = min(max(t * cone, smallest), largest)
            while cascade < cascades - 1 and step_length * resolution > 2.0 * side:
                cascade += 1
                side *= 2.0
            scale = resolution / (2.0 * side)
            cx, cy, cz = (px - 0.5 + side) * scale, (py - 0.5 + side) * scale, (pz - 0.5 + side) * scale
            ix = min(max(int(cx), 0), resolution - 1)
            iy = min(max(int(cy), 0), resolution - 1)
            iz = min(max(int(cz), 0), resolution - 1)
            skip = skips[cascade, ix, iy, iz]
            if skip == 0:
                if used - begun >= limit:
                    resume[ray] = s
                    break
                if (
                    used >= capacity
                ):  # the caller sees a count over its capacity and comes back with more room
                    used += 1
                    s += 1.0
                    continue
                low = _distance(s - 0.5, smallest, cone, t0, t1, largest, growth)
                high = _distance(s + 0.5, smallest, cone, t0, t1, largest, growth)
                out_distance[used] = t
                out_length[used] = high - low
                used += 1
                s += 1.0
            else:
                shift = np.int64(skip) - 1
                ahead = min(
                    _exit(cx, kx, ((ix >> shift) + bx) << shift),
                    _exit(cy, ky, ((iy >> shift) + by) << shift),
                    _exit(cz, kz, ((iz >> shift) + bz) << shift),
                )
                there = t + max(ahead, 0.0) * (2.0 * side) / resolution
                if cone > 0 and cascade < cascades - 1:
                    # not past where steps outgrow the cells of this cascade: there the next one is looked at
                    outgrown = 2.0 * side / (cone * resolution)
                    if t < outgrown:
                        there = min(there, outgrown)
                target = _steps(there, smallest, cone, t0, t1, largest, growth)
                s += max(np.ceil(target - s), 1.0)
        counts[ray] = used - begun
    return used


@njit(parallel=True, cache=True)
def _march(
    origins, directions, skips, near, jitter, first, limit, constants,
    out_distance, out_length, counts, totals, resume,
):  # fmt: skip
    """Writes each worker's samples to its row of out_distance and out_length, and how many there were to totals."""
    rays = origins.shape[0]
    workers = len(totals)
    for worker in prange(workers):
        totals[worker] = _march_range(
            origins, directions, skips, near, jitter, first, limit, constants,
            out_distance[worker], out_length[worker], counts, resume,
            worker * rays // workers, (worker + 1) * rays // workers,
        )  # fmt: skip


@njit(parallel=True, cache=True)
def _gather(origins, directions, starts, in_distance, in_length, ray_of, distance, length, positions):
    """Packs the workers' rows, which hold consecutive ranges of rays, into one array each."""
    rays = origins.shape[0]
    workers = in_distance.shape[0]
    for worker in prange(workers):
        low, high = worker * rays // workers, (worker + 1) * rays // workers
        source = 0
        for ray in range(low, high):
            for target in range(starts[ray], starts[ray + 1]):
                t = in_distance[worker, source]
                ray_of[target] = ray
                distance[target] = t
                length[target] = in_length[worker, source]
                for axis in range(3):
                    positions[axis, target] = origins[ray, axis] + t * directions[ray, axis]
                source += 1


def march(
    origins: Tensor,
    directions: Tensor,
    occupancy: OccupancyGrid,
    stepping: Stepping,
    near: float,
    jitter: Tensor,
    first: Tensor,
    limit: int,
) -> Samples:
    """See `marching.march`."""
    rays = origins.shape[0]
    o, d = origins.detach().contiguous().numpy(), directions.detach().contiguous().numpy()
    workers = get_num_threads()
    capacity = max(1024, min(limit, 64) * (rays // workers + 1))
    counts, totals = np.zeros(rays, np.int64), np.zeros(workers, np.int64)
    resume = np.empty(rays, np.float64)
    while True:
        out_distance = np.empty((workers, capacity), np.float32)
        out_length = np.empty((workers, capacity), np.float32)
        _march(
            o, d, occupancy.skips(), near, jitter.numpy(), first.numpy(), limit,
            stepping.constants(), out_distance, out_length, counts, totals, resume,
        )  # fmt: skip
        if totals.max() <= capacity:
            break
        capacity = int(totals.max())
    starts = np.zeros(rays + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    n = int(starts[-1])
    ray_of = np.empty(n, np.int32)
    distance, length = np.empty(n, np.float32), np.empty(n, np.float32)
    positions = np.empty((3, n), np.float32)
    _gather(o, d, starts, out_distance, out_length, ray_of, distance, length, positions)
    return Samples(
        torch.from_numpy(starts),
        torch.from_numpy(ray_of),
        torch.from_numpy(distance),
        torch.from_numpy(length),
        torch.from_numpy(positions).t(),
        torch.from_numpy(resume),
    )
