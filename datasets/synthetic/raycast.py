"""Compiled loops over rays and points of a synthetic scene: sphere tracing, normals, shading, visibility.

All arrays are float64 in the scene's own axes and unit. Rows are independent and dealt to the threads by
turns (neighbouring rays cost alike, so blocks of them would not), hence results do not depend on the thread
count.

Sphere tracing: Hart, "Sphere tracing: a geometric method for the antialiased ray tracing of implicit
surfaces", The Visual Computer 12 (1996).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from .materials import light_at, shade
from .shapes import body_count, body_distance, box_interval, scene_distance

__all__ = ["crossings", "distances", "gradients", "pixel_colours", "seen_from", "shade_points", "trace"]

_LANES = 64
_HIT = 1e-6
# A ray that took this many steps skims along a surface; the wider reach keeps it from creeping for ever.
_SKIMS, _SKIMMING_HIT = 128, 2e-5


@njit(cache=True, error_model="numpy")
def _body_hit(
    t: np.ndarray,
    body: int,
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    along: float,
    leave: float,
) -> float:
    """Distance to the first surface of one body along a ray between `along` and `leave`, or infinity."""
    steps = 0
    while along <= leave:
        distance = body_distance(t, body, ox + along * dx, oy + along * dy, oz + along * dz)
        if distance < (_HIT if steps < _SKIMS else _SKIMMING_HIT):
            return along
        along += distance
        steps += 1
    return np.inf


@njit(cache=True, error_model="numpy")
def _first_hit(
    t: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float
) -> tuple[float, int]:
    """Distance to the first surface along one ray, or infinity, and the body hit.

    Each body whose box the ray meets is traced by itself, which needs far fewer distances than their union.
    """
    best, hit = np.inf, 0
    for body in range(body_count(t)):
        enter, leave = box_interval(t, body, ox, oy, oz, dx, dy, dz, 0.0)
        along = _body_hit(t, body, ox, oy, oz, dx, dy, dz, enter, min(leave, best))
        if along < best:
            best, hit = along, body
    return best, hit


@njit(cache=True, error_model="numpy")
def _pixel_hits(t: np.ndarray, o: np.ndarray, d: np.ndarray, best: np.ndarray, hit: np.ndarray) -> None:
    """`_first_hit` for the k rays of a pixel, d (k, 3) from one origin o (3,): into best (k,) and hit (k,).

    They go together, as a thin cone, as long as the cone is free; then each by itself.
    """
    count = len(d)
    x = y = z = 0.0
    for k in range(count):
        x, y, z = x + d[k, 0], y + d[k, 1], z + d[k, 2]
        best[k], hit[k] = np.inf, 0
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    spread = 0.0
    for k in range(count):
        spread = max(spread, math.sqrt((d[k, 0] - x) ** 2 + (d[k, 1] - y) ** 2 + (d[k, 2] - z) ** 2))
    # The cone's radius where it leaves the scene, which lies within a ball of radius sqrt(3) round the
    # origin.
    widest = spread * (math.sqrt(o[0] ** 2 + o[1] ** 2 + o[2] ** 2) + 1.8)
    for body in range(body_count(t)):
        along, leave = box_interval(t, body, o[0], o[1], o[2], x, y, z, widest)
        while along <= leave:
            distance = body_distance(t, body, o[0] + along * x, o[1] + along * y, o[2] + along * z)
            free = distance - spread * along
            if free <= spread * along:
                break
            along += free
        if along > leave:
            continue
        for k in range(count):
            end = min(leave + widest, best[k])
            reached = _body_hit(t, body, o[0], o[1], o[2], d[k, 0], d[k, 1], d[k, 2], along, end)
            if reached < best[k]:
                best[k], hit[k] = reached, body


@njit(cache=True, parallel=True, error_model="numpy")
def trace(
    tables: np.ndarray,
    origins: np.ndarray,  # (n, 3)
    directions: np.ndarray,  # (n, 3) unit
) -> tuple[np.ndarray, np.ndarray]:
    """First hit of each ray: distance (n,), infinite where it misses, and body (n,) int64, 0 there."""
    count = len(origins)
    along = np.empty(count)
    bodies = np.zeros(count, np.int64)
    for lane in prange(_LANES):
        for ray in range(lane, count, _LANES):
            along[ray], bodies[ray] = _first_hit(
                tables,
                origins[ray, 0],
                origins[ray, 1],
                origins[ray, 2],
                directions[ray, 0],
                directions[ray, 1],
                directions[ray, 2],
            )
    return along, bodies


@njit(cache=True, parallel=True, error_model="numpy")
def distances(tables: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance (n,) of points (n, 3) to the scene, and the body (n,) int64 each is nearest to."""
    count = len(points)
    result = np.empty(count)
    bodies = np.empty(count, np.int64)
    for lane in prange(_LANES):
        for i in range(lane, count, _LANES):
            result[i], bodies[i] = scene_distance(tables, points[i, 0], points[i, 1], points[i, 2])
    return result, bodies


@njit(cache=True, error_model="numpy")
def _gradient(t: np.ndarray, body: int, point: np.ndarray, gradient: np.ndarray) -> None:
    """Central differences; the step is the best for float64 and lengths near one."""
    step = 6e-6
    x, y, z = point[0], point[1], point[2]
    gradient[0] = body_distance(t, body, x + step, y, z) - body_distance(t, body, x - step, y, z)
    gradient[1] = body_distance(t, body, x, y + step, z) - body_distance(t, body, x, y - step, z)
    gradient[2] = body_distance(t, body, x, y, z + step) - body_distance(t, body, x, y, z - step)
    for axis in range(3):
        gradient[axis] /= 2.0 * step


@njit(cache=True, parallel=True, error_model="numpy")
def gradients(tables: np.ndarray, points: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """Gradient (n, 3) of the distance of body `bodies[i]` at each point; shorter than 1 where it blends."""
    result = np.empty_like(points)
    for lane in prange(_LANES):
        for i in range(lane, len(points), _LANES):
            _gradient(tables, bodies[i], points[i], result[i])
    return result


@njit(cache=True, parallel=True, error_model="numpy")
def shade_points(
    tables: np.ndarray,
    materials: np.ndarray,
    bodies: np.ndarray,  # (n,) int64
    points: np.ndarray,  # (n, 3) on the surface
    normals: np.ndarray,  # (n, 3) unit
    directions: np.ndarray,  # (n, 3) unit, looking along
) -> np.ndarray:
    """Linear-light colour (n, 3)."""
    colours = np.empty_like(points)
    for lane in prange(_LANES):
        for i in range(lane, len(points), _LANES):
            p, n = points[i], normals[i]
            sun, openness = light_at(tables, p[0], p[1], p[2], n[0], n[1], n[2])
            shade(tables, materials, bodies[i], p, n, directions[i], sun, openness, colours[i])
    return colours


@njit(cache=True, parallel=True, error_model="numpy")
def pixel_colours(
    tables: np.ndarray,
    materials: np.ndarray,
    origins: np.ndarray,  # (n, 3)
    directions: np.ndarray,  # (n, k, 3) unit: k rays for each of n pixels
) -> np.ndarray:
    """Mean of the linear-light colour over a pixel's rays that hit, and the share that hit: (n, 4).

    Rays of one pixel that meet the same body with nearly the same normal share how much light arrives there,
    which costs most and varies slowly; texture and angles are each ray's own.
    """
    result = np.zeros((len(origins), 4))
    for lane in prange(_LANES):
        point, normal, lit_normal, colour = np.empty(3), np.empty(3), np.zeros(3), np.empty(3)
        reached, met = np.empty(directions.shape[1]), np.empty(directions.shape[1], np.int64)
        for pixel in range(lane, len(origins), _LANES):
            lit_body, lit_along, sun, openness, hits = -1, 0.0, 0.0, 0.0, 0
            o = origins[pixel]
            _pixel_hits(tables, o, directions[pixel], reached, met)
            for k in range(len(reached)):
                d, along, body = directions[pixel, k], reached[k], met[k]
                if along == np.inf:
                    continue
                for axis in range(3):
                    point[axis] = o[axis] + along * d[axis]
                _gradient(tables, body, point, normal)
                length = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
                alike = 0.0
                for axis in range(3):
                    normal[axis] /= length
                    alike += normal[axis] * lit_normal[axis]
                if body != lit_body or alike < 0.98 or abs(along - lit_along) > 0.01 * along:
                    sun, openness = light_at(
                        tables, point[0], point[1], point[2], normal[0], normal[1], normal[2]
                    )
                    lit_body, lit_along = body, along
                    lit_normal[:] = normal
                shade(tables, materials, body, point, normal, d, sun, openness, colour)
                hits += 1
                for channel in range(3):
                    result[pixel, channel] += colour[channel]
            if hits > 0:
                for channel in range(3):
                    result[pixel, channel] /= hits
                result[pixel, 3] = hits / len(reached)
    return result


@njit(cache=True, parallel=True, error_model="numpy")
def crossings(
    tables: np.ndarray,
    origins: np.ndarray,  # (n, 3) outside
    directions: np.ndarray,  # (n, 3) unit
    length: float,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """All surface crossings of each line up to `length`, both ways: distances (n, most), their number (n,)."""
    count = len(origins)
    result = np.zeros((count, most))
    found = np.zeros(count, np.int64)
    for lane in prange(_LANES):
        for ray in range(lane, count, _LANES):
            o, d = origins[ray], directions[ray]
            along, leave = 0.0, length
            last = 1.0
            while along < leave and found[ray] < most:
                x, y, z = o[0] + along * d[0], o[1] + along * d[1], o[2] + along * d[2]
                distance, _body = scene_distance(tables, x, y, z)
                if distance * last < 0.0:
                    result[ray, found[ray]] = along
                    found[ray] += 1
                last = distance
                # A least step carries the march through the surface; chords shorter than it are missed.
                along += max(abs(distance), 1e-4)
    return result, found


@njit(cache=True, parallel=True, error_model="numpy")
def seen_from(tables: np.ndarray, points: np.ndarray, eyes: np.ndarray, slack: float) -> np.ndarray:
    """Whether each surface point (n, 3) is in sight of its eye (n, 3), but for the last `slack`: (n,) bool."""
    count = len(points)
    result = np.zeros(count, np.bool_)
    for lane in prange(_LANES):
        for i in range(lane, count, _LANES):
            x, y, z = eyes[i, 0], eyes[i, 1], eyes[i, 2]
            dx, dy, dz = points[i, 0] - x, points[i, 1] - y, points[i, 2] - z
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            along, _body = _first_hit(tables, x, y, z, dx / length, dy / length, dz / length)
            result[i] = along >= length - slack
    return result
