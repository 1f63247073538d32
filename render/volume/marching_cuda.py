"""Marching on NVIDIA GPUs, in Triton: one lane walks one ray, and writes down the steps at which it has samples.

If there is room for as many steps of every ray as it may have, one walk does; else the first one counts, and the second goes from the
first sample of a ray to its last. What a sample is - distance, length, position - is worked out afterwards, packed, one lane a sample.
A program is one warp, so that it ends with the longest of its 32 rays and no lane waits for other warps. Empty space is left in
jumps, from a table that says how large a cube round a cell is empty (`occupancy_skips`), as on the CPU.

Steps, distances and cells are worked out in float64 without fused multiply-adds, in the CPU kernel's order: the lattice and the
cells are the reference's but for the last bit of exp and log. The number of samples is the one thing the host waits for.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .marching import Samples
from .occupancy import OccupancyGrid
from .stepping import Stepping

__all__ = ["march"]

_BLOCK = 32
"""Rays of a program that walks."""

_PACKED = 256
"""Samples of a program that packs."""

_ROOM = 1 << 23
"""Steps that are written down at the most, 8 bytes each, before there is a second walk."""

_FAR = 1e300
"""Stands for infinity where an infinity less itself would not be a number."""


@triton.jit
def _to_steps(t, smallest, t0, t1, largest, s0, s1, growth, CONE: tl.constexpr):
    """`Stepping.to_steps`, float64."""
    s = t / smallest
    if CONE:
        middle = s0 + tl.log(tl.maximum(t, t0) / t0) / growth
        far = s1 + (tl.maximum(t, t1) - t1) / largest
        s = tl.where(t <= t0, s, tl.where(t <= t1, middle, far))
    return s


@triton.jit
def _to_distance(s, smallest, t0, t1, largest, s0, s1, growth, CONE: tl.constexpr):
    """`Stepping.to_distance`, float64."""
    near = s * smallest
    t = near
    if CONE:
        middle = t0 * tl.exp(growth * (s - s0))
        far = t1 + (tl.maximum(s, s1) - s1) * largest
        t = tl.where(near <= t0, near, tl.where(middle <= t1, middle, far))
    return t


@triton.jit
def _slab(o, d, half, enter, leave):
    """Entry and exit distance narrowed to the slab of this half width around 0.5 along one axis."""
    parallel = tl.abs(d) < 1e-12
    safe = tl.where(parallel, 1.0, d)
    a, b = (0.5 - half - o) / safe, (0.5 + half - o) / safe
    missed = parallel & (tl.abs(o - 0.5) > half)
    enter = tl.where(parallel, enter, tl.maximum(enter, tl.minimum(a, b)))
    leave = tl.where(parallel, leave, tl.minimum(leave, tl.maximum(a, b)))
    return enter, tl.where(missed, -float("inf"), leave)


@triton.jit
def _cell(p, half, scale, RESOLUTION: tl.constexpr):
    """Place along one axis in cells, and the cell."""
    place = (p - 0.5 + half) * scale
    return place, tl.minimum(tl.maximum(place.to(tl.int32), 0), RESOLUTION - 1)


@triton.jit
def _exit(place, cell, shift, d, inverse):
    """Distance in cells to the border at which a ray leaves the aligned run of 2^shift cells along one axis."""
    border = (((cell >> shift) + (d > 0).to(tl.int32)) << shift).to(tl.float64)
    return tl.where(d != 0, (border - place) * inverse, float("inf"))


@triton.jit(do_not_specialize=["rays", "limit"])
def _walk_kernel(
    origin_ptr,  # (rays, 3)
    direction_ptr,  # (rays, 3)
    skip_ptr,  # (CASCADES, RESOLUTION, RESOLUTION, RESOLUTION) uint8
    jitter_ptr,  # (rays,)
    first_ptr,  # (rays,) float64; in a second walk the step of each ray's first sample
    constant_ptr,  # (9,) float64 of `_constants`
    rays,
    limit,
    start_ptr,  # (rays + 1,) int64; only in a second walk: where samples go, which are as many as it says
    step_ptr,  # float64: (limit, rays), or the packed steps in a second walk; None: not wanted
    count_ptr,  # (rays,) int64, written; this and the next two not in a second walk
    resume_ptr,  # (rays,) float64, written
    entry_ptr,  # (rays,) float64, written: the step of the first sample, or infinity
    CASCADES: tl.constexpr,
    RESOLUTION: tl.constexpr,
    CONE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    ray = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = ray < rays
    ox = tl.load(origin_ptr + ray * 3, mask=valid, other=0.0).to(tl.float64)
    oy = tl.load(origin_ptr + ray * 3 + 1, mask=valid, other=0.0).to(tl.float64)
    oz = tl.load(origin_ptr + ray * 3 + 2, mask=valid, other=0.0).to(tl.float64)
    dx = tl.load(direction_ptr + ray * 3, mask=valid, other=1.0).to(tl.float64)
    dy = tl.load(direction_ptr + ray * 3 + 1, mask=valid, other=1.0).to(tl.float64)
    dz = tl.load(direction_ptr + ray * 3 + 2, mask=valid, other=1.0).to(tl.float64)
    kx, ky, kz = (
        1.0 / tl.where(dx != 0, dx, 1.0),
        1.0 / tl.where(dy != 0, dy, 1.0),
        1.0 / tl.where(dz != 0, dz, 1.0),
    )
    smallest, t0, t1 = tl.load(constant_ptr), tl.load(constant_ptr + 1), tl.load(constant_ptr + 2)
    largest, s0, s1 = tl.load(constant_ptr + 3), tl.load(constant_ptr + 4), tl.load(constant_ptr + 5)
    growth, cone, near = tl.load(constant_ptr + 6), tl.load(constant_ptr + 7), tl.load(constant_ptr + 8)

    outgrow = t0  # where a step is as long as a cell of the finest cascade
    if CONE:
        outgrow = 1.0 / (RESOLUTION * cone)

    box: tl.constexpr = 0.5 * (1 << (CASCADES - 1))
    enter = tl.full([BLOCK], -float("inf"), tl.float64)
    leave = tl.full([BLOCK], float("inf"), tl.float64)
    enter, leave = _slab(ox, dx, box, enter, leave)
    enter, leave = _slab(oy, dy, box, enter, leave)
    enter, leave = _slab(oz, dz, box, enter, leave)
    enter = tl.maximum(enter, near)

    # the lattice is anchored at the camera, so it is the same whatever lies in between
    jitter = tl.load(jitter_ptr + ray, mask=valid, other=0.0).to(tl.float64)
    first = tl.load(first_ptr + ray, mask=valid, other=0.0)
    alive = valid & (enter < leave) & (first < float("inf"))
    s = _to_steps(tl.where(alive, enter, 0.0), smallest, t0, t1, largest, s0, s1, growth, CONE)
    s = tl.ceil(s - jitter) + jitter
    s = tl.where(first >= 0, first, s)
    s = tl.where(alive, s, 0.0)

    used = tl.zeros([BLOCK], tl.int64)
    most = tl.zeros([BLOCK], tl.int64) + limit
    at, stride = (
        ray,
        tl.zeros([BLOCK], tl.int64) + rays,
    )  # of the step written next, and between those of a ray
    resume = tl.full([BLOCK], float("inf"), tl.float64)
    entry = tl.full([BLOCK], float("inf"), tl.float64)
    if start_ptr is not None:
        at, stride = tl.load(start_ptr + ray, mask=valid, other=0), stride * 0 + 1
        most = tl.load(start_ptr + ray + 1, mask=valid, other=0) - at
    while tl.max(alive.to(tl.int32), axis=0) > 0:
        t = _to_distance(s, smallest, t0, t1, largest, s0, s1, growth, CONE)
        alive = alive & (t < leave)
        px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz
        reach = tl.maximum(tl.maximum(tl.abs(px - 0.5), tl.abs(py - 0.5)), tl.abs(pz - 0.5))
        step = tl.minimum(tl.maximum(t * cone, smallest), largest)
        # the finest cascade that holds the position and whose cells are not smaller than a step
        cascade = tl.zeros([BLOCK], tl.int64)
        half = tl.full([BLOCK], 0.5, tl.float64)
        scale = tl.full([BLOCK], RESOLUTION, tl.float64)  # cells in a unit of length
        for k in tl.static_range(CASCADES - 1):
            coarser = (reach >= 0.5 * (1 << k)) | (step * RESOLUTION > 1.0 * (1 << k))
            cascade += coarser.to(tl.int64)
            half = tl.where(coarser, half * 2.0, half)
            scale = tl.where(coarser, scale * 0.5, scale)
        cx, ix = _cell(px, half, scale, RESOLUTION)
        cy, iy = _cell(py, half, scale, RESOLUTION)
        cz, iz = _cell(pz, half, scale, RESOLUTION)
        row = ((cascade * RESOLUTION + ix) * RESOLUTION + iy) * RESOLUTION + iz
        skip = tl.load(skip_ptr + row, mask=alive, other=1).to(tl.int32)
        hit = alive & (skip == 0)
        resume = tl.where(hit & (used >= most), s, resume)
        alive = alive & ((skip != 0) | (used < most))
        hit = hit & alive
        entry = tl.where(hit & (used == 0), s, entry)
        if step_ptr is not None:
            tl.store(step_ptr + at, s, mask=hit)
            at = tl.where(hit, at + stride, at)
        used += hit.to(tl.int64)
        if start_ptr is not None:
            alive = alive & (used < most)
        shift = tl.maximum(skip, 1) - 1
        ahead = tl.minimum(_exit(cx, ix, shift, dx, kx), _exit(cy, iy, shift, dy, ky))
        ahead = tl.maximum(tl.minimum(ahead, _exit(cz, iz, shift, dz, kz)), 0.0)
        there = t + ahead * (2.0 * half) / RESOLUTION
        if CONE:  # not past where steps outgrow the cells of this cascade, and the next one is looked at
            outgrown = 2.0 * half * outgrow
            there = tl.where((cascade < CASCADES - 1) & (t < outgrown), tl.minimum(there, outgrown), there)
        target = _to_steps(there, smallest, t0, t1, largest, s0, s1, growth, CONE)
        jump = tl.maximum(tl.ceil(target - s), 1.0)
        s = tl.where(alive, s + tl.where(hit, 1.0, jump), s)
        alive = alive & (s < float("inf"))
    if start_ptr is None:
        tl.store(count_ptr + ray, used, mask=valid)
        tl.store(resume_ptr + ray, resume, mask=valid)
        tl.store(entry_ptr + ray, entry, mask=valid)


@triton.jit(do_not_specialize=["rays", "total"])
def _pack_kernel(
    origin_ptr,  # (rays, 3)
    direction_ptr,  # (rays, 3)
    constant_ptr,  # (9,) float64
    start_ptr,  # (rays + 1,) int64; None: steps are packed
    step_ptr,  # (limit, rays) or (total,) float64
    ray_ptr,  # (total,) int32
    rays,
    total,
    distance_ptr,  # (total,), from here on written
    length_ptr,  # (total,)
    position_ptr,  # (3, total)
    CONE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = i < total
    ray = tl.load(ray_ptr + i, mask=valid, other=0).to(tl.int64)
    at = i
    if start_ptr is not None:
        at = (i - tl.load(start_ptr + ray, mask=valid, other=0)) * rays + ray
    s = tl.load(step_ptr + at, mask=valid, other=0.0)
    smallest, t0, t1 = tl.load(constant_ptr), tl.load(constant_ptr + 1), tl.load(constant_ptr + 2)
    largest, s0, s1 = tl.load(constant_ptr + 3), tl.load(constant_ptr + 4), tl.load(constant_ptr + 5)
    growth = tl.load(constant_ptr + 6)
    distance = _to_distance(s, smallest, t0, t1, largest, s0, s1, growth, CONE).to(tl.float32)
    low = _to_distance(s - 0.5, smallest, t0, t1, largest, s0, s1, growth, CONE)
    high = _to_distance(s + 0.5, smallest, t0, t1, largest, s0, s1, growth, CONE)
    tl.store(distance_ptr + i, distance, mask=valid)
    tl.store(length_ptr + i, (high - low).to(tl.float32), mask=valid)
    for axis in tl.static_range(3):
        origin = tl.load(origin_ptr + ray * 3 + axis, mask=valid, other=0.0)
        direction = tl.load(direction_ptr + ray * 3 + axis, mask=valid, other=0.0)
        to = position_ptr + tl.cast(total, tl.int64) * axis + i
        tl.store(to, origin + distance * direction, mask=valid)


@lru_cache(maxsize=64)
def _constants(stepping: Stepping, near: float, device: torch.device) -> Tensor:
    """(9,) float64 on the device: smallest, t0, t1, largest, s0, s1, growth, cone, near; Triton passes floats in float32."""
    smallest, cone, t0, t1, largest = stepping.constants()
    growth = math.log1p(cone)
    s0 = s1 = 0.0
    if cone > 0:
        s0 = t0 / smallest
        s1 = s0 + math.log(t1 / t0) / growth if math.isfinite(t1) else _FAR
    values = (smallest, t0, t1, largest, s0, s1, growth, cone, near)
    finite = [min(value, _FAR) for value in values]
    return torch.tensor(finite, dtype=torch.float64, device=device)


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
    """See `marching.march`. Raises `TypeError` for origins or directions that are not float32."""
    if origins.dtype != torch.float32 or directions.dtype != torch.float32:
        raise TypeError(
            f"the cuda back end takes float32, got origins {origins.dtype} and directions {directions.dtype}; "
            "use backend='reference'"
        )
    rays, device = len(origins), origins.device
    origins, directions = origins.detach().contiguous(), directions.detach().contiguous()
    constants = _constants(stepping, float(near), device)
    counts = torch.empty(rays, dtype=torch.int64, device=device)
    resume, entry = (torch.empty(rays, dtype=torch.float64, device=device) for _ in range(2))
    grid = (max(1, triton.cdiv(rays, _BLOCK)),)
    options = {"CONE": stepping.cone > 0, "enable_fp_fusion": False}
    shape = {
        "CASCADES": occupancy.cascades,
        "RESOLUTION": occupancy.resolution,
        "BLOCK": _BLOCK,
        "num_warps": 1,
    }

    def walk(begin: Tensor, most: int, *outputs: Tensor | None) -> None:
        _walk_kernel[grid](
            origins, directions, occupancy.skip_table(), jitter, begin, constants, rays, most, *outputs,
            **shape, **options,
        )  # fmt: skip

    jitter = jitter.contiguous()
    with torch.cuda.device_of(origins):
        steps = None
        if rays * limit <= _ROOM:
            steps = torch.empty(rays * limit, dtype=torch.float64, device=device)
        walk(first.double().contiguous(), limit, None, steps, counts, resume, entry)
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        total = int(starts[-1])
        ray_of = torch.repeat_interleave(
            torch.arange(rays, dtype=torch.int32, device=device), counts, output_size=total
        )
        distance, length = torch.empty(2, total, device=device)
        positions = torch.empty(3, total, device=device)
        if total:
            placed = starts
            if steps is None:
                steps, placed = torch.empty(total, dtype=torch.float64, device=device), None
                walk(entry, limit, starts, steps, None, None, None)
            _pack_kernel[(triton.cdiv(total, _PACKED),)](
                origins, directions, constants, placed, steps, ray_of, rays, total, distance, length, positions,
                BLOCK=_PACKED, **options,
            )  # fmt: skip
    return Samples(starts, ray_of, distance, length, positions.t(), resume)
